"""Take the values that a node measured for good or bad: one pure function for each row of the table."""

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SKEW_S = 1.0
"""Seconds between two clocks from which on times in logs and in MLflow mislead."""

OPEN_FILES = 4096
"""Limit of open files below which connections between the processes of a training may fail."""

FREE_BYTES = 1 << 30
"""Free bytes that a disk on which runs lie should have."""

STOP_WAIT_S = 10.0
"""Seconds that a program may take after SIGTERM, see hcmoco_ray/cluster/interrupts.py."""

NOTICED_S, IDLE_MS = 30.0, 10_000
"""A loss that is noticed later, and idle processes that are ended sooner, deserve advice on several nodes."""

_RAY_FULL = 0.95  # Ray's default of the share of a disk, and of the memory, from which on it refuses work
_HEALTH = "RAY_health_check_"
_HEALTH_DEFAULTS = {"period_ms": 3000, "timeout_ms": 10000, "failure_threshold": 5}


@dataclass(frozen=True)
class Verdict:
    """What a row of the table says of a node.

    Attributes:
        text: of the cell.
        line: what is wrong, and the command or setting that mends it; "" where nothing is.
        level: of `line`. Advice is no fault: the cluster works, and would do better.
    """

    text: str
    line: str = ""
    level: Literal["fault", "advice"] = "fault"

    @property
    def is_fault(self) -> bool:
        return bool(self.line) and self.level == "fault"


@dataclass(frozen=True)
class NodeFacts:
    """What Ray says of a node.

    Attributes:
        address: that Ray uses.
        hostname: the machine's name.
        is_head: whether Ray's head runs there.
        num_gpus: that Ray counts.
        object_store_bytes: of its object store.
    """

    address: str
    hostname: str
    is_head: bool
    num_gpus: float
    object_store_bytes: float


def name(machine: Mapping[str, Any], node: NodeFacts, nodes: int) -> Verdict:
    """The address that the node's own name resolves to; with one node nobody else asks for it."""
    addresses, own = machine["resolves"], machine["name"]
    mend = f"put the line `{node.address} {own}` into /etc/hosts there"
    if not addresses:
        return Verdict("unknown", f"its own name {own} resolves to no address; {mend}") if nodes > 1 else Verdict("-")
    first = addresses[0]
    if nodes == 1 or not ipaddress.ip_address(first.partition("%")[0]).is_loopback:
        return Verdict(first)
    interface = machine["settings"].get("GLOO_SOCKET_IFNAME")
    ours = f" (hcmoco's own workers are not affected: gloo takes {interface})" if interface else ""
    return Verdict(
        first,
        f"its own name {own} resolves to {first}, so programs that offer others that address, as PyTorch's gloo does, "
        f"are not found from other nodes{ours}; {mend}, in place of {first}",
    )


def memory(machine: Mapping[str, Any]) -> Verdict:
    """Free memory; Ray ends workers where nearly all is used."""
    used, total = machine["memory_used"], machine["memory_total"]
    limit = float(machine["settings"].get("RAY_memory_usage_threshold", _RAY_FULL))
    text = f"{_size(total - used)} of {_size(total)} free"
    if used < limit * total:
        return Verdict(text)
    return Verdict(
        text,
        f"{used / total:.0%} of its memory is used, and Ray ends workers above {limit:.0%}; end other "
        "programs there, or give it more memory",
    )


def ray_disk(machine: Mapping[str, Any]) -> Verdict:
    """Free space in Ray's folder for temporary files."""
    free, total = machine["disk_ray"]
    limit = float(machine["settings"].get("RAY_local_fs_capacity_threshold", _RAY_FULL))
    text = f"{_size(free)} of {_size(total)} free"
    if total - free <= limit * total:
        return Verdict(text)
    return Verdict(
        text,
        f"the disk of Ray's temporary files is {1 - free / total:.0%} full, and above {limit:.0%} Ray "
        "makes no more objects there; make room, or start Ray with --temp-dir on another disk",
    )


def home_disk(machine: Mapping[str, Any]) -> Verdict:
    """Free space in the folder below which runs lie, where the node has it."""
    if machine["disk_home"] is None:
        return Verdict("-")
    free, total = machine["disk_home"]
    text = f"{_size(free)} of {_size(total)} free"
    if free >= FREE_BYTES:
        return Verdict(text)
    return Verdict(
        text,
        f"the disk of HCMOCO_HOME has {_size(free)} free; make room, or set HCMOCO_HOME or output_dir to another disk",
    )


def shared_memory(machine: Mapping[str, Any], node: NodeFacts) -> Verdict:
    """/dev/shm beside the object store that Ray keeps in it."""
    total, folder = machine["shm_total"], machine["plasma_folder"]
    store = node.object_store_bytes
    if total is None:
        return Verdict("-")
    text = f"{_size(total)}, store {_size(store)}"
    mend = (
        f"give it more (`mount -o remount,size={1.2 * store / (1 << 20):.0f}M /dev/shm`, in a container --shm-size, in "
        "Kubernetes a volume `emptyDir: {medium: Memory}`), or start Ray with a smaller --object-store-memory"
    )
    if total < store:
        return Verdict(text, f"/dev/shm has {_size(total)}, less than the object store's {_size(store)}; {mend}")
    if folder and not folder.startswith("/dev/shm"):
        return Verdict(text, f"the object store lies in {folder}, on a disk, and not in /dev/shm; {mend}")
    return Verdict(text)


