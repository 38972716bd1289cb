"""Define what all trials of a sweep share."""

from dataclasses import dataclass, field
from typing import Any

from hcmoco.data.shards.reader import Shards
from hcmoco.tasks.registry import REGISTRY, Entry
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.experiments.sweep.config import SweepConfig
from hcmoco_ray.experiments.sweep.records import Records
from hcmoco_ray.tracking.client import Tracker, TrackingWriter


@dataclass(frozen=True)
class Job:
    """The inputs of every trial of a sweep; sent to the trials' processes.

    Attributes:
        base: the recipe's keys that all trials have, paths as the user wrote them.
        records: the sweep's folder.
        key: the sweep's id.
        parent: the sweep's tracking run.
        sources: the data sets that are trained on.
        views: object reference of the probe's `ProbeViews` of held-out people, or None.
        finetune_data: training and test data of the scoring fine-tuning, or None.
        writer: of the tracking store.
        resources: what a trial requests of the cluster.
        placement: "pack" or "spread", of a trial's workers.
        tasks: those of the driver; a worker need not have registered them.
    """

    config: SweepConfig
    base: dict[str, Any]
    records: Records
    key: str
    parent: Tracker
    sources: tuple[Shards, ...]
    views: Any
    finetune_data: tuple[Shards, Shards] | None
    writer: TrackingWriter
    resources: ResourceRequest
    placement: str = "pack"
    tasks: dict[str, Entry] = field(default_factory=REGISTRY.copy)

    @property
    def device(self) -> str:
        """The device that a trial trains on: "cuda" or "cpu"."""
        return "cuda" if self.resources.gpus else "cpu"

    @property
    def exchange(self) -> bool:
        """Whether a trial may resume from another trial's state, as in population based training."""
        return self.config.population is not None

    def run_key(self, number: int) -> str:
        """Return the key by which `find_run` finds the tracking run of trial `number`."""
        return f"{self.key}/{number:04d}"
