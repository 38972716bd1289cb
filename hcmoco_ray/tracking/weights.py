"""Describe what a pre-training exports and what a fine-tuning leaves as logged models."""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from typing import Any

import hcmoco
from hcmoco import license_terms
from hcmoco.data.shards.reader import Shards
from hcmoco.license_terms import Terms
from hcmoco.masking import masked
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import ModelConfig
from hcmoco.storage import Folder, base_name
from hcmoco.tasks.base import Task
from hcmoco.tasks.registry import REGISTRY
from hcmoco_ray.tracking import pyfunc
from hcmoco_ray.tracking.data_sets import digest_of
from hcmoco_ray.tracking.mlflow_params import PARAM_LENGTH, TAG_LENGTH, clean_key, flatten
from hcmoco_ray.tracking.provenance import commit
from hcmoco_ray.tracking.records import SHA256, URI, LoggedModel, Pyfunc

ENCODERS = "encoders"
# What the loading of a model needs beside hcmoco, whose own requirements have no upper bounds.
_PINNED = ("torch", "torchvision", "timm", "numpy")
# Facts of a training that are long, or tags.
_NO_PARAMS = ("terms", "probes", "commit", "command", "data", "rows")


def measured_on(shards: Shards) -> tuple[str, str]:
    """Return name and digest of a data set in MLflow, by which a metric names what it was measured on."""
    return base_name(shards.uri), digest_of(shards.manifest)


def export_model(
    folder: str,
    model: ModelConfig,
    training: Mapping[str, Any],
    *,
    metrics: Iterable[str],
    held_out: Shards | None,
) -> LoggedModel:
    """Describe an export.

    Args:
        folder: path or URI of the export.
        model: config of the model.
        training: facts of the training, as config.json of the export has them.
        metrics: names of the run's metrics that its weights were measured with.
        held_out: the data set of those measurements.
    """
    encoders = {name: _encoder(getattr(model, name)) for name in ("rgb", "depth")}
    facts = {**_params(training), **encoders, "embedding": model.embedding, "joint_set": model.joint_set}
    return describe(
        folder,
        name=str(training["recipe"]),
        kind=ENCODERS,
        step=int(training["steps"]),
        facts=facts,
        tags=_tags(training, license_terms.of_training(dict(training), folder)),
        metrics={} if held_out is None else dict.fromkeys(metrics, measured_on(held_out)),
    )


def fine_tuned_model(
    folder: str,
    task: Task,
    encoder: EncoderConfig,
    training: Mapping[str, Any],
    *,
    metrics: Iterable[str],
    test: Shards,
    copied: bool,
) -> LoggedModel:
    """Describe a fine-tuned model, which MLflow can load if its task has an adapter.

    Args:
        folder: path or URI of the finished model.
        task: over the training data.
        encoder: config of its encoder.
        training: facts of the training, as config.json of the model has them.
        metrics: names of the run's metrics of the test.
        test: the data set of the test.
        copied: log a copy of the weights.
    """
    loadable = None
    if REGISTRY[task.name].adapter:
        loadable = Pyfunc(
            reference=pyfunc.make_reference(folder, task.name, copied=copied),
            signature=pyfunc.interface(task),
            example=pyfunc.example(task),
            requirements=(f"hcmoco=={hcmoco.__version__}", *map(_pinned, _PINNED)),
            weights=folder if copied else None,
        )
    return describe(
        folder,
        name=str(training["recipe"]),
        kind=task.name,
        step=int(training["steps"]),
        facts={**_params(training), "encoder": _encoder(encoder)},
        tags=_tags(training, license_terms.of_training(dict(training), folder)),
        metrics=dict.fromkeys(metrics, measured_on(test)),
        loadable=loadable,
    )


def describe(
    folder: str,
    *,
    name: str,
    kind: str,
    step: int,
    facts: Mapping[str, Any],
    tags: Mapping[str, str],
    metrics: Mapping[str, tuple[str, str]],
    loadable: Pyfunc | None = None,
) -> LoggedModel:
    """Describe the weights in a folder or at a URI. Passwords are left out.

    Args:
        folder: of an export or of a fine-tuned model; it has a config.json.
        name: of the run.
        kind, step, metrics: see `LoggedModel`.
        facts: the parameters, nested or flat.
        tags: more tags.
        loadable: see `LoggedModel.pyfunc`.
    """
    own = {URI: folder, SHA256: Folder(folder).sha256("config.json"), **tags}
    return LoggedModel(
        name=model_name(name),
        kind=kind,
        step=step,
        params={clean_key(key): masked(value)[:PARAM_LENGTH] for key, value in flatten(facts).items()},
        tags={key: masked(value)[:TAG_LENGTH] for key, value in own.items() if value},
        metrics={clean_key(key): data for key, data in metrics.items()},
        pyfunc=loadable,
    )


def model_name(text: str) -> str:
    """Return a name that MLflow takes for a logged model: it refuses / : . % " and '."""
    return re.sub(r"[/:.%\"']+", "-", text).strip("- ") or "model"


def _params(training: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key not in _NO_PARAMS}


def _tags(training: Mapping[str, Any], terms: Iterable[Terms]) -> dict[str, str]:
    return {
        "hcmoco.recipe": str(training["recipe"]),
        "hcmoco.commit": str(training.get("commit") or commit()),
        "hcmoco.version": hcmoco.__version__,
        "hcmoco.license": license_terms.in_one_line(terms),
    }


def _encoder(config: EncoderConfig) -> dict[str, Any]:
    return {"name": config.name, **({"init": config.init} if config.init != "scratch" else {})}


def _pinned(package: str) -> str:
    """A requirement of pip. A build such as 2.10.0+cpu is not what an index has."""
    return f"{package}=={importlib.metadata.version(package).partition('+')[0]}"
