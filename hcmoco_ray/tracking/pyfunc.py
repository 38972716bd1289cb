"""Load a fine-tuned model where MLflow asks for it, and predict the rows of a table. No Ray is needed.

A logged model holds no code and nothing that is unpickled: its MLmodel names this module, and its data is a folder
with one file, or with a copy of the weights beside it:

<data>/reference.json    the task, where the weights are, and the SHA-256 of their files
<data>/model/            a copy of the model, where the training was told to log one (tracking.log_weights)

`interface` says what the model takes and gives, in MLflow's form. `_load_pyfunc` is the name that MLflow calls.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcmoco.errors import StorageError, UserError
from hcmoco.storage import Folder, join

REFERENCE, COPY = "reference.json", "model"
FORMAT, FORMAT_VERSION = "hcmoco-model-reference", 1
FACTS, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_DEVICE = "MLFLOW_DEFAULT_PREDICTION_DEVICE"


def make_reference(folder: str, task: str, *, copied: bool) -> dict[str, Any]:
    """Return the content of reference.json.

    Args:
        folder: folder or URI of a finished model.
        task: its name.
        copied: whether its files lie beside reference.json.
    """
    from hcmoco.tasks.registry import REGISTRY

    files = Folder(folder)
    entry = REGISTRY[task]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": task,
        "entry": {"task": entry.task, "adapter": entry.adapter},
        "folder": None if copied else folder,
        "sha256": {name: files.sha256(name) for name in (FACTS, WEIGHTS)},
    }


def _load_pyfunc(path: str) -> "PyfuncModel":
    """Load the model of a folder with a reference; called by `mlflow.pyfunc.load_model`.

    Raises:
        MlflowException: in one line: the weights cannot be read, or they are not those that were logged.
    """
    try:
        return PyfuncModel(path)
    except (UserError, StorageError) as error:
        raise _said(error) from None


class PyfuncModel:
    """A fine-tuned model as MLflow calls it.

    Args:
        path: folder of reference.json.

    Raises:
        UserError: the weights cannot be read, or they are not those that were logged.
    """

    def __init__(self, path: str):
        import torch

        from hcmoco.finetuning.saved_model import load_model
        from hcmoco.inference.table import TablePredictor
        from hcmoco.tasks.registry import Entry, register_all

        reference = _read_reference(path)
        register_all({reference["task"]: Entry(**reference["entry"])})  # of the user's own package, too
        folder = reference["folder"] or str(Path(path, COPY))
        wanted = reference["sha256"]
        _check(folder, FACTS, wanted)
        saved = load_model(folder)  # compares the weights with config.json
        if saved.digest != wanted[WEIGHTS]:
            raise UserError(_changed(folder, WEIGHTS))
        self._predictor = TablePredictor(saved, torch.device(_device(torch.cuda.is_available())))

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Predict the pictures of a table.

        Args:
            model_input: a DataFrame, or a list of mappings, with the columns of hcmoco/inference/table.py.
            params: `depth_unit`, `min_score`; see there.

        Returns:
            A DataFrame with one row for each of the input and its index; its columns are those of the results there.

        Raises:
            MlflowException: in one line: a row or a parameter is not what it must be.
        """
        import pandas

        from hcmoco.inference.table import COLUMNS, PICTURES

        table = model_input if isinstance(model_input, pandas.DataFrame) else pandas.DataFrame(model_input)
        try:
            if not set(PICTURES) & set(table.columns):  # pandas has no row without a column
                raise UserError(f"give a column with the pictures: one of {', '.join(PICTURES)}")
            results = self._predictor.predict(table.to_dict("records"), **dict(params or {}))
        except UserError as error:
            raise _said(error) from None
        # As objects: pandas would turn a missing width into NaN, and the others into floating point.
        return pandas.DataFrame(results, columns=list(COLUMNS), index=table.index, dtype=object)


def _said(error: Exception) -> Exception:
    """A server of MLflow shows its callers the message of its own errors alone."""
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value(str(error))


