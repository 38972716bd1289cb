"""Find out whether every node of a cluster reaches a path: by a file that is written here and looked for there.

A path may lie on one machine's disk or on a file system that all machines mount (NFS, Lustre, EFS, a volume of
Kubernetes): its name does not tell, so it is tried.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hcmoco.errors import UserError
from hcmoco.storage import existing_parent
from hcmoco_ray.cluster.nodes import alive_nodes, ask_each

# A client of a network file system may show a new file only after it has asked the server again.
_APPEARS_S = 15.0
# Beginnings of the names of file systems that several machines mount.
_NETWORK = ("nfs", "lustre", "cifs", "smb", "ceph", "gpfs", "beegfs", "glusterfs", "fuse.gcsfuse", "fuse.s3fs", "9p")


def unreached_nodes(paths: Sequence[str]) -> list[list[str]]:
    """Find the nodes that do not see what this machine has at local paths, by one question to each node.

    Args:
        paths: need not exist: then the nearest folder above one is tried.

    Returns:
        The addresses of those nodes, for each path.

    Raises:
        UserError: a node does not answer.
    """
    folders = {path: _folder(path) for path in paths}
    with ExitStack() as tokens:
        seen: dict[str, str | list[str]] = {}
        for folder in dict.fromkeys(folders.values()):
            token = tokens.enter_context(token_in(folder))
            # A data set that only its owner may change: its files themselves are the token.
            seen[str(folder)] = _file_names(str(folder)) if token is None else token
        unreached = _ask_others(seen)
    return [unreached[str(folders[path])] for path in paths]


def _folder(path: str) -> Path:
    """Return the folder by which a path is tried: the nearest one at or above it."""
    nearest = existing_parent(Path(path).absolute())
    return nearest.parent if nearest.is_file() else nearest


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


def _ask_others(seen: Mapping[str, str | list[str]]) -> dict[str, list[str]]:
    """Return for each folder the addresses of the other nodes that do not see it.

    Args:
        seen: by folder, its token, or the names of its files.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = [node for node in alive_nodes() if node["NodeID"] != here]
    answers = ask_each(others, _missing, seen, whether=f"it reaches {' and '.join(seen)}")
    return {
        folder: sorted(
            node["NodeManagerAddress"] for node, missing in zip(others, answers, strict=True) if folder in missing
        )
        for folder in seen
    }


def _missing(seen: Mapping[str, str | list[str]]) -> list[str]:
    """Return the folders that this node does not see; the arguments are those of `_ask_others`."""
    gone = missing_files([token for token in seen.values() if isinstance(token, str)])
    return [
        folder
        for folder, token in seen.items()
        if (token in gone if isinstance(token, str) else _file_names(folder) != token)
    ]


def missing_files(paths: Sequence[str]) -> list[str]:
    """Return those of the files that do not exist, once some seconds have passed in which they may appear."""
    until = time.monotonic() + _APPEARS_S
    while True:
        missing = [path for path in paths if not Path(path).exists()]
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(0.2)


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
