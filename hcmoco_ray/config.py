"""The configs of runs on Ray: a training's config, and the keys of the cluster and of the tracking store."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

from pydantic import Field

from hcmoco import yaml_core
from hcmoco.config import FREE, Config, build
from hcmoco.data.loader import Decode
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.models.fusion import AS_TRAINED, with_fusion
from hcmoco.models.multimodal import settle_model, with_saved_fusions
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.tasks.registry import task_class
from hcmoco_ray import cli
from hcmoco_ray.paths import resolve_path, resolve_start
from hcmoco_ray.tracking.config import TrackingConfig, resolved

_WIDTH = 140


class ReadConfig(Config):
    """How a worker decodes. Does not change the result."""

    renamed: ClassVar = {"threads": "num_threads", "ahead": "prefetch"}

    num_threads: int = Field(1, ge=1, description="decoding threads of a worker")
    prefetch: int = Field(4, ge=1, description="batches that a worker holds ready")
    num_tasks: int = Field(
        1,
        ge=1,
        description="tasks that read for a worker. They request no CPU; where they decode, each holds one that no "
        "worker can take",
    )

    @property
    def decode_in_tasks(self) -> bool:
        """Whether the tasks that read decode, too."""
        return False

    def decoding_tasks(self, workers: int) -> int:
        """Return how many tasks of a run with `workers` workers hold a CPU."""
        return workers * self.num_tasks if self.decode_in_tasks else 0


class IngestConfig(ReadConfig):
    """How Ray Data reads the plan of a pre-training. Does not change the result."""

    decode: Decode = Field(
        "worker",
        description="who decodes pixels: the training workers' threads, the cluster's CPUs (tasks), or, for RGB, the "
        "device that trains (device), whose pixels differ by a level or two",
    )

    @property
    def decode_in_tasks(self) -> bool:
        return self.decode == "tasks"


class OnRay(Config):
    """The keys of any run on Ray: its tracking store, and how it reacts to a cluster that grows or loses workers."""

    renamed: ClassVar = {"restarts": "max_restarts"}

    tracking: TrackingConfig = Field(TrackingConfig(), json_schema_extra=FREE)
    wait_for_nodes: int = Field(
        0,
        ge=0,
        description="seconds to wait for an autoscaling cluster to grow to what the workers ask for",
        json_schema_extra=FREE,
    )
    max_restarts: int = Field(
        3,
        ge=0,
        description="times in a row that the workers are started again without a new train state before the run ends",
        json_schema_extra=FREE,
    )
    spare_workers: bool | None = Field(
        None,
        description="beside each of several training workers its node keeps a process that has imported PyTorch and "
        "takes over when workers are lost: training goes on seconds sooner, for 0.3 GB of memory each. null: on a "
        "cluster that the program joins, not on one that it starts itself",
        json_schema_extra=FREE,
    )


class PretrainRecipe(OnRay, PretrainConfig):
    """The recipe of a pre-training on Ray."""

    ingest: IngestConfig = Field(IngestConfig(), json_schema_extra=FREE)

    def with_absolute_paths(self) -> Self:
        model = self.model
        for name in ("rgb", "depth"):
            encoder = getattr(model, name)
            model = model.model_copy(update={name: encoder.model_copy(update={"init": resolve_start(encoder.init)})})
        if skeleton := model.skeleton.init:
            own = model.skeleton.model_copy(update={"init": resolve_start(skeleton)})
            model = model.model_copy(update={"skeleton": own})
        return self.model_copy(update={"output_dir": resolve_path(self.output_dir), "model": model})

    def with_fusions_of(self, saved: Self) -> Self:
        """Return the recipe with the fusions that a run was recorded with, where its own are not decided."""
        model = with_saved_fusions(self.model, saved.model.model_dump())
        return self.model_copy(update={"model": model})

    def with_settled_fusions(self) -> tuple[Self, list[str]]:
        """Return the recipe with the fusions of its encoders decided, and lines that say how. See `settle_model`."""
        model, lines = settle_model(self.model)
        return self.model_copy(update={"model": model}), lines

    def initial_weights(self) -> list[str]:
        """Return where the encoders start: a word, or a path or URI."""
        skeleton = self.model.skeleton.init
        return [self.model.rgb.init, self.model.depth.init, *([skeleton] if skeleton else [])]


class FinetuneRecipe(OnRay, FinetuneConfig):
    """The recipe of a fine-tuning on Ray."""

    ingest: ReadConfig = Field(ReadConfig(), json_schema_extra=FREE)

    def with_absolute_paths(self) -> Self:
        init = resolve_start(self.init)
        weights = resolve_path(self.imagenet_weights) if self.imagenet_weights else None
        paths = {"output_dir": resolve_path(self.output_dir), "init": init, "imagenet_weights": weights}
        return self.model_copy(update={**paths, "task": self.task.with_paths(resolve_path)})

    def with_fusions_of(self, saved: Self) -> Self:
        """Return the recipe with the fusion that a run was recorded with, where its own is not decided."""
        if self.encoder.fusion != AS_TRAINED:
            return self
        return self.model_copy(update={"encoder": with_fusion(self.encoder, saved.encoder.fusion)})

    def with_settled_fusions(self) -> tuple[Self, list[str]]:
        """Return the recipe with the fusion of its encoder decided, and lines that say how. See `settle_encoder`."""
        from hcmoco.finetuning.encoder_init import settle_encoder

        modality = task_class(self.task.name).modality
        encoder, line = settle_encoder(self.init, self.encoder, modality, imagenet_weights=self.imagenet_weights)
        return self.model_copy(update={"encoder": encoder}), [line] if line else []

    def initial_weights(self) -> list[str]:
        """Return where the encoder starts: a word, or a path or URI."""
        return [self.init, *(each for each in (self.imagenet_weights, self.task.first_weights()) if each)]


RecipeT = TypeVar("RecipeT", PretrainRecipe, FinetuneRecipe)


class HasPaths(Protocol):
    """Protocol of a config with paths of its own."""

    def with_absolute_paths(self) -> Self:
        """Return the config with absolute paths, since workers have another current folder.

        The paths of data sets are resolved as they are opened.
        """


HasPathsT = TypeVar("HasPathsT", bound=HasPaths)


def load(cls: type[HasPathsT], recipe: str, overrides: Sequence[str]) -> HasPathsT:
    """Build the config of a recipe with overrides.

    Raises:
        UserError: the recipe does not exist, or a key or value is bad.
    """
    return check(cls, cli.values(recipe, list(overrides)), recipe)


def check(cls: type[HasPathsT], values: dict[str, Any], recipe: str) -> HasPathsT:
    """Build a config from its keys, with absolute paths, and with the tracking store that the environment names.

    Args:
        cls: class of the config.
        values: its keys, as a recipe has them.
        recipe: name of the recipe, for messages.

    Raises:
        UserError: a key or value is bad.
    """
    config: Any = build(cast("type[Config]", cls), values, f"recipe {recipe}")
    return resolved(config.with_absolute_paths())


def as_yaml(config: Config) -> str:
    """Return the resolved config as YAML for people: a mapping that fits takes one line."""
    return "\n".join(_lines(config.model_dump(mode="json"))) + "\n"


def _lines(values: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        text = yaml_core.dump({key: value}, flow=True, width=_WIDTH).strip()[1:-1]
        if "\n" in text and isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            lines += [f"{key}:", *(f"  {line}" for line in _lines(value))]
        else:
            lines += text.splitlines()
    return lines
