"""Room for workers, node by node."""

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.cluster import room
from hcmoco_ray.cluster.resources import ResourceRequest, count_fitting


@pytest.mark.parametrize(
    ("node", "bundle", "fitting"),
    [
        ({"CPU": 4}, {"CPU": 2}, 2),
        ({"CPU": 3}, {"CPU": 2}, 1),
        ({"CPU": 1}, {"CPU": 2}, 0),
        ({"CPU": 0.9}, {"CPU": 0.3}, 3),  # 0.9 // 0.3 is 2 in floating point
        ({"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 1}, 1),
        ({"CPU": 8}, {"CPU": 2, "GPU": 1}, 0),
        ({}, {"CPU": 1}, 0),
    ],
)
def test_how_often_a_bundle_fits(node, bundle, fitting):
    assert count_fitting(node, bundle) == fitting


def test_the_sum_over_the_nodes_is_not_room():
    """Two workers of 2 CPUs on three nodes of 1 CPU and one of 2: five CPUs, room for one."""
    nodes = [{"CPU": 1}, {"CPU": 1}, {"CPU": 1}, {"CPU": 2}]
    assert room.missing_room(nodes, {"CPU": 2}, 2) == "1 of 2 workers of 2 CPUs have room"
    assert room.missing_room([*nodes, {"CPU": 2}], {"CPU": 2}, 2) is None


@pytest.mark.parametrize(
    ("cpus", "workers", "fitting"), [(1, 1, 4), (1, 2, 2), (1, 3, 1), (0.5, 3, 2), (2, 2, 1), (3, 2, 0)]
)
def test_trials_of_several_workers_fit_as_a_whole(ray_session, cpus, workers, fitting):
    """On one node of 4 CPUs."""
    assert ResourceRequest("trial", cpus, 0, 1, workers).room() == fitting


def test_a_cluster_that_is_too_small_is_refused_with_what_is_missing(ray_session):
    with pytest.raises(UserError) as mistake:
        room.check_room({"CPU": 2}, 3, 0)
    assert str(mistake.value).startswith(
        "train.workers = 3: 2 of 3 workers of 2 CPUs have room on the cluster's 1 node (4 CPUs each); lower "
    )
    with pytest.raises(UserError, match=r"0 of 1 worker of 1 CPU and 1 GPU have room .*; or set train.gpu=false"):
        room.check_room({"CPU": 1, "GPU": 1}, 1, 0)
    with pytest.raises(
        UserError, match=r"leave 0 CPUs, and 2 tasks that decode, ingest.num_tasks for each worker, need as many"
    ):
        room.check_room({"CPU": 2}, 2, 2)
    room.check_room({"CPU": 2}, 2, 0)
    room.check_room({"CPU": 1}, 2, 2)
    room.check_room({"CPU": 1}, 0, 4)  # this process trains


def test_waiting_for_room_says_what_is_missing_and_ends(ray_session, capsys):
    """All CPUs are held by others: the wait ends with a line that says so."""
    from ray.util.placement_group import placement_group, remove_placement_group

    held = placement_group([{"CPU": 3}])
    try:
        assert held.wait(60)
        with (
            room.reading(1, 0) as readers,
            pytest.raises(UserError, match=r"1 of 2 workers of 1 CPU have room on 1 node \(waited .*\); add nodes or"),
        ):
            room.wait_for_room({"CPU": 1}, [2], readers, minutes=0.12)
        assert capsys.readouterr().err.startswith("waiting for room: 1 of 2 workers of 1 CPU have room on 1 node; add")
        with (
            room.reading(1, 2) as readers,
            pytest.raises(UserError, match="the 2 CPUs of the tasks that decode have no place"),
        ):
            room.wait_for_room({"CPU": 1}, [1], readers, minutes=0)
    finally:
        remove_placement_group(held)
    with room.reading(1, 2) as readers:
        room.wait_for_room({"CPU": 1}, [2], readers, minutes=5)


def test_decoding_tasks_hold_their_cpus_and_give_them_back(ray_session):
    with room.reading(1, 3) as readers:
        assert readers.group.wait(60)
        assert room.missing_room(_free(), {"CPU": 2}, 1)
    room.wait_for_room({"CPU": 2}, [2], readers=room.Readers(), minutes=5)


def test_as_many_workers_as_there_is_room_for(ray_session):
    from ray.util.placement_group import placement_group, remove_placement_group

    held = placement_group([{"CPU": 1}])
    try:
        assert held.wait(60)
        with room.reading(1, 0) as readers:
            assert room.wait_for_room({"CPU": 1}, [4, 2, 1], readers, minutes=5) == 2
            assert room.larger_count({"CPU": 1}, [8, 4, 2, 1], 1) == 4  # three are free beside the one that runs
            assert room.larger_count({"CPU": 1}, [8, 4, 2, 1], 4) is None
    finally:
        remove_placement_group(held)


def _free():
    return list(room.compat.free_resources().values())
