"""Say in one line why Ray did not start here, or why a cluster cannot be joined, and what helps.

Ray tells the first as errors of many types, some after half a minute of silence, and the second as tracebacks.
"""

import errno
import os
import re
import shutil
import socket
import sys
from pathlib import Path

from hcmoco.errors import UserError, one_line
from hcmoco_ray.cluster.ray_start import refused_token

ADDRESS = "RAY_ADDRESS"
NEEDED_BYTES = 16 << 20
"""Free disk space without which Ray is not started. It starts in 0.1 MB, and then its processes write their logs."""

# What Ray puts below its folder, its process id aside, and how long the path of a socket may be.
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_/sockets/plasma_store"
_LONGEST_PATH = 103 if sys.platform == "darwin" else 107

_LOGGED = 20_000  # characters of each log
_BUSY = "most likely because it is busy"
_CHOOSE = "set RAY_TMPDIR to"
_WAYS = (
    "give the address of the head's GCS, RAY_ADDRESS=<head>:6379, where this program runs on a machine of the cluster, "
    "or send it there with `ray job submit --address=http://<head>:8265`"
)
_TOKEN = ("AuthenticationError", "authentication token", "Unauthenticated", "UNAUTHENTICATED", "InvalidAuthToken")


def ray_folder() -> Path:
    """Return the folder in which a Ray that is started here keeps its sessions' folders: that of Ray's own rule."""
    above = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(above, "ray")


def check_folder() -> None:
    """Find out before Ray is started that it cannot start in its folder.

    Raises:
        UserError: the folder's name is too long for sockets, it cannot be written to, or its disk is full.
    """
    folder = ray_folder()
    longest = _LONGEST_PATH - len(_SOCKET) - len(str(os.getpid()))
    if len(os.fsencode(folder.parent.absolute())) > longest:
        raise UserError(
            f"Ray cannot start in {folder.parent}: its name is too long for the sockets below it (at most {longest} "
            f"bytes); {_CHOOSE} a folder with a short name, such as /tmp"
        )
    parent = _nearest(folder.absolute())  # what is below it, Ray makes
    if not parent.is_dir():
        raise UserError(f"Ray cannot start in {folder}: {parent} is not a folder; {_CHOOSE} another folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        owner = _owner(parent)
        raise UserError(
            f"Ray cannot start in {folder}: {parent} belongs to {owner} and cannot be written to; "
            f"{_CHOOSE} a folder of your own, such as /tmp/{_user()}"
        )
    free = shutil.disk_usage(parent).free
    if free < NEEDED_BYTES:
        raise UserError(
            f"Ray cannot start in {folder}: its disk has {free / 1e6:.0f} MB free, {NEEDED_BYTES / 1e6:.0f} MB are "
            f"needed; make room, or {_CHOOSE} a folder on another disk"
        )


def not_started(error: BaseException) -> UserError:
    """Return the error that says why Ray, which was started here, did not come up."""
    said, logged = one_line(error, 300), f"{error} {_logged()}"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in logged:
        return UserError("Ray did not start on this machine: too many open files; raise their limit: ulimit -n 65536")
    if number in (errno.EAGAIN, errno.ENOMEM) or os.strerror(errno.EAGAIN) in logged:
        return UserError(
            f"Ray did not start on this machine ({said}); it needs more processes or memory: end other programs, or "
            "raise `ulimit -u` and the container's limits"
        )
    if any(sign in f"{type(error).__name__} {error}" for sign in _TOKEN):
        return UserError(
            f"Ray did not start on this machine ({said}); RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', '')} asks for "
            "a token: unset it, or create one with `ray get-auth-token --generate`"
        )
    if timed_out(error):
        return UserError(
            f"Ray did not start on this machine ({said}), {_BUSY}: its load is {os.getloadavg()[0]:.0f} on "
            f"{os.cpu_count()} CPUs; run the same command again when it is less so; its "
            f"logs are in {_logs()}"
        )
    return UserError(
        f"Ray did not start on this machine ({said}); its logs are in {_logs()}; "
        f"if they do not help, {_CHOOSE} another folder"
    )


def timed_out(error: BaseException) -> bool:
    """Return whether Ray gave up waiting for a part of itself, which may only need longer on a busy machine."""
    return re.search(r"timed? ?out|deadline exceeded", f"{type(error).__name__} {error}", re.IGNORECASE) is not None


def may_start(reason: UserError) -> bool:
    """Return whether Ray may start if it is given more time, by what `not_started` says."""
    return _BUSY in str(reason)


def _logs() -> Path:
    """Return the folder of the logs of the newest Ray that this program has started; its name ends in our number."""
    own = sorted(ray_folder().glob(f"session_*_{os.getpid()}"))
    return (own[-1] if own else ray_folder() / "session_latest") / "logs"


def _logged() -> str:
    """Return the beginnings of what the processes wrote that this program has started as they failed."""
    logs = _logs()
    try:
        return "\n".join(path.read_text(errors="replace")[:_LOGGED] for path in sorted(logs.glob("*.err")))
    except OSError:
        return ""


def check_address(address: str) -> None:
    """Refuse an address that no program can join.

    Raises:
        UserError: it is an HTTP address, that of Ray Client, or not of the form host:port; or nothing listens there.
    """
    scheme, separator, _ = address.partition("://")
    if separator and scheme in ("http", "https"):
        raise UserError(f"{ADDRESS}={address} is the dashboard's address, which takes jobs; {_WAYS}")
    if separator:
        raise UserError(f"{ADDRESS}={address}: a training cannot run through {scheme}://; {_WAYS}")
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"{ADDRESS}={address} is not of the form host:port; {_WAYS}")
    try:
        # At once, where Ray would try for two minutes.
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise not_joined(address, error) from None
    if said := refused_token(address):
        raise _without_token(address, said)


def _without_token(address: str, said: str) -> UserError:
    return UserError(
        f"the Ray cluster at {ADDRESS}={address} asks for a token ({said}); set RAY_AUTH_MODE=token, and "
        "RAY_AUTH_TOKEN_PATH to a file with the token that it was started with (on its head ~/.ray/auth_token)"
    )


def not_joined(address: str, error: BaseException) -> UserError:
    """Return the error that says why a cluster was not joined."""
    said = one_line(error, 300)
    if isinstance(error, socket.gaierror):
        return UserError(f"{ADDRESS}={address}: this machine does not know that name ({said}); correct it")
    if any(sign in f"{type(error).__name__} {error}" for sign in _TOKEN):
        return _without_token(address, said)
    found = re.search(r"Ray cluster at (\S+:\d+)", said) if address == "auto" else None
    if found and (refusal := refused_token(found[1])):
        return _without_token(address, refusal)
    if "Version mismatch" in str(error):
        return UserError(f"the Ray cluster at {ADDRESS}={address} has another version of Ray or Python ({said})")
    return UserError(
        f"no Ray cluster answers at {ADDRESS}={address} ({said}); start it with `ray start --head`, correct the "
        f"address, or unset {ADDRESS} to start Ray on this machine alone"
    )


def _nearest(path: Path) -> Path:
    """Return the nearest folder or file at or above a path that exists and can be seen."""
    for each in (path, *path.parents):
        try:
            if each.exists():
                return each
        except PermissionError:  # a folder above it lets nobody look inside
            continue
    return path


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return f"user {path.stat().st_uid}"


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
