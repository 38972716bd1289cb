"""Where relative paths of configs and command lines lie."""

import os
from pathlib import Path

from hcmoco.errors import UserError
from hcmoco.storage import is_local


def home() -> Path:
    """HCMOCO_HOME, else the current folder, but ~/hcmoco inside a submitted job, whose current folder is a copy that the cluster
    deletes."""
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
