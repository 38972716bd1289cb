"""Wrap the `main` of every program: a user's mistake becomes one line and status 2, a signal its exit status."""

import errno
import functools
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from hcmoco.errors import StorageError, UserError, one_line
from hcmoco.masking import masked
from hcmoco_ray.cluster import interrupts

KindT = TypeVar("KindT", bound=Exception)
_USERS_OS_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}


def find_user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError that `error` is, wraps or was caused by, through Ray's task and worker-group errors.

    Returns:
        None if there is no UserError among its causes.
    """
    return _find(error, UserError)


def find_line(error: BaseException | None) -> UserError | StorageError | None:
    """Return the UserError or else the StorageError that `error` is, wraps or was caused by.

    Its text is one line for the user. What may be started again after a StorageError asks `find_user_error` first.
    """
    return _find(error, UserError) or _find(error, StorageError)


def _find(error: BaseException | None, kind: type[KindT]) -> KindT | None:
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # A RayTaskError is an instance of its cause's class, and its own text is a traceback.
        cause = getattr(current, "cause", None)
        failures = getattr(current, "worker_failures", None)
        waiting += [current.__cause__, cause if isinstance(cause, BaseException) else None]
        waiting.append(getattr(current, "controller_failure", None))
        waiting += failures.values() if isinstance(failures, dict) else []
        if isinstance(current, kind) and not isinstance(cause, BaseException):
            return current
    return None


def print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without the secrets in it; for `sys.excepthook`."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def main_wrapper(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorate a program's `main` so that a user's mistake prints one line and not a traceback.

    A UserError or StorageError becomes `error: ...` on stderr and status 2. Ctrl-C and SIGTERM become a line and status
    130 or 143, `interrupts.SAVE_SIGNAL` one and status 75 once a train state is complete.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> int:
        try:
            with interrupts.handle_signals():
                try:
                    status = main(*args, **kwargs) or 0
                    interrupts.raise_if_interrupted()
                    return status
                except BaseException as error:
                    return _status_of(error)
        except KeyboardInterrupt:  # while an error was told, for example
            return interrupts.stopped_outside()

    return wrapped


def _status_of(error: BaseException) -> int:
    """Tell in one line why a program ends, and return its exit status. Raises what is no mistake of a user."""
    if isinstance(error, interrupts.SavedAndStopped):
        print(f"stopped; {masked(str(error))}; the same command resumes from there", file=sys.stderr)
        return interrupts.SAVED_STATUS
    # After a signal, errors while unwinding do not matter.
    if isinstance(error, KeyboardInterrupt) or interrupts.noted():
        return interrupts.say_stopped(str(error) if isinstance(error, KeyboardInterrupt) else "")
    mistake = find_line(error)
    if mistake is None and isinstance(error, OSError) and error.errno in _USERS_OS_ERRORS:
        mistake = UserError(one_line(error, 1000))
    if mistake is None:
        raise error
    print(f"error: {masked(str(mistake))}", file=sys.stderr)
    return 2
