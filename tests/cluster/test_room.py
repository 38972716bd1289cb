"""Clusters that are too small for a while, or whose nodes do not share a folder: what is said; nothing is lost."""

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.helpers.chaos import SAVE_EVERY, Training
from tests.helpers.namespaces import REASON, unavailable
from tests.helpers.nodes import Nodes
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def _pair() -> Iterator[Nodes]:
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Nodes((0, 2, 2)) as nodes:
        yield nodes


@pytest.fixture
def pair(_pair: Nodes) -> Nodes:
    """A head and two nodes of 2 CPUs: no node to spare for two workers."""
    _pair.repair()
    return _pair


def test_a_lost_node_that_nothing_replaces_is_waited_for_in_the_open(pair):
    training = Training(pair, "waits", steps=120)
    training.wait_for_step(SAVE_EVERY)
    lost = training.places()[1]
    pair.kill_node(lost)
    training.program.until(r"^waiting for room: 1 of 2 workers of 2 CPUs have room on 2 nodes; add nodes, or end other")
    pair.start(lost)
    training.program.until(r"^there is room for 2 workers")
    training.end()
    assert re.search(rf"^node {pair.address(lost)} was lost at step \d+; going on from step \d+$", training.said, re.M)


def test_the_wait_ends_and_the_same_command_resumes(pair):
    training = Training(pair, "ends", "train.wait_minutes=0.2", steps=120)
    training.wait_for_step(SAVE_EVERY)
    lost = training.places()[0]
    pair.kill_node(lost)
    assert training.program.wait() == 2
    assert re.search(
        r"^error: no room for the workers: 1 of 2 workers of 2 CPUs have room.*MINUTES", training.said, re.M
    )
    assert "Traceback" not in training.said
    pair.start(lost)
    pair.wait_alive(range(3))
    training.start_again()
    training.end()
    assert re.search(r"^resuming from step \d+ of 120$", training.said, re.M)


def test_fewer_workers_go_on_and_more_when_there_is_room(pair):
    training = Training(pair, "elastic", "train.workers=[1, 2]", "train.global_batch=true", steps=10_000)
    training.wait_for_step(SAVE_EVERY)
    lost = training.places()[1]
    pair.kill_node(lost)
    training.program.until(r"^training with 1 workers?, up to 2 are allowed$")
    training.wait_for_step(training.states.newest_step + SAVE_EVERY)
    pair.start(lost)
    training.program.until(r"^there is room for more workers at step \d+; going on from step \d+$")
    wait_until(lambda: sorted(training.places()) == [1, 2], training.program.process)
    training.stop()


def test_the_head_is_lost_and_a_new_cluster_goes_on(pair):
    training = Training(pair, "head", steps=120)
    training.wait_for_step(SAVE_EVERY)
    pair.kill_node(0)
    training.program.wait()
    pair.repair()
    training.start_again()
    training.end()
    assert re.search(r"^resuming from step [1-9]\d* of 120$", training.said, re.M)


def test_a_node_that_announces_its_end_costs_no_step(nodes):
    """The service around `ray start` gets a SIGTERM, as from Kubernetes."""
    nodes.kill_node(3)
    nodes.boot(3)
    start = [
        "ray",
        "start",
        "--block",
        f"--address={nodes.ray_address}",
        "--num-cpus=2",
        "--object-store-memory=157286400",
    ]
    service = nodes.popen(
        3, ["python", "-m", "hcmoco_ray", "node", "--grace", "60", "--", *start, "--disable-usage-stats"]
    )
    nodes.wait_alive(range(4))
    nodes.kill_node(1)
    nodes.wait_alive({0, 2, 3})
    training = Training(nodes, "announced", steps=10_000)
    training.wait_for_step(SAVE_EVERY)
    assert sorted(training.places()) == [2, 3]
    nodes.start(1)
    service.send_signal(signal.SIGTERM)
    said = training.program.until(
        rf"^node {re.escape(nodes.address(3))} was about to be taken away at step (\d+); going on from step (\d+)$"
    )
    assert said[1] == said[2]
    wait_until(lambda: sorted(training.places()) == [1, 2], training.program.process)
    training.stop()
    assert service.wait() == 0


def test_a_node_without_the_shared_folder_is_named():
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Nodes((0, 2, 2), unshared=[2]) as nodes:
        training = Training(nodes, "not-shared")
        assert training.program.wait() == 2
        address = re.escape(nodes.address(2))
        assert re.search(rf"^error: output_dir .* is not seen from node {address}; give a folder", training.said, re.M)
        assert "Traceback" not in training.said


LOOK = """
import json, sys
from hcmoco.errors import UserError
from hcmoco_ray.cluster import session, shared_disk

asked, ask = [], shared_disk.ask_each

def counted(nodes, *arguments, **settings):
    asked.append(len(nodes))
    return ask(nodes, *arguments, **settings)

shared_disk.ask_each = counted
cluster, shared, own = session.connect(), *sys.argv[1:]
lines = []
for paths, data, weights in (
    ([("output_dir", f"{shared}/new/run"), ("--data", "s3://bucket/data")], [f"{shared}/file"], ["scratch", shared]),
    ([("output_dir", shared), ("--out", own)], [f"{own}/data"], []),
    ([("output_dir", shared)], [shared, own], [own]),
    ([("output_dir", shared)], [], [shared, own]),
):
    try:
        cluster.require_shared_storage(*paths, data=data, weights=weights)
        lines.append("")
    except UserError as error:
        lines.append(str(error))
print(json.dumps([asked, lines]))
"""


def test_every_node_is_asked_once_for_all_paths(nodes: Nodes):
    own = nodes.run(0, ["mktemp", "--directory"]).strip()
    (nodes.shared / "file").write_text("seen")
    said = nodes.run(0, ["python", "-c", LOOK, str(nodes.shared), own], {"RAY_ADDRESS": "auto"})
    asked, lines = json.loads(said.splitlines()[-1])
    assert asked == [3] * 4
    others = " and ".join(sorted(nodes.address(node) for node in (1, 2, 3)))
    advice = (
        "give a folder that is mounted at the same path on all 4 nodes, or an object store such as s3://bucket/folder"
    )
    assert lines == [
        "",
        f"--out {own} is not seen from nodes {others}; {advice}",
        f"the data set in {own} is not seen from nodes {others}; {advice}",
        f"init {own} is not seen from nodes {others}; {advice}",
    ]
    assert not list(nodes.shared.rglob(".hcmoco-seen*"))
