"""Measure what averaging gradients adds to a step, sent while the backward pass goes on and sent after it.

    python benchmarks/averaging.py --link 1gbit     # two processes whose link is that slow; Linux, as root
    python benchmarks/averaging.py                  # as fast as this machine exchanges with itself

The model is the paper's pair of HRNet-W18, with few rows of noise. Two processes of one thread each, gloo; both ways
take turns. From the moments at which the buckets were ready, as shares of the backward pass, and from their bytes the
time at 8 workers over 25 Gbit/s is computed for backward passes of several lengths: a model, not a measurement.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks.step import SIZES, Bench, load_config
from hcmoco.training.averaging import Averaging
from hcmoco.training.distributed import running_statistics

WORKERS = 2
OVERRIDES = [
    *("augment.size=96", "train.lanes=2", "train.batch_size_per_lane=4", "train.precision=float32"),
    "objective.num_negatives=0",
]
# What is modeled.
RANKS, BITS_PER_S = 8, 25e9
HOP_S = 30e-6  # start of one exchange with a neighbor in the ring: TCP within a data center
PASSES_MS = (50, 100, 200)


def ring_s(num_bytes: float, ranks: int = RANKS) -> float:
    """Seconds of a ring all-reduce: each worker sends 2 (n - 1) / n of the bytes, in 2 (n - 1) exchanges."""
    return 2 * (ranks - 1) * (num_bytes * 8 / ranks / BITS_PER_S + HOP_S)


def added_s(pass_s: float, ready: Sequence[float], sizes: Sequence[int], rest: int) -> float:
    """Seconds that a step takes beyond its backward pass of `pass_s`.

    Args:
        ready: when each bucket is, as a share of the pass.
        sizes: their bytes.
        rest: bytes that are sent after them.
    """
    free = 0.0
    for share, size in zip(ready, sizes, strict=True):
        free = max(free, share * pass_s) + ring_s(size)
    return max(free, pass_s) + ring_s(rest) - pass_s


class Seen:
    """What averaging does in each step: the shares of the backward pass at which buckets were sent, and the seconds
    after the pass."""

    def __init__(self) -> None:
        self.shares: list[list[float]] = []
        self.after: list[float] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Patches `Averaging`. Times of the pass are CPU time of this thread, which other programs do not stretch."""
        overlapping, send, finish = Averaging.overlapping, Averaging._send, Averaging.finish
        sent: list[float] = []

        @contextmanager
        def timed_pass(averaging: Averaging) -> Iterator[None]:
            sent.clear()
            begun = time.thread_time()
            with overlapping(averaging):
                yield
            length = time.thread_time() - begun
            count = len(averaging.buckets)
            self.shares.append([min(1.0, (each - begun) / length) for each in [*sent, *[float("inf")] * count][:count]])

        def timed_send(averaging: Averaging) -> None:
            sent.append(time.thread_time())
            send(averaging)

        def timed_finish(averaging: Averaging, flag: float = 0.0) -> torch.Tensor:
            begun = time.perf_counter()
            mean = finish(averaging, flag)
            self.after.append(time.perf_counter() - begun)
            return mean

        with (
            patch.object(Averaging, "overlapping", timed_pass),
            patch.object(Averaging, "_send", timed_send),
            patch.object(Averaging, "finish", timed_finish),
        ):
            yield


def plain(bench: Bench) -> None:
    """A step that sends its gradients after the backward pass."""
    losses = bench.run.losses
    with patch.object(bench.run, "losses", lambda batch: dataclasses.replace(losses(batch), meets_workers=True)):
        bench.step()


def counted(step: Callable[[], None]) -> int:
    """Bytes that one step hands to all-reduce."""
    total, reduce = 0, dist.all_reduce

    def count(tensor: torch.Tensor, *args, **settings):
        nonlocal total
        total += tensor.nbytes
        return reduce(tensor, *args, **settings)

    with patch.object(dist, "all_reduce", count):
        step()
    return total


def on_the_link() -> int:
    """Bytes that the loopback interface has carried."""
    line = next(each for each in Path("/proc/net/dev").read_text().splitlines() if each.strip().startswith("lo:"))
    return int(line.split()[9])


def behind_link(link: str) -> int:
    """Run this program again in a network of its own, whose only interface is that slow."""
    if missing := [each for each in ("unshare", "ip", "tc") if not shutil.which(each)]:
        sys.exit(f"error: --link needs {', '.join(missing)} (util-linux and iproute2); leave it out")
    limit = f"tc qdisc add dev lo root tbf rate {link} burst 256kb latency 1s"
    again = [sys.executable, *sys.argv, "--inside"]
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", f'ip link set lo up && {limit} && exec "$@"', "sh", *again], check=False
    ).returncode


