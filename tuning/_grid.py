"""What a grid of fine-tunings is: tasks, shares of the labels, seeds, and the starts that are compared."""

from pathlib import Path

from pydantic import Field, model_validator

from hcmoco.config import Config, build, load_recipe
from hcmoco.errors import UserError
from hcmoco.tasks.tasks import TASKS
from pipelines import _arguments

GRIDS = _arguments.RECIPES / "grids"


class PretrainedConfig(Config):
    """A start that is pre-trained first where it is not there yet."""

    pretrain: str = Field(description="recipe of the pre-training")
    overrides: tuple[str, ...] = Field((), description="dotted keys on top of it, as on the command line")
    out: str = Field(min_length=1, description="folder or URI of the run")


class CellsConfig(Config):
    """Some cells: every task with every start and every seed."""

    tasks: tuple[str, ...] = Field(min_length=1, description="names of tasks")
    labels: dict[str, float | int | str] = Field(description="fraction, samples or subset, as in a fine-tuning's recipe")
    seeds: tuple[int, ...] = Field(min_length=1, description="a training for each")


class GridConfig(Config):
    """A grid of fine-tunings."""

    recipe: str = Field(description="the tasks' recipe: recipes/<task>/<recipe>.yaml")
    out: str = Field(min_length=1, description="folder or URI of what is worth nothing afterwards: train states; and of the tracking store")
    results: str | None = Field(None, description="folder or URI of the results, small files that can be shared; null: `out`")
    baseline: str = Field(description="the start that the others are compared with")
    inits: dict[str, str | PretrainedConfig] = Field(
        min_length=1, description="name -> where the encoder starts: as a fine-tuning's init, or the pre-training that makes it"
    )
    cells: tuple[CellsConfig, ...] = Field(min_length=1)
    seconds: dict[str, float] = Field(
        {}, description="task or 'pretrain' -> seconds that one takes, for the first estimate; what is done already tells better"
    )

    @model_validator(mode="after")
    def _known(self) -> "GridConfig":
        if self.baseline not in self.inits:
            raise ValueError(f"baseline = {self.baseline!r} is not among its inits: {', '.join(self.inits)}")
        unknown = [task for some in self.cells for task in some.tasks if task not in TASKS]
        if unknown:
            raise ValueError(f"cells: tasks: {unknown[0]!r} is not a task; allowed are {', '.join(TASKS)}")
        return self


def load_grid(name: str, seeds: int | None = None) -> GridConfig:
    """The grid in recipes/grids/, or in a YAML file.

    Args:
        seeds: train every cell with the seeds 0 to this - 1 instead of the grid's own.
    Raises:
        UserError: there is none, or it is not a grid.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else GRIDS / f"{name}.yaml"
    values = load_recipe(path)
    config = build(GridConfig, values, f"grid {name}")
    if seeds is None:
        return config
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: must be at least 1")
    return config.model_copy(update={"cells": tuple(each.model_copy(update={"seeds": tuple(range(seeds))}) for each in config.cells)})
