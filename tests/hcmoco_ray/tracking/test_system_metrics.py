"""What the nodes of a training do, as the run in the tracking store shows it."""

import psutil
import pytest
from mlflow import MlflowClient

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco_ray import compat
from hcmoco_ray.tracking import system_metrics
from hcmoco_ray.tracking.client import open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig, store_uri
from tests.helpers import pretrain_program
from tests.helpers.waiting import wait_until

NAMES = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return TrackingConfig(), out, MlflowClient(store_uri(TrackingConfig(), out))


def test_the_names_are_those_of_mlflow_itself(tmp_path):
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor

    monitors = CPUMonitor(), DiskMonitor()
    for each in monitors:
        each.collect_metrics()
    theirs = {name for each in monitors for name in each.aggregate_metrics()}
    values = system_metrics.NodeUsage(tmp_path).sample()
    assert set(values) >= theirs == NAMES
    assert {name for name in values if not name.startswith("gpu_")} == NAMES
    for name in NAMES:
        assert 0 <= values[name] <= (100 if name.endswith("percentage") else float("inf")), name


def test_memory_and_disk_agree_with_what_the_machine_says(tmp_path):
    values = system_metrics.NodeUsage(tmp_path).sample()
    _, total = compat.node_memory()
    share = values["system_memory_usage_percentage"] / 100
    assert values["system_memory_usage_megabytes"] * 1e6 == pytest.approx(share * total)
    disk = psutil.disk_usage("/")
    assert values["disk_available_megabytes"] * 1e6 == pytest.approx(disk.free, rel=0.05)


def test_a_machine_without_a_gpu_has_no_metrics_of_one():
    if compat.Gpus().usage():
        pytest.skip("this machine has a GPU")
    assert not [name for name in system_metrics.NodeUsage().sample() if name.startswith("gpu")]


def test_steps_are_the_seconds_since_the_start_and_none_is_lost(store):
    config, out, client = store
    writer = open_writer(config, out, actor=False)
    run_id = start_run(writer).run_id
    begun = client.get_run(run_id).info.start_time
    for value, after in enumerate((1_000, 30_999, 31_000, 31_500, 20_000, 61_000)):  # a clock that is set back, too
        writer.system_metrics(run_id, {"system/10.0.0.1/x": value, "system/fe80::1/x": -value}, begun + after)
    writer.flush()
    again = open_writer(config, out, actor=False)
    again.start(run_id, None, {}, {})
    again.system_metrics(run_id, {"system/10.0.0.1/x": 6}, begun + 90_000)
    again.system_metrics("0123456789abcdef0123456789abcdef", {"system/10.0.0.1/x": 7}, begun)  # of a run that has ended
    again.finish(run_id, "FINISHED")
    points = sorted(client.get_metric_history(run_id, "system/10.0.0.1/x"), key=lambda point: point.step)
    assert [point.step for point in points] == [1, 30, 31, 32, 33, 61, 90]
    assert [point.value for point in points] == list(range(7))
    assert [point.timestamp - begun for point in points] == [1_000, 30_999, 31_000, 31_500, 20_000, 61_000, 90_000]
    assert len(client.get_metric_history(run_id, "system/fe80::1/x")) == 6


def test_a_thread_logs_while_the_block_runs_and_not_after_it(store, ray_session):
    config, out, client = store
    tracker = start_run(open_writer(config, out, actor=False))

    def found() -> dict[str, float]:
        tracker.flush()
        return client.get_run(tracker.run_id).data.metrics

    with system_metrics.logged(tracker, "10.0.0.1", 1):
        wait_until(found)
    assert set(found()) >= {f"system/10.0.0.1/{name}" for name in NAMES}
    with system_metrics.logged(tracker, "10.0.0.2", 3600):
        pass
    assert set(found()) >= {f"system/10.0.0.2/{name}" for name in NAMES}, "one sample, at the end"
    with system_metrics.logged(tracker, "10.0.0.3", 0):
        pass
    before = {point.step for point in client.get_metric_history(tracker.run_id, f"system/10.0.0.1/{min(NAMES)}")}
    tracker.finish()
    assert {name.split("/")[1] for name in found()} == {"10.0.0.1", "10.0.0.2"}
    after = client.get_metric_history(tracker.run_id, f"system/10.0.0.1/{min(NAMES)}")
    assert {point.step for point in after} == before


@pytest.mark.parametrize("interval", [-1, 0.5, "often"])
def test_an_interval_that_is_refused(interval):
    with pytest.raises(UserError, match=r"recipe r: system_metrics_interval = "):
        build(TrackingConfig, {"system_metrics_interval": interval}, "recipe r")


@pytest.mark.slow
def test_a_training_is_the_same_with_and_without(finished, tiny_home):
    """The run of one process; that of several nodes is tested in tests/cluster."""
    import ray

    [run] = pretrain_program.tracked(finished.folder)
    prefix = f"system/{ray.util.get_node_ip_address()}/"
    assert {name.removeprefix(prefix) for name in run["metrics"] if name.startswith(prefix)} >= NAMES
    without = pretrain_program.call(tiny_home, "output_dir=runs/unsampled", "tracking.system_metrics_interval=0")
    [run] = pretrain_program.tracked(without.folder)
    assert not [name for name in run["metrics"] if name.startswith("system/")]
    assert pretrain_program.numbers(without.folder) == pretrain_program.numbers(finished.folder)
    ours, theirs = pretrain_program.newest(without.folder), pretrain_program.newest(finished.folder)
    assert not pretrain_program.differences(ours, theirs)
