"""The whole config of a program: the method's tree, and what the cluster and the record of the run add to it."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from hcmoco.config import Config, build, load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.shards.storage import is_local
from hcmoco.training.config import PretrainConfig
from pipelines._tracking import TrackingConfig

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


class IngestConfig(Config):
    """How Ray Data carries out the plan; it decides nothing about the result."""

    decode: Literal["worker", "tasks"] = Field(
        "worker", description="who decodes pixels: the training workers' threads, or the cluster's CPUs"
    )
    threads: int = Field(1, ge=1, description="decoding threads of a training worker")
    ahead: int = Field(4, ge=1, description="batches that a worker holds ready")


class PretrainRecipe(PretrainConfig):
    """A pre-training run with where it runs and where it is recorded."""

    ingest: IngestConfig = IngestConfig()
    tracking: TrackingConfig = TrackingConfig()
    restarts: int = Field(3, ge=0, description="times that the workers are started anew after one was lost, before the run gives up")


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser of `--recipe NAME [key=value ...]`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipe", default="people-cpu", help="name of a recipe in recipes/, or a path to a YAML file (default people-cpu)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides, for example objective.tau_g=0.1")
    return parser


def load(cls: type, recipe: str, overrides: Sequence[str]):
    """The checked config of `cls`. UserError with one line for a recipe that is not there or a bad key or value."""
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else RECIPES / f"{recipe}.yaml"
    values = merge(load_recipe(path), parse_overrides(list(overrides)))
    config = build(cls, values, f"recipe {recipe}")
    return config.model_copy(update={"out": at_home(config.out)})


def home() -> Path:
    """Where relative paths of a config lie: HCMOCO_HOME, else the current folder, but ~/hcmoco inside a submitted job, whose current
    folder is a copy that the cluster deletes."""
    if os.environ.get("HCMOCO_HOME"):
        return Path(os.environ["HCMOCO_HOME"]).expanduser().absolute()
    return Path.home() / "hcmoco" if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") else Path.cwd()


def at_home(uri: str) -> str:
    """`uri`, or where it lies if it is a relative path. UserError for a local URI form that is not a plain path."""
    if not is_local(uri):
        return uri
    if "://" in uri and not uri.startswith(("file:///", "local:///")):
        raise UserError(f"path {uri!r} is not understood; give a plain path or a URI such as s3://bucket/folder")
    return str(home() / Path(uri.partition("://")[2] if "://" in uri else uri).expanduser())


def as_yaml(config: Config) -> str:
    """The resolved config, readable: one line for each small mapping."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=150)
