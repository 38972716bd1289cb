"""The config of a grid of fine-tunings: tasks, shares of the labels, seeds, and initializations that are compared."""

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from hcmoco.config import Config, build, load_recipe
from hcmoco.errors import UserError
from hcmoco.tasks.registry import REGISTRY
from hcmoco_ray import cli
from hcmoco_ray.tracking.config import TrackingConfig, resolved

GRIDS = cli.RECIPES / "grids"


def _different(values: tuple) -> tuple:
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if twice is not None:
        raise ValueError(f"{twice} appears twice")
    return values


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63, strict=True)], ...], AfterValidator(_different)]


class PretrainedConfig(Config):
    """An encoder initialization that a pre-training produces. The pre-training runs first unless it is finished."""

    renamed: ClassVar = {"out": "output_dir"}

    pretrain: str = Field(description="recipe of the pre-training")
    overrides: tuple[str, ...] = Field((), description="dotted keys on top of it, as on the command line")
    output_dir: str = Field(min_length=1, description="folder or URI of the run")


class ExperimentsConfig(Config):
    """A block of a grid: every task with every seed and every initialization, or those that it names."""

    tasks: tuple[str, ...] = Field(min_length=1, description="names of tasks")
    labels: dict[str, float | int | str] = Field(
        min_length=1, description="fraction, num_samples or subset, as in a fine-tuning's recipe; fraction: 1.0 for all"
    )
    seeds: Seeds = Field(min_length=1, description="a training for each")
    overrides: tuple[str, ...] = Field(
        (), description="dotted keys on top of each task's recipe, as on the command line, such as encoder.name"
    )
    recipe: str | None = Field(None, description="the tasks' recipe in this block; null: the grid's")
    inits: tuple[str, ...] = Field((), description="names of the grid's initializations that it compares; (): all")


class GridConfig(Config):
    """A grid of fine-tunings."""

    renamed: ClassVar = {"out": "output_dir", "cells": "experiments"}

    recipe: str = Field(description="the tasks' recipe: recipes/<task>/<recipe>.yaml")
    output_dir: str = Field(
        min_length=1,
        description="scratch folder or URI: checkpoints and the tracking store; safe to delete afterwards",
    )
    results: str | None = Field(
        None, description="folder or URI of the results, small files that can be shared; null: `output_dir`"
    )
    record_suffix: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="ending of the records of this grid's pre-trainings, where another grid with the same folder of "
        "results has other ones of these names",
    )
    baseline: str = Field(description="the initialization that the others are compared with")
    inits: dict[str, str | PretrainedConfig] = Field(
        min_length=1,
        description="name -> where the encoder starts: as a fine-tuning's init, or the pre-training that produces it",
    )
    experiments: tuple[ExperimentsConfig, ...] = Field(min_length=1)
    tracking: TrackingConfig = TrackingConfig()
    seconds: dict[str, float] = Field(
        {},
        description="task or 'pretrain' -> seconds that one takes, for the first estimate; finished experiments "
        "replace it",
    )

    @model_validator(mode="after")
    def _known(self) -> "GridConfig":
        if self.baseline not in self.inits:
            raise ValueError(f"baseline = {self.baseline!r} is not among its inits: {', '.join(self.inits)}")
        unknown = [task for some in self.experiments for task in some.tasks if task not in REGISTRY]
        if unknown:
            raise ValueError(f"experiments: tasks: {unknown[0]!r} is not a task; allowed are {', '.join(REGISTRY)}")
        bad = next((name for name in self.inits if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII)), None)
        if bad is not None:
            raise ValueError(f"inits: {bad!r} names files; letters, digits and _ . + - are allowed")
        _different(tuple(each.output_dir for each in self.inits.values() if not isinstance(each, str)))
        _different(
            tuple(
                (task, str(some.labels), seed)
                for some in self.experiments
                for task in some.tasks
                for seed in some.seeds
            )
        )
        strange = [name for some in self.experiments for name in some.inits if name not in self.inits]
        if strange:
            raise ValueError(f"experiments: inits: {strange[0]!r} is not among the grid's: {', '.join(self.inits)}")
        other = [name for name in self.seconds if name not in (*REGISTRY, "pretrain")]
        if other or min(self.seconds.values(), default=1) <= 0:
            raise ValueError(f"seconds: numbers above 0 for pretrain, {', '.join(REGISTRY)}")
        return self


def load_grid(name: str, seeds: int | None = None) -> GridConfig:
    """Load a grid.

    Args:
        name: of a grid in recipes/grids/, or the path of a YAML file.
        seeds: train every experiment with the seeds 0 to this - 1 instead of the grid's own.

    Raises:
        UserError: the file does not exist, or is not a grid.
    """
    values = load_recipe(cli.recipe_file(name, GRIDS))
    config = resolved(build(GridConfig, values, f"grid {name}"))
    if seeds is None:
        return config
    own = {"seeds": first_seeds(seeds)}
    return config.model_copy(
        update={"experiments": tuple(block.model_copy(update=own) for block in config.experiments)}
    )


def first_seeds(count: int) -> tuple[int, ...]:
    """Return the seeds that `--seeds` asks for: 0 to `count` - 1.

    Raises:
        UserError: `count` is below 1.
    """
    if count < 1:
        raise UserError(f"--seeds {count}: must be at least 1")
    return tuple(range(count))
