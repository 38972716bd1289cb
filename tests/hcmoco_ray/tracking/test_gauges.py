"""What Prometheus collects from a node while a training runs there."""

import urllib.request

from hcmoco_ray.tracking.gauges import Gauges
from tests.helpers.waiting import wait_until


def collected(port: int) -> list[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode().splitlines()
    except OSError:  # the node's agent is not up yet
        return []


def test_the_training_metrics_of_a_report_are_gauges_of_the_node(ray_session):
    import ray

    gauges = Gauges("people", "1f")
    gauges.set(5, {"probe/joint": 0.5})  # no report of the training
    gauges.set(7, {"train/loss": 2.5, "perf/samples_per_s": 40.0, "perf/data_wait_share": 0.25, "probe/joint": 0.5})
    port = ray.nodes()[0]["MetricsExportPort"]

    def shown() -> dict[str, float]:
        lines = [line for line in collected(port) if line.startswith("ray_hcmoco_") and 'run_id="1f"' in line]
        return {line.partition("{")[0].removeprefix("ray_hcmoco_"): float(line.rpartition(" ")[2]) for line in lines}

    wait_until(lambda: len(shown()) == 4)
    assert shown() == {"step": 7, "loss": 2.5, "samples_per_second": 40, "data_wait_share": 0.25}
