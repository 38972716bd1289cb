"""Show where a training is to whoever watches the cluster: gauges of Ray, which Prometheus collects from every node."""

from collections.abc import Mapping
from typing import Any

# Metric of the tracking run -> gauge and its description. Prometheus shows them as ray_hcmoco_...
_GAUGES = {
    "train/loss": ("hcmoco_loss", "mean training loss since the last report"),
    "perf/samples_per_s": ("hcmoco_samples_per_second", "rows that all workers train on in a second"),
    "perf/data_wait_share": ("hcmoco_data_wait_share", "share of the time that rank 0 waits for data, 0 to 1"),
}
_STEP = ("hcmoco_step", "optimizer steps that are done")
_TAGS = ("run", "run_id")


class Gauges:
    """The gauges of one run. Rank 0 sets them.

    Args:
        name: of the run, as its recipe says.
        run_id: of its tracking run.
    """

    def __init__(self, name: str, run_id: str):
        self._tags = {"run": name, "run_id": run_id}
        self._made: dict[str, Any] = {}

    def set(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the step, and those of a run's metrics that have a gauge.

        Args:
            step: steps that are done.
            metrics: as the tracking run gets them; reports without a training metric, such as probes, show nothing.
        """
        shown = {_GAUGES[name]: value for name, value in metrics.items() if name in _GAUGES}
        if shown:
            for (name, description), value in {**shown, _STEP: step}.items():
                self._gauge(name, description).set(value, tags=self._tags)

    def _gauge(self, name: str, description: str) -> Any:
        if name not in self._made:
            from ray.util.metrics import Gauge

            self._made[name] = Gauge(name, description=description, tag_keys=_TAGS)
        return self._made[name]
