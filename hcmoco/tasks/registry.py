"""The tasks by name. Each is imported when it is asked for: detection brings in much that parsing does not need."""

import importlib
from typing import Any

from hcmoco.data.shards.manifest import About
from hcmoco.tasks.base import Task, TaskConfig

TASKS = {
    "parsing-rgb": ("hcmoco.tasks.parsing", "RgbParsing"),
    "parsing-depth": ("hcmoco.tasks.parsing", "DepthParsing"),
    "pose": ("hcmoco.tasks.pose", "PoseTask"),
    "densepose": ("hcmoco.tasks.densepose", "DensePose"),
}


def task_class(name: str) -> type[Task]:
    """The class of a task."""
    module, cls = TASKS[name]
    return getattr(importlib.import_module(module), cls)


def make_task(config: TaskConfig, about: About, statistics: dict[str, Any] | None = None) -> Task:
    """A task over a data set, with what was found out about its labelled rows before training."""
    task = task_class(config.task)(config, about)
    if statistics is not None:
        task.use_statistics(statistics)
    return task
