"""The tasks that `finetune` knows: where their classes are. Importing this module does not import PyTorch.

To add one, write a module with a `Task` (see base.py) and add its line here, or call `register` from your own package.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcmoco.data.shards.manifest import About
    from hcmoco.models.encoders import EncoderConfig
    from hcmoco.tasks.base import Task, TaskConfig


@dataclass(frozen=True)
class Entry:
    """One task.

    Attributes:
        task: `module:Class` of its Task, imported when it is needed: detection imports much that parsing does not need.
        adapter: `module:Class` of its Adapter (hcmoco/inference/adapter.py); "" for a task without prediction.
    """

    task: str
    adapter: str = ""

    def load(self) -> "type[Task]":
        """Import the class. Raises TypeError where it is not a Task."""
        from hcmoco.tasks.base import Task

        found = pkgutil.resolve_name(self.task)
        if not (isinstance(found, type) and issubclass(found, Task)):
            raise TypeError(f"{self.task} is not a Task")
        return found


REGISTRY: dict[str, Entry] = {
    "parsing-rgb": Entry("hcmoco.tasks.parsing:RgbParsing", "hcmoco.inference.parsing:ParsingAdapter"),
    "parsing-depth": Entry("hcmoco.tasks.parsing:DepthParsing", "hcmoco.inference.parsing:ParsingAdapter"),
    "pose": Entry("hcmoco.tasks.pose:PoseTask", "hcmoco.inference.pose:PoseAdapter"),
    "densepose": Entry("hcmoco.tasks.densepose:DensePose", "hcmoco.inference.densepose:DensePoseAdapter"),
}


def register(name: str, entry: Entry) -> None:
    """Add a task under `name`, e.g. from another package. Raises ValueError for a name that is taken."""
    if name in REGISTRY:
        raise ValueError(f"the task {name!r} is registered already")
    REGISTRY[name] = entry


def register_all(entries: Mapping[str, Entry]) -> None:
    """Add the tasks of another process, such as the driver's on a worker. Those that are registered already stay."""
    for name, entry in entries.items():
        REGISTRY.setdefault(name, entry)


def task_class(name: str) -> "type[Task]":
    """Return the class of a registered task."""
    return REGISTRY[name].load()


def make_task(
    config: "TaskConfig",
    about: "About",
    statistics: Mapping[str, Any] | None = None,
    encoder: "EncoderConfig | None" = None,
) -> "Task":
    """Return a task over a data set.

    Args:
        config: the task's own settings.
        about: manifest of the data set.
        statistics: what `Task.fit_statistics` returned for the labeled rows; None for a task that needs none.
        encoder: that the task's batches are made for; None: one that reads pictures.

    Raises:
        UserError: the task has no batches for the encoder, or see the task.
    """
    task = task_class(config.name)(config, about, statistics)
    return task if encoder is None else task.for_encoder(encoder)
