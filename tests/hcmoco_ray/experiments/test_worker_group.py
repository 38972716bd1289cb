"""The processes of a trial: one group of PyTorch, and what is heard of one that fails or is lost."""

import os

import pytest
import torch
import torch.distributed as dist

from hcmoco.errors import UserError
from hcmoco_ray.cluster.resources import ResourceRequest

pytestmark = pytest.mark.slow


def _sum(rank: int) -> float:
    """The sum of rank + 1 over the group."""
    value = torch.tensor(rank + 1.0)
    dist.all_reduce(value)
    return value.item()


def _mistake(rank: int) -> None:
    raise UserError(f"rank {rank} cannot read its rows")


def _die(rank: int) -> None:
    os._exit(1)


def _in_trial(other, tries: int = 1) -> object:
    """What `WorkerGroup.run` returns or raises in a process that has the first place of a placement group."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def trial() -> object:
        from hcmoco_ray.experiments.sweep.worker_group import WorkerGroup

        with WorkerGroup(ResourceRequest("trial", 1, 0, 1, 2), {}) as group:
            try:
                return [group.run(2, lambda: _sum(0), other) for _ in range(tries)]
            except Exception as error:
                return type(error).__name__, str(error)

    places = placement_group([{"CPU": 1}] * 2)
    try:
        strategy = PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=0)
        return ray.get(ray.remote(trial).options(num_cpus=1, max_retries=0, scheduling_strategy=strategy).remote())
    finally:
        remove_placement_group(places)


def test_the_processes_are_a_group_as_often_as_it_is_asked_for(ray_session):
    assert _in_trial(_sum, tries=2) == [3.0, 3.0]


def test_a_mistake_of_another_process_is_the_error(ray_session):
    assert _in_trial(_mistake) == ("UserError", "rank 1 cannot read its rows")


def test_a_lost_process_is_the_error(ray_session):
    name, text = _in_trial(_die)
    assert name == "ActorDiedError", text
