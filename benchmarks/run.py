"""Measure a short `pipelines/pretrain.py` with one worker, and an empty Trainer of that size.

    python benchmarks/run.py --data data/bench        # people as in `ingest.py`; without --data in a temporary folder

Measured are the time until the first step, the share of a step that waits for data, the bytes that are spilled, and the
memory of all processes. Each run is its own program, from the start of Python on, with its own Ray cluster.
"""

import argparse
import contextlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._measure import Table, arguments, in_turns, run
from benchmarks._results import ROOT

WORKERS = 1  # of the recipe people-cpu
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="few people, 1 round, 20 steps")
    parser.add_argument(
        "--data", type=Path, help="folder of the people; made where they are not there (default: a temporary folder)"
    )
    parser.add_argument("--count", type=int, default=600, help="people (default 600)")
    parser.add_argument(
        "--steps", type=int, default=100, help="steps of each of the two stages of the longer run (default 100)"
    )
    parser.add_argument("--empty", type=Path, help=argparse.SUPPRESS)  # what the benchmark calls itself with
    given = parser.parse_args()
    if given.steps <= 15:
        parser.error(
            "--steps: must be more than 15: the first 10 steps of a stage do not count, and every fifth is looked at"
        )
    if given.empty:
        return empty_trainer(given.empty)
    if given.quick:
        given.rounds, given.count, given.steps = 1, 64, 10
    with tempfile.TemporaryDirectory(prefix="hb-") as temporary:
        measure(given, given.data or Path(temporary, "data"), Path(temporary))


