"""Record which version of the program produced a result."""

import subprocess
from functools import cache

import torch

import hcmoco
from hcmoco_ray.cluster.session import ROOT


def made_by() -> dict[str, str]:
    """Return the versions and the commit for the record of a result."""
    return {"hcmoco": hcmoco.__version__, "torch": torch.__version__, "commit": commit()}


@cache
def commit() -> str:
    """Return the checkout's commit, 12 digits, with "+changes" if tracked files differ; "" outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
