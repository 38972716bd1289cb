"""Each test fails where a new release of Ray or PyTorch has changed what hcmoco_ray/compat.py builds on."""

import time
import tomllib
from pathlib import Path

import psutil
import pytest
import torch

from hcmoco_ray import compat


def test_the_installed_ray_is_within_the_bound():
    import ray
    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = [Requirement(text) for text in project["optional-dependencies"]["run"]]
    (bound,) = [each.specifier for each in required if each.name == "ray"]
    assert bound.contains(ray.__version__)
    assert not bound.contains("2.999"), "the bound has no upper end"


def test_ray_sets_the_variable_of_a_submitted_job():
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert compat.SUBMITTED_JOB == RAY_JOB_CONFIG_JSON_ENV_VAR


def test_a_process_is_in_a_submitted_job_where_the_variable_is_set(monkeypatch):
    monkeypatch.delenv(compat.SUBMITTED_JOB, raising=False)
    assert not compat.in_submitted_job()
    monkeypatch.setenv(compat.SUBMITTED_JOB, "{}")
    assert compat.in_submitted_job()


def test_ray_data_s_scheduler_rests_while_enough_is_ready(ray_session, tmp_path):
    """Of 50 blocks, a consumer that takes one finds a handful made: without the rest they would all be."""
    import ray.data

    def stream(_):
        for number in range(50):
            (tmp_path / str(number)).touch()
            yield {"number": [number]}

    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1
    compat.hold_back_executor(context)
    with ray.data.DataContext.current(context):
        one = ray.data.from_items([0]).map_batches(stream, batch_size=None, concurrency=1, num_cpus=0)
        blocks = iter(one.iter_batches(batch_size=None, prefetch_batches=1))
        assert next(blocks)["number"].tolist() == [0]
        before, made = 0, 1
        while made > before:
            time.sleep(1)
            before, made = made, len(list(tmp_path.iterdir()))
        assert 2 <= made < 25
        assert [block["number"].item() for block in blocks] == list(range(1, 50))


def test_a_worker_whose_process_has_gone_is_lost(ray_session):
    import ray
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    @ray.remote(num_cpus=0)
    class Worker:
        def end(self):
            import os

            os._exit(1)

    with pytest.raises(ray.exceptions.RayActorError) as caught:
        ray.get(Worker.remote().end.remote())
    assert compat.is_lost_worker(caught.value)
    assert compat.is_lost_worker(WorkerHealthCheckFailedError("no answer", caught.value))
    assert not compat.is_lost_worker(WorkerHealthCheckFailedError("it raised", ValueError("x")))


def test_early_stopping_learns_from_the_trials_of_an_earlier_process():
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    def decision(figure: float) -> str:
        scheduler = ASHAScheduler(
            time_attr="step", metric="figure", mode="max", grace_period=1, max_t=4, reduction_factor=2
        )
        for number in range(4):
            compat.replay_trial(scheduler, number, [(1, 10.0 + number)])
        trial = compat.FinishedTrial("new", {"number": 4})
        scheduler.on_trial_add(None, trial)
        return scheduler.on_trial_result(None, trial, {"step": 1, "figure": figure})

    assert decision(1.0) == TrialScheduler.STOP
    assert decision(20.0) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_views_share_a_storage_and_tensors_do_not(device):
    with torch.device(device):
        first, second = torch.empty(6), torch.empty(6)
    key = compat.storage_key(first.untyped_storage())
    assert compat.storage_key(first[2:].view(2, 2).untyped_storage()) == key
    assert compat.storage_key(second.untyped_storage()) != key


def test_a_ray_of_one_s_own_has_no_process_that_nobody_needs(ray_session):
    own = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
    assert any("gcs_server" in each for each in own)
    assert not [each for each in own if "log_monitor.py" in each or "autoscaler/_private/monitor.py" in each]


def test_a_trainer_without_a_holder_of_datasets_has_all_other_callbacks():
    import ray.train.torch

    def callbacks(trainer: type) -> list[str]:
        made = trainer(lambda: None, scaling_config=ray.train.ScalingConfig(num_workers=1))
        return [type(each).__name__ for each in made._create_default_callbacks()]

    whole, lean = callbacks(ray.train.torch.TorchTrainer), callbacks(compat.lean_trainer())
    assert [each for each in whole if each not in lean] == ["DatasetsCallback"]
    assert [each for each in whole if each in lean] == lean


def test_what_a_node_s_memory_is(ray_session):
    used, total = compat.node_memory()
    assert 0 < used < total


def test_what_the_head_was_given(ray_session):
    assert isinstance(compat.system_config(), dict)


def test_the_agent_of_a_node_reports_its_disks(ray_session):
    import ray

    (node,) = ray.nodes()
    disks = compat.reported_disks([node["NodeID"]], 300)
    assert all(0 < free < total for free, total in disks[node["NodeID"]].values())
    assert len(disks[node["NodeID"]]) == 2
