"""Count the CPUs that this process may use: its affinity, and the quota of the container around it.

A container with a quota of two CPUs (`docker run --cpus=2`, a limit of Kubernetes) sees all CPUs of its machine. A
program that starts a thread for each is then stopped by the kernel for most of the time.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cpus_here() -> int:
    """Return the number of CPUs that this process may use, at least 1; a part of a CPU counts as a whole one."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return own if quota is None else max(1, min(own, math.ceil(quota - 0.01)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPUs' worth of time that the control groups of this process allow it; None without a limit.

    The smallest of the limits of its own group and of those above it, in both versions of control groups.

    Args:
        root: of the file system that has `proc` and `sys`.
    """
    limits = [limit for folder in _groups(root) for limit in (_limit_v2(folder), _limit_v1(folder)) if limit]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the groups of this process that may limit its CPUs, and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
    for line in mounts:
        fields, _, more = line.partition(" - ")
        kind, *options = more.split()
        if kind == "cgroup2":
            path = own.get("")
        elif kind == "cgroup" and "cpu" in options[-1].split(","):
            path = next((path for controllers, path in own.items() if "cpu" in controllers.split(",")), None)
        else:
            continue
        if path is None:
            continue
        # A container often sees its own group as the root of the mount, though the path names it from the host's.
        top, mount = fields.split()[3:5]
        folder = root / mount.lstrip("/")
        below = path.removeprefix(top) if top != "/" else path
        group = folder / below.strip("/")
        if not group.is_dir():
            group = folder
        while True:
            yield group
            if group == folder:
                break
            group = group.parent


def _limit_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _limit_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
