"""Pre-trained weights by name: those in this package, and those on the Hugging Face Hub.

A folder beside this file is an export (see `hcmoco.export`), with its card.
"""

import re
from pathlib import Path

from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, absolute, is_local, join

SCRATCH, IMAGENET, TIMM = "scratch", "imagenet", "timm"
"""Words for where an encoder starts that name no file: drawn from the seed, and weights that timm publishes."""

_HERE = Path(__file__).parent
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["config.json", "*.safetensors", "README.md"]


def list_weights() -> list[str]:
    """Return the names of the weights in this package, for `hcmoco.load` and `init=`."""
    return sorted(each.parent.name for each in _HERE.glob("*/config.json"))


def packaged_weights(name: str) -> str | None:
    """Return the folder of weights in this package; None if there are none of this name."""
    return str(_HERE / name) if name in list_weights() else None


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
