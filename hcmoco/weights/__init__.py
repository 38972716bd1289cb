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
    if is_local(name) and not Path(name).exists() and _REPOSITORY.fullmatch(name):
        return _from_hub(name)
    raise UserError(
        f"{_place(name)}: no export is there (no config.json); give a folder or URI of a finished pre-training or its "
        f"export, owner/name of the Hugging Face Hub, or one of {', '.join(list_weights())}"
    )


def _place(name: str) -> str:
    """Where a name was looked for."""
    return absolute(name) if is_local(name) and name else repr(name)


def _from_hub(name: str) -> str:
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
