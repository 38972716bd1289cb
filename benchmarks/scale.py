"""Measure what a run's data costs before the first row is read: seconds and memory of each of its processes.

    python benchmarks/scale.py                       # 1,000, 10,000 and 100,000 shards of 1,000 rows
    python benchmarks/scale.py --shards 1000 --items 6000     # and how Ray Data's executor grows, item by item

Nothing is simulated but the rows. A data set is a manifest as `prepare` writes it, beside files of the lengths that it
says, which hold nothing. It is opened as `pipelines/pretrain.py` opens it, and its plan is that of a run of a million
steps. Every figure is of a process of its own, from the first step and from a train state in the middle. `peak` is the
largest resident memory of that process, and `imports` what it held before it began.

driver   opens the data, plans the run, and packs the job for the workers
worker   unpacks the job, and knows its first work item and the run's identity
reader   a process that reads: unpacks the job, and finds the rows of its first item; then of 64 more
bank     makes the three memory banks, bounded to a million rows
ray      a whole Ray Data execution with two reading tasks, up to the first item and on; its items hold no pictures
mlflow   logs reports of 60 metrics to SQLite, and goes on with that run
"""

import argparse
import json
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._measure import Table, arguments, in_turns, run
from benchmarks._results import ROOT
from hcmoco.data.shards.manifest import File, Manifest, Provenance, write_manifest
from hcmoco.data.shards.writer import group_sizes
from hcmoco.rng import make_rng
from hcmoco.storage import Folder

ROWS = 1000  # of a shard
STEPS, LANES, LANE_ROWS, WORLD = 1_000_000, 512, 32, 512
BANK_ROWS = 1_000_000
MORE_ITEMS, KEYS = 64, 60
Result = dict[str, float]


def write_data(folder: Path, shards: int) -> None:
    """Write a data set without rows: `shards` files of about 60 MB each, which take no room, and their manifest."""
    from hcmoco.data.schema import SCHEMA_VERSION

    folder.mkdir(parents=True)
    sizes, files = tuple(group_sizes(ROWS)), []
    for number in range(shards):
        lengths = make_rng(0, "lengths", number).integers(40_000, 80_000, len(sizes)) * sizes
        offsets = [4]
        for length in lengths.tolist():
            offsets.append(offsets[-1] + length)
        name = f"part-{number:05d}.parquet"
        digest = make_rng(0, "digest", number).bytes(32).hex()
        files.append(File(name=name, bytes=offsets[-1] + 9000, sha256=digest, group_rows=sizes, offsets=tuple(offsets)))
        with open(folder / name, "wb") as empty:
            empty.truncate(files[-1].bytes)
    rows = ROWS * shards
    write_manifest(
        Folder(str(folder)),
        Manifest(
            dataset="people",
            joints="mpii-16",
            schema_version=SCHEMA_VERSION,
            rows=rows,
            splits={"train": rows},
            modalities=dict.fromkeys(("rgb", "depth", "keypoints"), rows),
            rejected=0,
            reasons={},
            rejected_examples=(),
            files=tuple(files),
            provenance=Provenance(program="benchmarks/scale.py"),
        ),
    )


def driver(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """What `pretrain` does with its data between its config and the start of the workers."""
    from ray import cloudpickle

    from hcmoco.training.checkpoint import check_identity
    from hcmoco_ray.config import PretrainRecipe, check
    from hcmoco_ray.prepare import ensure
    from hcmoco_ray.train.pretrain import PretrainRun, make_loader

    begun = Clock()
    values: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "data": {"sources": {"people": {"path": str(folder / "data")}}},
        "objective": {"bank_rows": BANK_ROWS},
        "stages": {"stage1_steps": 0, "stage2_steps": STEPS},
        "train": {"lanes": LANES, "batch_size_per_lane": LANE_ROWS, "workers": WORLD, "gpu": True},
    }
    config = check(PretrainRecipe, values, "of benchmarks/scale.py")
    for source in config.data.sources.values():
        ensure.rows(source)  # for the estimate of memory and disk
    planned = PretrainRun(config).open_data(step)
    if step:
        check_identity(json.loads(json.dumps(planned.identity)), planned.identity, "")
    loader = make_loader(config, planned.plan, planned.sources)
    job = cloudpickle.dumps(loader)
    (folder / "job").write_bytes(job)
    return begun.read() | {
        "job MB": len(job) / 1e6,
        "manifest MB": (folder / "data" / "manifest.json").stat().st_size / 1e6,
    }


