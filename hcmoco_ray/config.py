"""The whole config of a program: the method's tree, and what the cluster and the record of the run add to it."""

from collections.abc import Sequence
from typing import Literal

import yaml
from pydantic import Field

from hcmoco.config import Config, build
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import IMAGENET, SCRATCH
from hcmoco.pretraining.config import PretrainConfig
from hcmoco_ray import cli
from hcmoco_ray.paths import at_home
from hcmoco_ray.tracking.client import TrackingConfig

_WIDTH = 140


class ReadConfig(Config):
    """How a worker decodes; it decides nothing about the result."""

    threads: int = Field(1, ge=1, description="decoding threads of a worker")
    ahead: int = Field(4, ge=1, description="batches that a worker holds ready")


class IngestConfig(ReadConfig):
    """How Ray Data carries out the plan of a pre-training; it decides nothing about the result."""

    decode: Literal["worker", "tasks"] = Field(
        "worker", description="who decodes pixels: the training workers' threads, or the cluster's CPUs"
    )


class OnRay(Config):
    """Where any run is recorded, and what it does about a cluster that grows or loses workers."""

    tracking: TrackingConfig = TrackingConfig()
    wait_for_nodes: int = Field(
        0, ge=0, description="seconds to wait for an autoscaling cluster to grow to what the workers ask for"
    )
    restarts: int = Field(
        3, ge=0, description="times that the workers are started anew after one was lost, before the run gives up"
    )


class PretrainRecipe(OnRay, PretrainConfig):
    """A pre-training run with where it runs and where it is recorded."""

    ingest: IngestConfig = IngestConfig()

    def placed(self) -> "PretrainRecipe":
        """The same run with the paths that are not asked for through `at_home` made absolute: workers have another current folder."""
        model = self.model
        for name in ("rgb", "depth"):
            encoder = getattr(model, name)
            if encoder.init not in ("scratch", "timm"):
                model = model.model_copy(update={name: encoder.model_copy(update={"init": at_home(encoder.init)})})
        return self.model_copy(update={"out": at_home(self.out), "model": model})


class FinetuneRecipe(OnRay, FinetuneConfig):
    """A fine-tuning with where it runs and where it is recorded."""

    ingest: ReadConfig = ReadConfig()

    def placed(self) -> "FinetuneRecipe":
        """The same run with the paths that are not asked for through `at_home` made absolute: workers have another current folder."""
        init = self.init if self.init in (SCRATCH, IMAGENET) else at_home(self.init)
        weights = at_home(self.imagenet_weights) if self.imagenet_weights else None
        return self.model_copy(update={"out": at_home(self.out), "init": init, "imagenet_weights": weights})


def load(cls: type, recipe: str, overrides: Sequence[str]):
    """The config of a recipe with overrides. UserError with one line for a recipe that is not there or a bad key or value."""
    return check(cls, cli.values(recipe, list(overrides)), recipe)


def check(cls: type, values: dict, recipe: str):
    """The config of `cls` with these values, its paths placed. UserError with one line, naming the recipe, for a bad key or value."""
    return build(cls, values, f"recipe {recipe}").placed()


def as_yaml(config: Config) -> str:
    """The resolved config as YAML for people: a mapping that fits takes one line."""
    return "\n".join(_lines(config.model_dump(mode="json"))) + "\n"


def _lines(values: dict) -> list[str]:
    lines = []
    for key, value in values.items():
        text = yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=True, width=_WIDTH).strip()[1:-1]
        if "\n" in text and isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            lines += [f"{key}:", *(f"  {line}" for line in _lines(value))]
        else:
            lines += text.splitlines()
    return lines
