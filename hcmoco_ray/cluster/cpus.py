"""Count the CPUs that this process may use: its affinity, and the quota of the container around it.

A container with a quota of two CPUs (`docker run --cpus=2`, a limit of Kubernetes) sees all CPUs of its machine. A
program that starts a thread for each is then stopped by the kernel for most of the time.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CpuLimit:
    """A limit of a control group, of either version.

    Attributes:
        cpus: CPUs' worth of time.
        group: folder of the group that has it.
    """

    cpus: float
    group: Path

    def used_seconds(self) -> float | None:
        """Return the CPU seconds that the group's processes have used so far; None if the kernel does not say."""
        # In version 1 another controller counts, which may be mounted apart: the groups of both have the same names.
        for group in (self.group, Path(f"{self.group}/".replace("/cpu/", "/cpuacct/", 1))):
            try:
                usage = re.search(r"^usage_usec (\d+)$", (group / "cpu.stat").read_text(), re.MULTILINE)
                if usage:
                    return int(usage[1]) / 1e6
            except OSError:
                pass
            try:
                return int((group / "cpuacct.usage").read_text()) / 1e9
            except (OSError, ValueError):
                continue
        return None


def cpus_here() -> int:
    """Return the number of CPUs that this process may use, at least 1; a part of a CPU counts as a whole one."""
    own, limit = len(allowed_cpus()), cpu_limit()
    return own if limit is None else max(1, min(own, math.ceil(limit.cpus - 0.01)))


def allowed_cpus() -> set[int]:
    """Return the numbers of the CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cpu_limit(root: Path = Path("/")) -> CpuLimit | None:
    """Return what the control groups of this process allow it; None without a limit.

    The smallest of the limits of its own group and of those above it, in both versions of control groups.

    Args:
        root: of the file system that has `proc` and `sys`.
    """
    found = ((folder, limit) for folder in _groups(root) for limit in (_limit_v2(folder), _limit_v1(folder)))
    limits = [CpuLimit(limit, folder) for folder, limit in found if limit]
    return min(limits, key=lambda limit: limit.cpus, default=None)


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