def open_files(machine: Mapping[str, Any]) -> Verdict:
    """The limit of open files of Ray's processes."""
    if machine["open_files"] is None:
        return Verdict("-")
    soft, hard = machine["open_files"]
    if soft < 0 or soft >= OPEN_FILES:
        return Verdict("no limit" if soft < 0 else str(soft))
    how = "`ulimit -n 65536`" + (
        "" if hard < 0 or hard >= 65536 else f" (its hard limit is {hard}: raise that as root)"
    )
    return Verdict(
        str(soft), f"Ray's processes may have {soft} files and connections open; run {how} before `ray start`"
    )


def node_loss(machine: Mapping[str, Any], node: NodeFacts, nodes: int, system_config: Mapping[str, Any]) -> Verdict:
    """After how many seconds the head gives a silent node up: failures * (pause + limit of an answer)."""
    if not node.is_head:
        return Verdict("-")
    values = {}
    for key, default in _HEALTH_DEFAULTS.items():
        values[key] = int(system_config.get(f"health_check_{key}", machine["settings"].get(_HEALTH + key, default)))
    seconds = values["failure_threshold"] * (values["period_ms"] + values["timeout_ms"]) / 1e3
    if nodes == 1 or seconds <= NOTICED_S:
        return Verdict(f"{seconds:.0f} s")
    return Verdict(
        f"{seconds:.0f} s",
        f"a silent node is given up after {seconds:.0f} s; for 9 s set {_HEALTH}initial_delay_ms=1000 "
        f"{_HEALTH}period_ms=1000 {_HEALTH}timeout_ms=2000 {_HEALTH}failure_threshold=3 where `ray start --head` runs",
        "advice",
    )


def stop_wait(machine: Mapping[str, Any], node: NodeFacts, nodes: int) -> Verdict:
    """How long Ray lets a submitted job end by itself."""
    if not node.is_head:
        return Verdict("-")
    seconds = float(machine["settings"].get("RAY_JOB_STOP_WAIT_TIME_S", 3))
    if nodes == 1 or seconds >= STOP_WAIT_S:
        return Verdict(f"{seconds:g} s")
    return Verdict(
        f"{seconds:g} s",
        f"`ray job stop` kills a program after {seconds:g} s, before it has closed its run; set "
        "RAY_JOB_STOP_WAIT_TIME_S=15 where `ray start --head` runs",
        "advice",
    )


def idle_processes(machine: Mapping[str, Any], nodes: int) -> Verdict:
    """How long Ray keeps a process that pauses."""
    milliseconds = int(machine["settings"].get("RAY_idle_worker_killing_time_threshold_ms", 1000))
    if nodes == 1 or milliseconds >= IDLE_MS:
        return Verdict(f"{milliseconds / 1e3:g} s")
    return Verdict(
        f"{milliseconds / 1e3:g} s",
        f"Ray ends a process that reads after {milliseconds / 1e3:g} s without work and starts it anew; set "
        "RAY_idle_worker_killing_time_threshold_ms=20000 where `ray start` runs",
        "advice",
    )


def notice(machine: Mapping[str, Any], nodes: int) -> Verdict:
    """Whether Ray was started through the service that announces the node's end, and how long before."""
    grace = machine["announced_s"]
    if grace is not None:
        return Verdict(f"{grace} s")
    if nodes == 1:
        return Verdict("none")
    return Verdict(
        "none",
        "its end is not announced, so a training there goes on from its last state; start Ray by "
        "`python -m hcmoco_ray node -- ray start --block ...`",
        "advice",
    )


def usual(values: Sequence[str], of_head: str | None) -> str:
    """Return the value that most nodes have; where two are as frequent, the head's, else the first."""
    counts = Counter(values)
    most = max(counts.values())
    frequent = [value for value in counts if counts[value] == most]
    return of_head if of_head in frequent else frequent[0]


def version(own: str, usual: str, what: str, mend: str) -> Verdict:
    """A version beside that of the other nodes."""
    if own == usual:
        return Verdict(own)
    return Verdict(own, f"it has {what} {own}, and the others have {usual}; {mend}")


def clock(measured: Mapping[str, float]) -> Verdict:
    """The clock beside the head's; what the measurement leaves open does not count."""
    offset, uncertainty = measured["offset_s"], measured["uncertainty_s"]
    text = f"{_signed(offset)} +- {_signed(uncertainty).lstrip('+')}"
    if abs(offset) - uncertainty <= SKEW_S:
        return Verdict(text)
    way = "ahead of" if offset > 0 else "behind"
    return Verdict(
        text,
        f"its clock is {abs(offset):.1f} s {way} the head's; let a time service run there "
        "(`timedatectl set-ntp true`, or chrony)",
    )


def storage(measured: Mapping[str, Any], uri: str) -> Verdict:
    """Reach and speed of the storage."""
    text = f"w {_rate(measured['write_mb_s'])} r {_rate(measured['read_mb_s'])} MB/s"
    if measured["sees_token"] is False:
        return Verdict(
            "another folder",
            f"{uri} there is not the folder that this machine has; mount it at the same path on all nodes, or take an "
            "object store (s3://bucket/folder)",
        )
    return Verdict(text)


def gigabytes_per_s(measured: Mapping[str, Any]) -> Verdict:
    """Bus bandwidth of an all-reduce."""
    return Verdict(f"{measured['gb_per_s']:.3g} GB/s")


def _signed(seconds: float) -> str:
    if abs(seconds) >= 1:
        return f"{seconds:+.1f} s"
    return f"{round(seconds * 1e3, 1) + 0.0:+.1f} ms"  # + 0.0: -0.0 has no sign then


def _rate(megabytes: float) -> str:
    return f"{megabytes:.0f}" if megabytes >= 10 else f"{megabytes:.1f}"


def _size(num_bytes: float) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30)):
        if num_bytes >= size:
            return f"{num_bytes / size:.{1 if num_bytes < 100 * size else 0}f} {unit}"
    return f"{num_bytes / (1 << 20):.0f} MiB"