def _read_reference(path: str) -> dict[str, Any]:
    try:
        reference = json.loads(Path(path, REFERENCE).read_bytes())
        if (reference["format"], reference["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError
        return {key: reference[key] for key in ("task", "entry", "folder", "sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} holds no {REFERENCE} that this hcmoco reads; log the model again, with the hcmoco of this "
            "environment"
        ) from None


def _check(folder: str, name: str, wanted: Mapping[str, str]) -> None:
    try:
        data = Folder(folder).read(name)
    except OSError:
        raise UserError(
            f"the logged model refers to the weights in {folder}, which this machine does not reach; make the folder "
            "reachable, or train with tracking.log_weights=true, which logs a copy"
        ) from None
    if hashlib.sha256(data).hexdigest() != wanted[name]:
        raise UserError(_changed(folder, name))


def _changed(folder: str, name: str) -> str:
    return (
        f"{join(folder, name)} is not what was logged: another model lies there now; load the model of the run that "
        "wrote it, or restore the files"
    )


def _device(has_gpu: bool) -> str:
    wanted = os.environ.get(_DEVICE) or ("cuda" if has_gpu else "cpu")
    if wanted.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"{_DEVICE}={wanted}: must be cpu or cuda, or a number of it, such as cuda:1")
    if wanted.startswith("cuda") and not has_gpu:
        raise UserError(f"{_DEVICE}={wanted}: PyTorch finds no usable GPU here; set it to cpu")
    return wanted


def interface(task: Any) -> dict[str, Any]:
    """Return what a model of a task takes and gives: MLflow's signature, as its `ModelSignature.from_dict` reads it.

    Args:
        task: a `hcmoco.tasks.base.Task`.
    """
    from hcmoco.inference import table

    # Of any type: MLflow refuses whole numbers in an array of floating point ones. `table.py` checks them.
    numbers = {"type": "any"}
    columns: dict[str, dict[str, Any]] = {
        table.PATH: {"type": "string"},
        table.IMAGE: {"type": "binary"},
        table.PIXELS: {"type": "any"},
    }
    if task.name != "densepose":
        columns[table.BOXES] = numbers
    needs_camera = "camera" in task.columns
    if needs_camera:
        columns[table.CAMERA] = numbers
    params: list[dict[str, Any]] = []
    if task.modality == "depth":
        params.append({"name": "depth_unit", "type": "string", "default": None, "shape": None})
    if task.name == "densepose":
        params.append({"name": "min_score", "type": "double", "default": table.MIN_SCORE, "shape": None})
    outputs: dict[str, dict[str, Any]] = {
        table.ERROR: {"type": "string"},
        table.WARNING: {"type": "string"},
        table.WIDTH: {"type": "long"},
        table.HEIGHT: {"type": "long"},
        table.PEOPLE: {"type": "any"},
    }
    signature: dict[str, Any] = {
        "inputs": json.dumps(
            [
                {"name": name, "required": needs_camera and name == table.CAMERA, **kind}
                for name, kind in columns.items()
            ]
        ),
        "outputs": json.dumps([{"name": name, "required": False, **kind} for name, kind in outputs.items()]),
    }
    return {**signature, **({"params": json.dumps(params)} if params else {})}


def example(task: Any) -> dict[str, Any]:
    """Return a row that a model of a task can predict: a synthetic person, so that no picture of a data set is logged.

    Args:
        task: a `hcmoco.tasks.base.Task`.
    """
    from hcmoco.data.depth_masking import UNMASKED, masking_of
    from hcmoco.inference import table
    from hcmoco.synthetic import PeopleConfig, make_person

    config = PeopleConfig(size=96, masked_depth=masking_of(task.about) != UNMASKED)
    person = make_person(config, 0, dataset="people", split="example")
    row: dict[str, Any] = {table.IMAGE: person.depth if task.modality == "depth" else person.rgb}
    if task.name != "densepose":
        assert person.box is not None
        row[table.BOXES] = [[round(float(each), 1) for each in person.box]]
    if "camera" in task.columns:
        assert person.camera is not None
        row[table.CAMERA] = [round(float(each), 2) for each in person.camera]
    return row
