"""Resolve relative paths of configs and command lines against HCMOCO_HOME, and name places for Ray."""

import os
from pathlib import Path
from typing import Any

from hcmoco.credentials import refuse_secret
from hcmoco.errors import UserError
from hcmoco.storage import Folder, absolute, is_local, join
from hcmoco.weights import IMAGENET, SCRATCH, TIMM, is_repository, list_weights, packaged_weights
from hcmoco_ray.compat import in_submitted_job


def home() -> str:
    """Return HCMOCO_HOME, a folder or a URI, else the current folder, or ~/hcmoco in a submitted job, whose folder is
    deleted.

    Raises:
        UserError: the URI holds a password or a secret key.
    """
    given = os.environ.get("HCMOCO_HOME")
    if given:
        refuse_secret(given, "HCMOCO_HOME")
        return absolute(given)
    return str(Path.home() / "hcmoco" if in_submitted_job() else Path.cwd())


def resolve_path(uri: str) -> str:
    """Return `uri` with a relative path made absolute, below `home()`.

    Raises:
        UserError: a local URI that is not a plain path, or a URI with a password or a secret key in it.
    """
    if not is_local(uri):
        refuse_secret(uri)
        return absolute(uri)
    if "://" in uri and not uri.startswith(("file:///", "local:///")):
        raise UserError(f"path {uri!r} is not understood; give a plain path or a URI such as s3://bucket/folder")
    path, above = os.path.expanduser(uri.partition("://")[2] if "://" in uri else uri), home()
    if os.path.isabs(path) or is_local(above):
        return str(Path(above) / path)
    below = os.path.normpath(path)
    if below.startswith(".."):
        raise UserError(f"path {uri!r} leads out of HCMOCO_HOME = {above}; give a path below it, or a whole URI")
    return above if below == "." else join(above, below)


def resolve_start(init: str) -> str:
    """Return where an encoder starts, with a relative path made absolute; words and names of weights in the
    package stay.

    Raises:
        UserError: see `resolve_path`.
    """
    return init if init in (SCRATCH, IMAGENET, TIMM) or packaged_weights(init) else resolve_path(init)


def resolve_model(name: str) -> str:
    """Return where a model is, with a relative path made absolute; names of weights in the package stay, and so does
    `owner/name` of the Hugging Face Hub where no such folder exists.

    Raises:
        UserError: see `resolve_path`.
    """
    place = name if name in list_weights("models") else resolve_start(name)
    return name if is_repository(name) and is_local(place) and not Path(place).exists() else place


def below_home(text: str) -> str:
    """Return a text with the paths below `home()` in it made relative, so that it can be shared."""
    head, _, query = join(home(), "").partition("?")
    text = text.replace(head, "")
    return text if is_local(head) or not query else text.replace(f"?{query}", "")


def ray_storage(out: str) -> dict[str, Any]:
    """Return where Ray Train and Tune keep their files below `out`, as arguments of their RunConfig."""
    folder = Folder(out).child("ray")
    if is_local(out):
        return {"storage_path": str(folder.local_path)}
    filesystem, path = folder.place
    return {"storage_path": path, "storage_filesystem": filesystem}
