"""Find out whether every node of a cluster reaches a path: by a file that is written here and looked for there.

A path may lie on one machine's disk or on a file system that all machines mount (NFS, Lustre, EFS, a volume of
Kubernetes): its name does not tell, so it is tried.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcmoco.errors import UserError
from hcmoco.storage import existing_parent
from hcmoco_ray.cluster.nodes import alive_nodes, ask_each

# A client of a network file system may show a new file only after it has asked the server again.
_APPEARS_S = 15.0
# Beginnings of the names of file systems that several machines mount.
_NETWORK = ("nfs", "lustre", "cifs", "smb", "ceph", "gpfs", "beegfs", "glusterfs", "fuse.gcsfuse", "fuse.s3fs", "9p")


def unreached_nodes(path: str) -> list[str]:
    """Return the addresses of the nodes that do not see what this machine has at a local path.

    Args:
        path: need not exist: then the nearest folder above it is tried.

    Raises:
        UserError: a node does not answer.
    """
    folder = existing_parent(Path(path).absolute())
    if folder.is_file():
        folder = folder.parent
    with token_in(folder) as token:
        if token is None:
            # A data set that only its owner may change: its files themselves are the token.
            return _ask_others(_same_files, str(folder), _file_names(str(folder)))
        return _ask_others(appears, token)


@contextmanager
def token_in(folder: Path) -> Iterator[str | None]:
    """Keep a file in a folder for the length of a block, by whose presence other nodes see that they have the same one.

    Returns:
        Its path; None where the folder cannot be written to.
    """
    token = folder / f".hcmoco-seen-by-all-{uuid.uuid4().hex}"
    try:
        token.touch()
    except OSError:
        yield None
        return
    try:
        yield str(token)
    finally:
        token.unlink(missing_ok=True)


def _ask_others(question: Callable[..., bool], place: str, *arguments: object) -> list[str]:
    """Return the addresses of the other nodes that answer no."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = [node for node in alive_nodes() if node["NodeID"] != here]
    answers = ask_each(others, question, place, *arguments, whether=f"it reaches {place}")
    return sorted(node["NodeManagerAddress"] for node, reached in zip(others, answers, strict=True) if not reached)


def appears(path: str) -> bool:
    """Return whether a file exists, at the latest after some seconds."""
    until = time.monotonic() + _APPEARS_S
    while not Path(path).exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _same_files(folder: str, names: list[str]) -> bool:
    return _file_names(folder) == names


def _file_names(folder: str) -> list[str]:
    """Return the names and sizes of the files in a folder; empty if there is no such folder here."""
    path = Path(folder)
    return sorted(f"{each.name} {each.stat().st_size}" for each in path.iterdir()) if path.is_dir() else []


def check_store(uri: str, nodes: int) -> None:
    """Refuse an SQLite store on a network file system where the cluster has several nodes: its locks do not work there.

    Args:
        uri: of the tracking store.
        nodes: of the cluster.

    Raises:
        UserError: the store is one.
    """
    path = uri.removeprefix("sqlite:///")
    kind = file_system(path) if path != uri and nodes > 1 else ""
    if kind.startswith(_NETWORK):
        raise UserError(
            f"the tracking store {path} would be SQLite on a shared file system ({kind}), where its locks do not work; "
            "give a tracking server (tracking.uri=http://host:5000), or a file on this machine's own disk "
            "(tracking.uri=sqlite:////var/tmp/mlflow.db)"
        )


def file_system(path: str) -> str:
    """Return the kind of file system that a local path is on, such as ext4 or nfs4; "" if it cannot be found out."""
    import psutil

    folder = existing_parent(Path(path).absolute()).resolve()
    mounts = {each.mountpoint: each.fstype for each in psutil.disk_partitions(all=True)}
    for parent in (folder, *folder.parents):
        if str(parent) in mounts:
            return mounts[str(parent)]
    return ""
