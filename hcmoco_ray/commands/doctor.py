"""Look over every node of the cluster: a table, and a line for each fault that says what mends it.

    python -m hcmoco_ray doctor
    python -m hcmoco_ray doctor --storage s3://bucket/runs --tracking-uri http://mlflow:5000 --json doctor.json

The cluster is that of RAY_ADDRESS; without it, Ray is started on this machine. Each node is asked for its versions,
GPUs, storage, MLflow, clock, network, disks, memory and the settings of its Ray. It takes no CPU and writes a few
MB to the storage, which it deletes again. The exit status is 0 without a fault, 1 with one, 2 for a wrong argument.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hcmoco.credentials import refuse_secret
from hcmoco.errors import StorageError, UserError
from hcmoco.storage import Folder, is_local
from hcmoco_ray import cli
from hcmoco_ray.cluster import session
from hcmoco_ray.cluster.entrypoint import main_wrapper
from hcmoco_ray.doctor import table
from hcmoco_ray.paths import home, resolve_path
from hcmoco_ray.tracking.config import URI, TrackingConfig, private_access, with_environment


@main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    if not given.timeout > 0:
        raise UserError(f"--timeout {given.timeout:g}: must be more than 0 s")
    storage = resolve_path(given.storage) if given.storage else home()
    if not is_local(storage):
        with contextlib.suppress(StorageError):  # each node says for itself whether it reaches it
            Folder(storage).check_readable()
    if given.tracking_uri:
        refuse_secret(given.tracking_uri, "--tracking-uri")
        if not _is_served(given.tracking_uri):
            raise UserError(
                f"--tracking-uri {given.tracking_uri}: give a server that nodes can reach, http://host:5000, or a "
                "database, postgresql://host/name or mysql://host/name"
            )
        config = TrackingConfig(uri=given.tracking_uri)
    else:
        config = with_environment(TrackingConfig())
    uri, variables = private_access(config, Path.cwd())
    tracking = uri if _is_served(uri) else None  # a file only the program itself uses
    if given.json and not Path(given.json).absolute().parent.is_dir():
        raise UserError(f"--json {given.json}: there is no folder {Path(given.json).absolute().parent}; make it first")
    return _run(given, storage, tracking, variables)


def _is_served(uri: str) -> bool:
    """Return whether the URI is that of a tracking store which several nodes can reach."""
    return uri.startswith(("http://", "https://", "postgresql", "mysql"))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument(
        "--storage",
        metavar="URI",
        help="folder or URI to write to, read from and delete in (default: HCMOCO_HOME, else the current folder)",
    )
    parser.add_argument("--tracking-uri", metavar="URI", help=f"MLflow server to ask (default: {URI}, if it is set)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds that a node has for an answer (default 60)"
    )
    parser.add_argument("--json", metavar="FILE", help="file to write everything to that was measured")
    return parser


def _run(given: argparse.Namespace, storage: str, tracking: str | None, variables: dict[str, str]) -> int:
    session.connect()
    from hcmoco_ray.doctor.run import Request, examine

    report = examine(Request(storage, home(), given.timeout, tracking, variables))
    print(table.render(report))
    if given.json:
        Path(given.json).write_text(json.dumps(table.as_json(report), indent=2) + "\n")
        print(f"all of it: {given.json}", file=sys.stderr)
    return int(bool(report.lines("fault")))
