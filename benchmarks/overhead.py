"""Measure who takes the CPU while `pipelines/pretrain.py` trains with one worker: the training, or Ray beside it.

    python benchmarks/overhead.py --data data/bench    # people as in `ingest.py`; without --data in a temporary folder

Of each process that the program started the CPU time between two moments of the training is read. Ray's own work is
that of its servers, agents and actors, and that of its Data scheduler's threads inside the training workers.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks._measure import Table, arguments, run
from benchmarks._results import ROOT
from benchmarks.run import WORKERS, make_people, overrides

RAY = "Ray"
# Kind of a process by what its command line has, the first that fits.
KINDS = (
    ("pretrain.py", "program"),
    ("TrainWorker", "training"),
    ("MapBatches", "reading"),
    ("_Holder", "progress and tracking"),
    ("Writer", "progress and tracking"),
)


def main() -> None:
    parser = arguments(__doc__, rounds=3, quick="few people, 1 round of 5 seconds")
    parser.add_argument(
        "--data", type=Path, help="folder of the people; made where they are not there (default: a temporary folder)"
    )
    parser.add_argument("--count", type=int, default=600, help="people (default 600)")
    parser.add_argument("--seconds", type=float, default=40.0, help="measured in each round (default 40)")
    parser.add_argument("--verbose", action="store_true", help="show every process")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.count, given.seconds = 1, 64, 5.0
    with tempfile.TemporaryDirectory(prefix="hb-") as temporary:
        data = given.data or Path(temporary, "data")
        make_people(data, given.count)
        settings = {"recipe": "people-cpu", "workers": WORKERS, "people": given.count, "seconds": given.seconds}
        table = Table("overhead-quick" if given.quick else "overhead", settings)
        shares = [measure(data, Path(temporary), given.seconds, given.verbose) for _ in range(given.rounds)]
    table.add("Ray's own work while training, share of a core", [each[RAY] for each in shares], limit=0.05)
    for kind in sorted({kind for each in shares for kind in each} - {RAY}):
        table.add(f"  {kind}, cores", [each[kind] for each in shares], better="lower")
    table.show()
    table.write(given.results)


def measure(data: Path, temporary: Path, seconds: float, verbose: bool) -> dict[str, float]:
    """Return the cores that each kind of process takes in the middle of a training, which is ended then."""
    with (
        tempfile.TemporaryDirectory(dir=temporary) as folder,
        tempfile.TemporaryDirectory(prefix="hr-") as ray_folder,
        open(Path(folder, "output"), "w") as output,
    ):
        steps = {"stages.stage1_steps": 100_000, "train.log_every": 5, "probe.every": 0, "train.save_every": 100_000}
        values = overrides(data, folder, steps)
        command = [sys.executable, str(ROOT / "pipelines" / "pretrain.py"), "--recipe", "people-cpu", *values]
        environment = {**psutil.Process().environ(), "RAY_TMPDIR": ray_folder, "OMP_NUM_THREADS": "1"}
        program = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            wait_for_step(program, Path(folder, "output"), 30)
            before, began = cpu_seconds(program.pid), time.monotonic()
            time.sleep(seconds)
            after, took = cpu_seconds(program.pid), time.monotonic() - began
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(60)
    spent = Counter(dict.fromkeys((RAY,), 0.0))
    for key, end in after.items():
        share = (end - before.get(key, 0.0)) / took
        spent[key[0]] += share
        if verbose and share > 0.001:
            print(f"{share:8.4f}  {key[0]:24} {key[2]}")
    return dict(spent)


def wait_for_step(program: subprocess.Popen, output: Path, step: int) -> None:
    """Return once a program has shown that it is beyond a step. Raises RuntimeError if it ends before."""
    while program.poll() is None:
        shown = [int(number) for number in re.findall(r"step (\d+)/", output.read_text())]
        if shown and shown[-1] >= step:
            return
        time.sleep(1)
    raise RuntimeError(f"the program ended with {program.returncode}:\n{output.read_text()[-3000:]}")


def cpu_seconds(pid: int) -> dict[tuple[str, int, str], float]:
    """CPU seconds so far of a process and all that it started, by (kind, id, what it is).

    Threads of Ray Data inside a training worker count as Ray's, and not as the worker's.
    """
    found = {}
    top = psutil.Process(pid)
    for each in [top, *top.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            line = " ".join(each.cmdline())
            kind = next((kind for part, kind in KINDS if part in line), RAY)
            times = each.cpu_times()
            total = times.user + times.system
            if kind == "training":
                names = thread_names(each.pid)
                own = sum(
                    t.user_time + t.system_time for t in each.threads() if names.get(t.id, "").startswith("Stream")
                )
                found[RAY, each.pid, "Ray Data's scheduler in a worker"] = own
                total -= own
            found[kind, each.pid, line[:100]] = total
    return found


def thread_names(pid: int) -> dict[int, str]:
    """Names of a Python process's threads by the system's id."""
    dump = subprocess.run(
        [str(Path(sys.executable).with_name("py-spy")), "dump", "--json", "--pid", str(pid)],
        capture_output=True,
        text=True,
    )
    if dump.returncode:
        return {}
    return {thread["os_thread_id"]: thread["thread_name"] or "" for thread in json.loads(dump.stdout)}


if __name__ == "__main__":
    run(main)
