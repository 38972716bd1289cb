"""Measure the people per second of `pipelines/embed.py`, and of the encoders alone on the same rows in memory.

    python benchmarks/embed.py                         # synthetic people of 128 pixels, created in a temporary folder
    python benchmarks/embed.py --data data/bench       # kept in this folder for the next time

The encoders alone are a process for each actor of the program, with the same weights, batches, threads and precision,
over crops that were read, decoded and cut out before; nothing is checked or written. They are timed from the moment in
which all begin to the end of the last one. The program is timed from the first part that an actor begins to the last
one that is written: reading, decoding, encoding and writing. Starting the actors is a row of its own.
"""

import contextlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ray
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from hcmoco.data.schema import MODALITIES
from hcmoco.datasets.synthetic import NumberedPeople
from hcmoco_ray.cluster import session
from hcmoco_ray.commands.embed import parser
from hcmoco_ray.embed.pool import Pool, embed_parts
from hcmoco_ray.embed.request import plan
from hcmoco_ray.embed.worker import Job
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.run import prepare

WEIGHTS, SIZE = "people-small", 128


def through_ray(job: Job, pool: Pool) -> tuple[float, float]:
    """People per second of the program's actors, and seconds until the first of them begins."""
    shutil.rmtree(job.out, ignore_errors=True)
    started, done = time.time(), dict[int, dict[str, Any]]()
    embed_parts(job, pool, done, lambda count: None)
    begun, ended = (pick(record["seconds"][k] for record in done.values()) for k, pick in enumerate((min, max)))
    return len(job.people) / (ended - begun), begun - started


def encode_alone(job: Job, threads: int, first: int, stop: int, pipe: Connection) -> None:
    """Encode some people whenever told to; the rows are prepared before."""
    cv2.setNumThreads(1)
    torch.set_num_threads(threads)
    model = job.model(cuda=False)
    crops = [crop for bounds in job.people.chunks(first, stop) for crop in job.crops(bounds)]
    batches = [
        {name: np.stack([getattr(crop, name) for crop in crops[start : start + job.batch]]) for name in MODALITIES}
        for start in range(0, len(crops), job.batch)
    ]
    pipe.send("ready")
    while pipe.recv() == "go":
        with torch.inference_mode():
            for rows in batches:
                model.encode(rows, joints=False, dense=False)
        pipe.send("done")


@contextlib.contextmanager
def encoders(job: Job, workers: int, threads: int) -> Iterator[list[Connection]]:
    """Processes that hold the weights and a share of the rows each, and wait."""
    edges = np.linspace(0, len(job.people), workers + 1).round().astype(int).tolist()
    context, pipes, processes = multiprocessing.get_context("spawn"), [], []
    for first, stop in pairwise(edges):
        here, there = context.Pipe()
        processes.append(context.Process(target=encode_alone, args=(job, threads, first, stop, there)))
        processes[-1].start()
        pipes.append(here)
    try:
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send("end")
            process.join()


def alone(pipes: list[Connection], people: int) -> float:
    """People per second of all processes."""
    begun = time.perf_counter()
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        pipe.recv()
    return people / (time.perf_counter() - begun)


def main() -> None:
    options = arguments(__doc__, rounds=5, quick="64 people, 1 round")
    options.add_argument(
        "--data", type=Path, help="folder of the people; made where they are not there (default: a temporary folder)"
    )
    options.add_argument("--count", type=int, default=4000, help="people (default 4000)")
    options.add_argument("--cores", type=int, default=2, help="cores that everything is pinned to, one for each actor")
    given = options.parse_args()
    if given.quick:
        given.rounds, given.count = 1, 64
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hb-") as temporary:
        data = (given.data or Path(temporary)) / f"people-indoor-{SIZE}-{given.count}"
        people = NumberedPeople(domain="indoor", size=SIZE, seed=1, count=given.count)
        prepare(Source("people", people, seed=1), str(data))
        ray.shutdown()
        out = str(Path(temporary, "out"))
        job = plan(parser().parse_args([WEIGHTS, str(data), f"--out={out}"]), out).job
        with encoders(job, given.cores, 1) as pipes:  # before Ray has threads in this process
            session.connect(given.cores)
            pool = Pool(given.cores, 1.0, 0.0, 1)
            alone(pipes, given.count), through_ray(job, pool)  # both are warm
            found = in_turns(
                {"embed": lambda: through_ray(job, pool), "alone": lambda: alone(pipes, given.count)}, given.rounds
            )
    rates = [rate for rate, _ in found["embed"]]
    settings = {"cores": given.cores, "people": given.count, "weights": WEIGHTS, "crops": job.cropping.size}
    table = Table("embed-quick" if given.quick else "embed", {**settings, "batch": job.batch})
    table.add("embed.py / the encoders alone", ratios(rates, found["alone"]), limit=0.95, floor=True)
    table.add("  embed.py", rates, "people/s")
    table.add("  the encoders alone", found["alone"], "people/s")
    table.add("  until the first actor embeds", [seconds for _, seconds in found["embed"]], "s")
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)
