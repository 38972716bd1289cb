"""Resolve relative paths of configs and command lines against HCMOCO_HOME, and name places for Ray."""

import os
from pathlib import Path
from typing import Any

from hcmoco.credentials import refuse_secret
from hcmoco.errors import UserError
from hcmoco.storage import Folder, absolute, is_local
from hcmoco_ray.compat import in_submitted_job


def home() -> Path:
    """Return HCMOCO_HOME, else the current folder, or ~/hcmoco in a submitted job, whose folder is deleted."""
    if os.environ.get("HCMOCO_HOME"):
        return Path(os.environ["HCMOCO_HOME"]).expanduser().absolute()
    return Path.home() / "hcmoco" if in_submitted_job() else Path.cwd()


def resolve_path(uri: str) -> str:
    """Return `uri` with a relative path made absolute.

    Raises:
        UserError: a local URI that is not a plain path, or a URI with a password or a secret key in it.
    """
    if not is_local(uri):
        refuse_secret(uri)
        return absolute(uri)
    if "://" in uri and not uri.startswith(("file:///", "local:///")):
        raise UserError(f"path {uri!r} is not understood; give a plain path or a URI such as s3://bucket/folder")
    return str(home() / Path(uri.partition("://")[2] if "://" in uri else uri).expanduser())


def ray_storage(out: str) -> dict[str, Any]:
    """Return where Ray Train and Tune keep their files below `out`, as arguments of their RunConfig."""
    folder = Folder(out).child("ray")
    if is_local(out):
        return {"storage_path": str(folder.local_path)}
    filesystem, path = folder.place
    return {"storage_path": path, "storage_filesystem": filesystem}