def main() -> None:
    parser = arguments(__doc__, rounds=9, quick="small encoders and 2 rounds")
    parser.add_argument("--link", help="speed of the link between the processes, as tc writes it: 1gbit")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    # What the benchmark calls itself with.
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    for name in ("--rank", "--meeting"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.link and not given.inside:
        sys.exit(behind_link(given.link))
    if given.rank:
        return work(given, int(given.rank), given.meeting)
    with tempfile.TemporaryDirectory(prefix="ha-") as folder:
        meeting = f"{folder}/meeting"
        with subprocess.Popen(
            [sys.executable, *sys.argv, "--rank", "1", "--meeting", meeting], stderr=subprocess.DEVNULL
        ) as other:
            try:
                work(given, 0, meeting)
            except BaseException:
                other.kill()
                raise


def work(given: argparse.Namespace, rank: int, meeting: str) -> None:
    """One of the two processes; the first prints."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    limit = timedelta(minutes=10)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS, timeout=limit)
    recipe, overrides = SIZES["paper"]
    small = [f"model.{each}.name=hrnet_w18_small" for each in ("rgb", "depth")] if given.quick else []
    config = load_config(recipe, [*overrides, *OVERRIDES, *small, *given.overrides])
    bench = Bench(config, torch.device("cpu"))
    seen: dict[str, Seen] = {"plain": Seen(), "overlapped": Seen()}
    steps: dict[str, Callable[[], None]] = {"plain": lambda: plain(bench), "overlapped": bench.step}

    def timed(name: str) -> float:
        dist.barrier()
        with seen[name].watching():
            begun = time.perf_counter()
            steps[name]()
            return time.perf_counter() - begun

    arms = {name: (lambda name=name: timed(name)) for name in steps}
    in_turns(arms, 1)
    for each in seen.values():
        each.shares, each.after = [], []
    payload = counted(bench.step)
    before = on_the_link() if given.link else 0
    found = in_turns(arms, 2 if given.quick else given.rounds)
    steps_done = sum(map(len, found.values()))
    carried = (on_the_link() - before) / (WORKERS * steps_done) if given.link else None
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        report(given, bench, found, seen, payload, carried)


def report(
    given: argparse.Namespace,
    bench: Bench,
    found: dict[str, list[float]],
    seen: dict[str, Seen],
    payload: int,
    carried: float | None,
) -> None:
    """The table."""
    config, buckets = bench.config, bench.run.optim_step.averaging.buckets
    sizes = [each.nbytes for each in buckets]
    rest = payload - sum(sizes)
    shares = [sorted(each)[len(each) // 2] for each in zip(*seen["overlapped"].shares, strict=True)]
    settings = {
        "encoders": f"{config.model.rgb.name} and {config.model.depth.name}",
        "pixels": config.augment.size,
        "rows": len(bench.batch),
        "workers": WORKERS,
        "link": given.link or "this machine",
        "buckets": len(buckets),
        "ready at": " ".join(f"{each:.2f}" for each in shares),
    }
    table = Table("averaging-quick" if given.quick else "averaging", settings)
    table.add("step, overlapped / plain, wall time", ratios(found["overlapped"], found["plain"]), limit=1.0)
    for name in found:
        table.add(f"step, {name}", [1e3 * each for each in found[name]], "ms")
        table.add(f"  of it after the backward pass, {name}", [1e3 * each for each in seen[name].after], "ms")
    early = [
        sum(size for size, share in zip(sizes, each, strict=True) if share < 0.9) / sum(sizes)
        for each in seen["overlapped"].shares
    ]
    table.add("share of the gradient that is sent in the first 90 % of the backward pass", early, better="higher")
    statistics = sum(len(each) for each in running_statistics(bench.run.model))
    table.add(
        "a step's all-reduce, payload", payload / 1e6, "MB", note=f"{rest / 1e6:.2f} MB of it: {statistics} buffers"
    )
    if carried is not None:
        table.add(f"  sent by each of {WORKERS} workers, as the link counts", carried / 1e6, "MB")
    table.add(f"  sent by each of {RANKS} workers in a ring", 2 * (RANKS - 1) / RANKS * payload / 1e6, "MB")
    table.add(
        f"model: {RANKS} workers, 25 Gbit/s: all of it after the pass",
        1e3 * (sum(map(ring_s, [sum(sizes), rest]))),
        "ms",
    )
    for length in PASSES_MS:
        added = added_s(length / 1e3, shares, sizes, rest)
        table.add(
            f"model: added to a backward pass of {length} ms, overlapped",
            1e3 * added,
            "ms",
            note=f"{added / length * 1e3:.1%} of it",
        )
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)
