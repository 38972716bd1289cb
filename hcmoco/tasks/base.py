"""The interface of a downstream task: rows to batches, batches to losses and predictions, predictions to scores.

The loop around it (plan, optimizer, train states, evaluation over workers) is the same for every task.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import Tensor, nn

from hcmoco.config import Config
from hcmoco.data.shards.manifest import About
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.weight_files import WeightsReport
from hcmoco.tasks.registry import REGISTRY

Prediction = dict[str, Any]
"""The prediction for one row: names to NumPy arrays, or to lists of them, one per detected person.

Coordinates are pixels of the stored image."""


class TaskConfig(Config):
    """Base of the tasks' own settings. A task's config narrows `name` to a Literal of its name."""

    renamed: ClassVar = {"task": "name"}

    name: str

    def input_sizes(self, stride: int) -> list[tuple[int, int]]:
        """Return rows and columns of what the encoder gets; of sizes that vary, the extremes. Empty: not known.

        Args:
            stride: the encoder's coarsest; a task may pad to a multiple of it.
        """
        return []

    def first_weights(self) -> str | None:
        """Return the path or URI of weights of the whole model, encoder included, that a training starts from."""
        return None

    def with_paths(self, resolve: Callable[[str], str]) -> Self:
        """Return the settings with `resolve` applied to every path in them."""
        return self

    @classmethod
    def variant(cls, values: Mapping[str, Any]) -> type[Config]:
        """Return the config class of the task that `values` names; `cls` where it names none that is registered."""
        entry = REGISTRY.get(str(values.get("name", values.get("task"))))
        return cls if entry is None or cls is not TaskConfig else entry.load().config_class


def parse_task_config(values: Any) -> Any:
    """Check the settings of any registered task.

    Args:
        values: a mapping with the task's name under `name`; anything else is returned as it is.
    Raises:
        ValidationError: an unknown task, or settings that its config refuses.
    """
    if not isinstance(values, Mapping):
        return values
    name = values.get("name")
    if isinstance(name, str) and name in REGISTRY:
        return TaskConfig.variant(values).model_validate(values)
    error = InitErrorDetails(type="missing", loc=("name",), input=values)
    if "name" in values:
        problem = PydanticCustomError("task", "must be one of {names}", {"names": ", ".join(REGISTRY)})
        error = InitErrorDetails(type=problem, loc=("name",), input=name)
    elif "task" in values:  # its name until version 0.1
        error = InitErrorDetails(type="extra_forbidden", loc=("task",), input=values["task"])
    raise ValidationError.from_exception_data("TaskConfig", [error])


AnyTaskConfig = Annotated[SerializeAsAny[TaskConfig], BeforeValidator(parse_task_config)]
"""A field that holds the config of any registered task. Its `name` says of which."""


@dataclass
class TaskBatch:
    """The rows of one step, in the host's memory. A task adds its own fields; the first axis of each is the rows.

    Attributes:
        ids: ids of the rows.
    """

    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """Join the rows of several batches, in order: arrays along the first axis, tuples and lists end to end."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            parts = [getattr(batch, field.name) for batch in batches]
            if isinstance(parts[0], np.ndarray):
                values[field.name] = np.concatenate(parts)
            else:
                values[field.name] = type(parts[0])(item for part in parts for item in part)
        return cls(**values)


BatchT = TypeVar("BatchT", bound=TaskBatch)


@dataclass(frozen=True)
class Result:
    """The scores of one evaluation.

    Attributes:
        metrics: name -> value. Shares are 0..1; other metrics have their unit in the name (`error_cm`). The task's
            `primary_metric` is among them.
        rows: number of evaluated rows.
        columns: names of the columns of `per_class`. The first says what a row is of: "class", "joint", ...
        per_class: the same metrics for each class, joint, ...: rows that begin with the name.
        notes: sentences without which a metric of this data set would be misread.
    """

    metrics: dict[str, float]
    rows: int
    columns: tuple[str, ...] = ()
    per_class: tuple[tuple[str | float, ...], ...] = ()
    notes: tuple[str, ...] = ()


class Metric(ABC):
    """Collects predictions and scores them.

    The same predictions give the same scores, in any batches, in any order and from any worker.
    """

    @abstractmethod
    def update(self, batch: Any, predictions: Sequence[Prediction]) -> None:
        """Add rows.

        Args:
            batch: of `Task.make_batch` without generators; it holds the labels.
            predictions: one for each row of the batch.
        """

    @abstractmethod
    def state(self) -> Any:
        """Return what has been collected, as plain Python and NumPy values: a worker sends it to the others."""

    @abstractmethod
    def merge(self, state: Any) -> None:
        """Add what another worker has collected: its `state`."""

    @abstractmethod
    def compute(self) -> Result:
        """Return the scores of all rows that were added; the same for any order of updates and merges."""


