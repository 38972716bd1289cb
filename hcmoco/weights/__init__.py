"""Weights by name: those in this package, and those on the Hugging Face Hub.

A folder beside this file is one of two kinds, with its card: an export of pre-trained encoders (see `hcmoco.export`),
or a fine-tuned model that predicts (see `hcmoco.finetuning.saved_model`).
"""

import json
import re
from pathlib import Path
from typing import Literal, get_args

from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, absolute, is_local, join

SCRATCH, IMAGENET, TIMM = "scratch", "imagenet", "timm"
"""Words for where an encoder starts that name no file: drawn from the seed, and weights that timm publishes."""

_HERE = Path(__file__).parent
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["config.json", "*.safetensors", "README.md"]


Kind = Literal["encoders", "models"]
_FORMATS = {"hcmoco-encoders": "encoders", "hcmoco-task": "models"}
_ARE = {
    "encoders": "pre-trained encoders, for hcmoco.load, init= of finetune.py, and export.py",
    "models": "a fine-tuned model, for predict.py and evaluate.py",
}


def list_weights(kind: Kind = "encoders") -> list[str]:
    """Return the names of the weights in this package.

    Args:
        kind: "encoders" are pre-trained, for `hcmoco.load`, `init=` and export.py; "models" are fine-tuned for a task,
            for predict.py and evaluate.py.

    Raises:
        ValueError: another kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is {kind!r}: encoders or models")
    return sorted(name for name, each in _kinds().items() if each == kind)


def describe_weights() -> list[str]:
    """Return a line for each of the weights in this package: its name and what it is."""
    return [f"{name}: {_ARE[kind]}" for name, kind in sorted(_kinds().items())]


def packaged_weights(name: str, kind: Kind = "encoders") -> str | None:
    """Return the folder of weights in this package; None if there are none of this name.

    Raises:
        UserError: there are, and they are of the other kind.
    """
    found = _kinds().get(name)
    if found not in (None, kind):
        there = ", ".join(list_weights(kind)) or "none in the package"
        raise UserError(f"{name} is {_ARE[found]}; needed is {_ARE[kind]}: {there}, or a folder of your own")
    return str(_HERE / name) if found else None


def _kinds() -> dict[str, Kind]:
    """The kind of each of the weights in this package, by name."""
    files = _HERE.glob("*/config.json")
    return {each.parent.name: _FORMATS[json.loads(each.read_bytes())["format"]] for each in files}  # type: ignore[misc]


def format_of(folder: str) -> str:
    """Return the format that the config.json of a folder or URI names, "" without one."""
    try:
        facts = json.loads(Folder(folder).read("config.json"))
    except (OSError, ValueError, UserError):
        return ""
    return str(facts.get("format", "")) if isinstance(facts, dict) else ""


def find_weights(name: str) -> str:
    """Return the folder or URI of an export.

    Args:
        name: of weights in this package (a folder of the same name is `./name`), a folder or URI of an export or of a
            finished pre-training, or `owner/name` on the Hugging Face Hub.

    Raises:
        UserError: nothing of that name exists; the hub cannot be reached, or lacks it.
    """
    if packaged := packaged_weights(name):
        return packaged
    for folder in (name.rstrip("/"), join(name.rstrip("/"), "export")):
        if Folder(folder).exists("config.json"):
            return folder
    if is_repository(name) and not Path(name).exists():
        return from_hub(name)
    raise UserError(
        f"{_place(name)}: no export is there (no config.json); give a folder or URI of a finished pre-training or its "
        f"export, owner/name of the Hugging Face Hub, or one of {', '.join(list_weights())}"
    )


def export_folder(init: str) -> str | None:
    """Return the folder of the export: weights of this package by name, `init` itself, or the export of a finished run;
    None if it is none of them."""
    if packaged := packaged_weights(init):
        return packaged
    init = init.rstrip("/")
    return next(
        (
            folder
            for folder in (init, join(init, "export"))
            if is_folder(folder) and Folder(folder).exists("config.json")
        ),
        None,
    )


def is_folder(uri: str) -> bool:
    """Return whether a path or URI is a folder that exists."""
    if is_local(uri) and Path(absolute(uri)).is_dir():
        return True
    try:
        folder = Folder(uri)
        return bool(folder.sizes() or folder.folders())
    except (OSError, ValueError):
        return False


def not_an_export(key: str, init: str) -> UserError:
    """Return the error that a folder holds no encoders of ours."""
    where = absolute(init) if is_local(init) else init
    return UserError(
        f"{key}: {where} is neither an export nor a finished run of pretrain.py (it has no config.json and no "
        "export/); give one of these, a weights file, imagenet or scratch"
    )


def encoder_weights(init: str, modality: str) -> str:
    """Return the weights file of one encoder.

    Args:
        init: weights in this package by name, the folder or URI of an export or of a finished run, or anything else,
            which is returned as it is: a weights file, or a word such as "scratch".
        modality: "rgb", "depth" or "keypoints".

    Raises:
        UserError: a folder that is none of these.
    """
    if init in (SCRATCH, IMAGENET, TIMM):
        return init
    if folder := export_folder(init):
        return join(folder, f"{modality}.safetensors")
    if is_folder(init):
        raise not_an_export("init", init)
    return init


def is_repository(name: str) -> bool:
    """Return whether a name has the form `owner/name` of a repository of the Hugging Face Hub."""
    return is_local(name) and bool(_REPOSITORY.fullmatch(name))


def _place(name: str) -> str:
    """Where a name was looked for."""
    return absolute(name) if is_local(name) and name else repr(name)


def from_hub(name: str) -> str:
    """Return the folder of a repository's snapshot, downloaded or from the local cache.

    Raises:
        UserError: the hub cannot be reached, or has no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from hcmoco.models.hub import is_reachable

    try:
        return snapshot_download(name, allow_patterns=_FILES, local_files_only=not is_reachable())
    except LocalEntryNotFoundError:
        raise UserError(
            f"{_place(name)}: no folder is there, and the Hugging Face Hub cannot be reached, nor does "
            "its local cache hold this repository; give a folder, or try again with a network"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"{name}: no folder is there, and the Hugging Face Hub says: {one_line(error)}") from error