def measure(given: argparse.Namespace, data: Path, temporary: Path) -> None:
    """The whole benchmark."""
    make_people(data, given.count)
    settings = {"recipe": "people-cpu", "workers": WORKERS, "people": given.count, "steps": 2 * given.steps}
    table = Table("run-quick" if given.quick else "run", settings)

    def first_step() -> float:
        run = pretrain(data, temporary, {"stages.stage1_steps": 1, "stages.stage2_steps": 1, "train.log_every": 1})
        return run.first_step - run.begun

    def empty() -> float:
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            begun = time.time()
            watched([sys.executable, __file__, "--empty", str(Path(folder, "entered"))], Path(folder))
            return float(Path(folder, "entered").read_text()) - begun

    starts = in_turns({"first step": first_step, "empty": empty}, given.rounds)
    beyond = [a - b for a, b in zip(starts["first step"], starts["empty"], strict=True)]
    table.add("first step done, beyond an empty Trainer's loop begun", beyond, "s", limit=10)
    table.add("  program begun to first step done", starts["first step"], "s")
    table.add("  program begun to an empty Trainer's loop begun", starts["empty"], "s")

    runs = [
        pretrain(
            data,
            temporary,
            {"stages.stage1_steps": given.steps, "stages.stage2_steps": given.steps, "train.log_every": 5},
        )
        for _ in range(max(1, given.rounds // 2))
    ]
    # The first stretch of each stage finds empty queues or a stop for probes.
    waits = [
        [value for step, value in each.metrics("perf/data_wait_share") if step % given.steps > 10 or given.quick]
        for each in runs
    ]
    table.add(
        "share of a step that waits for data, both stages", [value for each in waits for value in each], limit=0.02
    )
    table.add("  the same, mean of each run", [sum(each) / len(each) for each in waits])
    table.add("rows per second", [value for each in runs for _, value in each.metrics("perf/samples_per_s")], "/s")
    table.add("spilled", [each.spilled for each in runs], "bytes", limit=0)
    table.add(
        "peak proportional set size of all processes", [each.peak / 1e9 for each in runs], "GB", note=runs[0].largest
    )
    table.add("program begun to its end", [each.ended - each.begun for each in runs], "s")
    table.show()
    table.write(given.results)


def make_people(data: Path, count: int) -> None:
    """Those that `ingest.py` makes, and some held out for the probes."""
    import ray

    from benchmarks import ingest
    from hcmoco.datasets.synthetic import NumberedPeople
    from hcmoco_ray.prepare.reader import Source
    from hcmoco_ray.prepare.run import prepare

    ingest.make_people(data, 128, count)
    people = NumberedPeople(domain="indoor", size=128, seed=3, count=64, split="held-out")
    prepare(Source("people", people, seed=3), str(data / "people-held-out-128"))
    ray.shutdown()


@dataclass(frozen=True)
class Run:
    """What was seen of one program. Times are seconds since the epoch; `peak` is bytes."""

    begun: float
    ended: float
    peak: int
    largest: str
    spilled: int
    numbers: list[tuple[str, int, float, float]]

    @property
    def first_step(self) -> float:
        return min(at for key, step, _, at in self.numbers if key == "train/loss" and step == 1)

    def metrics(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one metric."""
        return [(step, value) for key, step, value, _ in sorted(self.numbers, key=lambda each: each[1]) if key == name]


def overrides(data: Path, folder: str, over: dict[str, int]) -> list[str]:
    """Overrides of the recipe for a run in a folder over people that are there."""
    values = {
        "output_dir": f"{folder}/run",
        **{
            f"data.{each}.people": "null" for each in ("sources.indoor", "sources.wild", "held_out")
        },  # fewer than the recipe's
        "data.sources.indoor.path": data / "people-indoor-128",
        "data.sources.wild.path": data / "people-wild-128",
        "data.held_out.path": data / "people-held-out-128",
        "train.workers": WORKERS,
        **over,
    }
    return [f"{key}={value}" for key, value in values.items()]


def pretrain(data: Path, temporary: Path, over: dict[str, int]) -> Run:
    """A run of `pipelines/pretrain.py` over people that are there."""
    with tempfile.TemporaryDirectory(dir=temporary) as folder:
        program = [sys.executable, str(ROOT / "pipelines" / "pretrain.py"), "--recipe", "people-cpu"]
        begun, ended, peak, largest, spilled = watched(program + overrides(data, folder, over), Path(folder))
        with contextlib.closing(sqlite3.connect(f"{folder}/run/mlflow.db")) as store:
            rows = store.execute("select key, step, value, timestamp from metrics").fetchall()
        return Run(
            begun, ended, peak, largest, spilled, [(key, step, value, at / 1e3) for key, step, value, at in rows]
        )


def watched(command: list[str], folder: Path) -> tuple[float, float, int, str, int]:
    """Run a program to its end. Raises RuntimeError if it fails.

    Returns:
        Start and end time, the peak of the proportional set size, the processes that had it, and the spilled bytes.
    """
    # Sockets below must fit in 107 bytes, so Ray's folder lies directly in the temporary one.
    with tempfile.TemporaryDirectory(prefix="hr-") as ray_folder, open(folder / "output", "w+") as output:
        begun = time.time()
        environment = {**psutil.Process().environ(), "RAY_TMPDIR": ray_folder, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        peak, largest = 0, ""
        while process.poll() is None:
            sizes = dict(proportional_set_sizes(process.pid))
            if sum(sizes.values()) > peak:
                peak = sum(sizes.values())
                top = sorted(sizes.items(), key=lambda each: -each[1])[:4]
                largest = ", ".join(f"{name} {size / 1e6:.0f} MB" for (name, _), size in top)
            time.sleep(0.5)
        ended = time.time()
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command[1:4])} ended with {process.returncode}:\n{output.read()[-3000:]}")
        return begun, ended, peak, largest, spilled_bytes(Path(ray_folder))


def proportional_set_sizes(pid: int) -> Iterator[tuple[tuple[str, int], int]]:
    """((name, process id), bytes) of a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for each in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                yield (" ".join(each.cmdline()[:1])[-32:] or each.name(), each.pid), each.memory_full_info().pss


def spilled_bytes(ray_folder: Path) -> int:
    """Return the bytes that the raylets of a Ray folder spilled, by their logs. Raises RuntimeError without a log."""
    logs = list(ray_folder.glob("**/raylet.out"))
    if not logs:
        raise RuntimeError(f"no raylet has written its log below {ray_folder}")
    total = 0.0
    for log in logs:
        said = re.findall(r"Spilled ([0-9.]+) ?(B|KiB|MiB|GiB)", log.read_text())
        total += max((float(number) * _UNITS[unit] for number, unit in said), default=0)
    return int(total)


def empty_trainer(entered: Path) -> None:
    """A program with a Trainer of WORKERS whose loop notes when it begins."""
    import os

    from hcmoco_ray.cluster import session
    from hcmoco_ray.train.launch import TRAIN_ENV

    session.connect()
    os.environ.update(TRAIN_ENV)
    import ray.train
    import ray.train.torch

    def loop() -> None:
        if ray.train.get_context().get_world_rank() == 0:
            entered.write_text(str(time.time()))

    ray.train.torch.TorchTrainer(
        loop,
        scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.5}),
        run_config=ray.train.RunConfig(storage_path=str(entered.parent)),
        torch_config=ray.train.torch.TorchConfig(backend="gloo"),
    ).fit()


if __name__ == "__main__":
    run(main)