class Task(ABC, Generic[BatchT]):
    """A downstream task over one kind of record.

    Args:
        config: the task's own settings.
        about: manifest of the data set that is read: joint sets, depth codec, image size.
        statistics: what `fit_statistics` returned for the labeled training rows; None for a task that needs none.

    Attributes:
        name: the name under which it is registered; recipes have it as `task.name`.
        config_class: class of its settings.
        primary_metric: name of the metric by which models are selected; higher is better.
        kind: the kind of records that it reads.
        modality: whose encoder it starts from.
        inputs: columns that prediction needs, by the names under which the manifest counts them.
        labels: columns that training and scores need beside the inputs.
        columns: all columns that it reads, ids and labels included.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[TaskConfig]]
    primary_metric: ClassVar[str]
    kind: ClassVar[Literal["person", "scene"]] = "person"
    modality: ClassVar[Literal["rgb", "depth"]]
    inputs: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, about: About, statistics: Mapping[str, Any] | None = None):
        self.config, self.about, self.statistics = config, about, dict(statistics or {})

    @classmethod
    def fit_statistics(cls, config: Any, rows: Iterable[dict], about: About) -> dict[str, Any]:
        """Return what has to be known of the labeled rows before training, such as class weights. Most tasks need none.

        It is called once per run, in one process. The result goes to the constructor in all processes, and is saved
        with the model.

        Args:
            config: the task's own settings.
            rows: labeled rows with `columns`, dicts of Python values.
            about: manifest of their data set.
        Returns:
            JSON values.
        Raises:
            ValueError: a row does not decode, with its id.
        """
        del config, rows, about
        return {}

    def over(self, about: About) -> Self:
        """Return the task with the same settings and statistics over another data set, for scores.

        Args:
            about: manifest of the other data set.
        Raises:
            UserError: labels there mean something else than those of `self.about`.
        """
        return type(self)(self.config, about, self.statistics)

    def for_encoder(self, encoder: EncoderConfig) -> "Task":
        """Return the task as it makes batches for an encoder: itself, unless the encoder reads points of depth.

        Args:
            encoder: that `make_model` will be given.
        Raises:
            UserError: the task has no batches for it.
        """
        if encoder.is_points:
            raise UserError(
                f"encoder.name = {encoder.name}: it reads points of depth, and {self.name} has none for it; take "
                "parsing-depth or pose, or a timm model"
            )
        return self

    @abstractmethod
    def make_batch(self, rows: Sequence[dict], rngs: Sequence[np.random.Generator] | None) -> BatchT:
        """Decode, crop and augment rows: a pure function of its arguments.

        Args:
            rows: dicts of Python values, as Arrow's `to_pylist` gives them. Without `rngs` they may lack their labels.
            rngs: one generator per row for its augmentation; None for evaluation and prediction, which draw nothing.
        Raises:
            ValueError: a row does not decode, with its id.
        """

    @abstractmethod
    def make_model(self, encoder: Any) -> nn.Module:
        """Return encoder and freshly drawn head. The encoder is the attribute `encoder` of the result.

        Args:
            encoder: an `Encoder`, or a `PointEncoder` for a task of which `for_encoder` made batches of points.
        """

    def load_first_weights(self, model: nn.Module) -> WeightsReport:
        """Load what `config.first_weights` names into a fresh model; called where it names something.

        Returns:
            What was taken of the file.

        Raises:
            UserError: the file cannot be read, or does not fit.
        """
        raise NotImplementedError

    @abstractmethod
    def losses(self, model: nn.Module, batch: BatchT, device: torch.device) -> dict[str, Tensor]:
        """Compute the terms of a training step: 0-d tensors by name. `loss` is their weighted sum.

        Args:
            model: in training mode.
            batch: of `make_batch` with generators.
            device: of the model.
        """

    @abstractmethod
    def predict(self, model: nn.Module, batch: BatchT, device: torch.device) -> list[Prediction]:
        """Return one prediction per row.

        Args:
            model: in evaluation mode.
            batch: of `make_batch` without generators.
            device: of the model.
        """

    @abstractmethod
    def metric(self) -> Metric:
        """Return an empty metric of this task."""

    @abstractmethod
    def visualize(self, rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
        """Draw for each row its input, its truth if it has one, and its prediction, side by side.

        Returns:
            uint8 [H, W, 3], RGB.
        """