def worker(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """The last of the workers, but for its model and the bank."""
    import hcmoco.pretraining.loop  # noqa: F401 - as a worker has it

    data, begun = (folder / "job").read_bytes(), Clock()
    loader = pickle.loads(data)
    _ = loader.plan.description
    next(loader.own_items(rank=WORLD - 1, world=WORLD, first_step=step))
    loader.plan.epochs_at(step)
    return begun.read()


def reader(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """A process that runs tasks which read: it opens the loader once, see `OpenedOnce`."""
    import hcmoco_ray.ingest.dataset  # noqa: F401 - as a task has it

    data, begun = (folder / "job").read_bytes(), Clock()
    plan = pickle.loads(data).plan
    window = plan.window_of(step)
    plan.item(window, 0)
    result, begun = begun.read(), Clock()
    for lane in range(1, MORE_ITEMS + 1):
        plan.item(window, lane)
    return result | {"ms of each further item": 1e3 * begun.read()["CPU s"] / MORE_ITEMS}


def bank(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """The banks of a run over this data."""
    from hcmoco.objectives import ObjectiveConfig
    from hcmoco.pretraining.banks import make_banks

    rows = ROWS * given.shards[0]
    begun = Clock()
    banks = make_banks(ObjectiveConfig(bank_rows=BANK_ROWS), samples=rows, width=128, seed=0, device="cpu")
    for each in banks.values():
        each.rows.fill_(0.0)  # pages that nobody has written to take no memory
    return begun.read()


def ray(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """The execution runs in this process, as it does where one process trains."""
    import psutil
    import ray as library

    from hcmoco.data.loader import PretrainLoader
    from hcmoco_ray.ingest import dataset

    class WithoutPictures(PretrainLoader):
        def item(self, window: int, lane: int) -> Any:
            import pyarrow as pa

            rows = [each.row for step in self.plan.item(window, lane) for each in step]
            return pa.table({"row": rows})

    loader = pickle.loads((folder / "job").read_bytes())
    loader = WithoutPictures(loader.plan, loader.sources, loader.collate)
    library.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=500 << 20)
    before, begun, held = psutil.Process().memory_info().rss, Clock(), []
    items = dataset.plan_items(loader)
    numbers = items.of_worker(0, 1, dataset.first_item(loader.plan, step))
    for count, _ in enumerate(dataset.read(items, numbers)):
        if count == 0:
            result, rest = begun.read(), Clock()
        if count in (given.items // 2, given.items):
            held.append(psutil.Process().memory_info().rss)
        if count == given.items:
            break
    each = rest.read()["s"] / given.items
    library.shutdown()
    growth = (held[1] - held[0]) / (given.items - given.items // 2) / 1e3
    return {
        **result,
        "ms between items": 1e3 * each,
        "kB that each item leaves": growth,
        "MB of the execution": (held[1] - before) / 1e6,
    }


def mlflow(folder: Path, step: int, given: argparse.Namespace) -> Result:
    """What the writer of a run costs, as many reports as `--reports`, and what a resumed run does with it."""
    from hcmoco_ray.tracking.mlflow_writer import Writer

    database = folder / "mlflow.db"
    database.unlink(missing_ok=True)
    writer = Writer(f"sqlite:///{database}", "scale")
    run = writer.start(None, "scale", {}, {})
    empty, begun = database.stat().st_size, Clock()
    for number in range(given.reports):
        writer.metrics(run, 10 * number, {f"train/loss/{key:02d}-other": 0.5 for key in range(KEYS)}, 0)
    writer.flush()
    spent = begun.read()["CPU s"]
    grown = database.stat().st_size - empty
    begun = Clock()
    Writer(f"sqlite:///{database}", "scale").start(run, None, {}, {})
    points = given.reports * KEYS
    return {
        **begun.read(),
        "ms of a report": 1e3 * spent / given.reports,
        "bytes of a value": grown / points,
        "GB of 100,000 reports": grown / given.reports / 1e4,
    }


class Clock:
    """What this process has spent since."""

    def __init__(self) -> None:
        self._start, self._spent = time.perf_counter(), time.process_time()
        self._imports = _memory("VmRSS")

    def read(self) -> Result:
        return {
            "s": time.perf_counter() - self._start,
            "CPU s": time.process_time() - self._spent,
            "peak MB": _memory("VmHWM"),
            "imports MB": self._imports,
        }


def _memory(name: str) -> float:
    """MB of this process; of its own memory alone, where the resource module would count its parent's."""
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1e3


STAGES: dict[str, Callable[[Path, int, argparse.Namespace], Result]] = {
    stage.__name__: stage for stage in (driver, worker, reader, bank, ray, mlflow)
}
RESUMED = ("driver", "worker", "reader", "ray")


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick="100 and 300 shards, 1 round")
    parser.add_argument("--shards", type=int, nargs="+", default=[1000, 10_000, 100_000], help="sizes of the data sets")
    parser.add_argument("--items", type=int, default=300, help="items that Ray Data gives (default 300)")
    parser.add_argument("--reports", type=int, default=400, help="reports to MLflow (default 400)")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), help="some of the processes")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)  # what the benchmark calls itself with
    given = parser.parse_args()
    if given.stage:
        name, folder, step = given.stage
        result = STAGES[name](Path(folder), int(step), given)
        print(json.dumps(result))
        return
    if given.quick:
        given.shards, given.rounds, given.items, given.reports = [100, 300], 1, 20, 20
    settings = {"rows of a shard": ROWS, "steps": STEPS, "lanes": LANES, "workers": WORLD, "rows a step": LANES * 32}
    table = Table("scale-quick" if given.quick else "scale", settings)
    for shards in given.shards:
        with tempfile.TemporaryDirectory(prefix="hcmoco-scale-") as temporary:
            write_data(Path(temporary, "data"), shards)
            measure(table, Path(temporary), shards, given)
    table.show()
    table.write(given.results)


def measure(table: Table, folder: Path, shards: int, given: argparse.Namespace) -> None:
    """Add the rows of one size to the table."""

    def turn(name: str, step: int) -> Result:
        numbers = ["--items", str(given.items), "--reports", str(given.reports), "--shards", str(shards)]
        command = [sys.executable, str(Path(__file__)), *numbers, "--stage", name, str(folder), str(step)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    if "driver" not in given.only and {"worker", "reader", "ray"} & set(given.only):
        turn("driver", 0)  # leaves the job
    arms = {
        (name, step): lambda name=name, step=step: turn(name, step)
        for name in STAGES
        if name in given.only and (name != "mlflow" or shards == given.shards[0])
        for step in (0, STEPS // 2)
        if not step or name in RESUMED
    }
    named = {f"{name}{', resumed' if step else ''}": arm for (name, step), arm in arms.items()}
    for name, turns in in_turns(named, given.rounds).items():
        for key in turns[0]:
            what, _, unit = key.rpartition(" ") if key.rpartition(" ")[2] in ("s", "MB") else (key, "", "")
            size = "" if name == "mlflow" else f"{shards:,} shards, "
            table.add(f"{size}{name}: {what or 'seconds'}", [each[key] for each in turns], unit)
    shutil.rmtree(folder / "run", ignore_errors=True)


if __name__ == "__main__":
    run(main)
