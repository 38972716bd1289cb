"""Ray Data reads the plan's items in its order, for the workers that it names, whatever is lost on the way."""

import os
import signal
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hcmoco.data.codecs import encode_rgb
from hcmoco.data.collate import CollateConfig
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.data.transforms import AugmentConfig
from hcmoco.errors import UserError
from hcmoco_ray.cluster import room
from hcmoco_ray.ingest import dataset
from hcmoco_ray.ingest.dataset import Items, Readers
from hcmoco_ray.ingest.opened_once import OpenedOnce

LANES = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    """Forty pictures of 32 pixels."""
    folder = str(tmp_path_factory.mktemp("shards"))
    about = About(
        dataset="gray", joints="mpii-16", depth_codec="png16", size=32, provenance=Provenance(program="tests")
    )
    people = [
        Person(
            id=f"grey/{k}",
            dataset="gray",
            split="train",
            size=32,
            rgb=encode_rgb(np.full((32, 32, 3), 5 * k, np.uint8)),
        )
        for k in range(40)
    ]
    write_shards(folder, people, about)
    return Shards.open(folder)


def make_feed(shards: Shards, steps: int, decode: str = "worker") -> PretrainLoader:
    plan = Plan(1, (shards.source_plan(),), lanes=LANES, batch_size_per_lane=2, window_steps=2, steps=steps)
    return PretrainLoader(plan, (shards,), CollateConfig(AugmentConfig(size=32), "mpii-16", 4), decode)


@pytest.mark.parametrize(("steps", "decode"), [(40, "worker"), (40, "tasks"), (4_000_000, "worker")])
@pytest.mark.parametrize("tasks", [1, 2])
def test_items_come_in_the_plan_s_order_to_the_workers_it_names(ray_session, shards, steps, decode, tasks):
    feed = make_feed(shards, steps, decode)
    items, first, took = dataset.plan_items(feed), 2, 12
    with room.reading(tasks, 2 * tasks if decode == "tasks" else 0) as readers:
        got = [dataset.read(items, items.of_worker(rank, 2, first * LANES), readers) for rank in (0, 1)]
        for rank, read in enumerate(got):
            wanted = islice(feed.own_items(rank=rank, world=2, first_step=2 * first), took)
            for window, lane in wanted:
                assert next(read).equals(feed.item(window, lane))
            read.close()


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_run_ends_with_its_last_item(ray_session, shards, tasks):
    items = dataset.plan_items(make_feed(shards, 6))
    read = dataset.read(items, items.of_worker(0, 1), Readers(tasks))
    assert [(item["window"][0].as_py(), item["lane"][0].as_py()) for item in read] == [
        (w, lane) for w in range(3) for lane in range(LANES)
    ]


def test_who_has_taken_the_last_step_reads_nothing(ray_session, shards):
    items = dataset.plan_items(make_feed(shards, 6))
    assert list(dataset.read(items, items.of_worker(0, 1, items.count))) == []


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_shard_that_is_gone_is_a_user_s_mistake(ray_session, tmp_path, shards, tasks):
    moved = Shards(str(tmp_path / "nowhere"), shards.manifest)
    items = dataset.plan_items(make_feed(moved, 6))
    with pytest.raises(UserError, match="nowhere") as caught:
        next(dataset.read(items, items.of_worker(0, 1), Readers(tasks)))
    assert Path(tmp_path, "nowhere").exists() is False
    assert "\n" not in str(caught.value)


def made(number: int) -> pa.Table:
    """An item that says who made it. It takes a while, so that no process has made all of its items in advance."""
    time.sleep(0.01)
    return pa.table({"number": [number], "process": [os.getpid()]})


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_process_that_reads_is_killed_and_no_item_is_lost(ray_session, tasks):
    """Twice; each time another process goes on from the item that was next."""
    items, told = Items(OpenedOnce(made), 200), []
    read = dataset.read(items, items.of_worker(0, 1), Readers(tasks), told.append)
    numbers, processes = [], []
    for item in read:
        numbers.append(item["number"][0].as_py())
        if item["process"][0].as_py() not in processes:
            processes.append(item["process"][0].as_py())
        if numbers[-1] in (5, 25):
            os.kill(processes[-1], signal.SIGKILL)
    assert numbers == list(range(200))
    assert len(processes) == tasks + 2, "a process that was not killed did not go on"
    assert len(told) >= 2  # a busy Ray may choose a process that is just ending
    assert told[0].startswith("a process that reads the data was lost (")


def ended(number: int) -> pa.Table:
    """No item: the process that makes it ends."""
    os._exit(1)


def test_reading_that_never_gets_anywhere_ends(ray_session):
    import ray

    items, told = Items(OpenedOnce(ended), 3), []
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        next(dataset.read(items, items.of_worker(0, 1), Readers(), told.append))
    assert len(told) == 3


def wrong(number: int) -> pa.Table:
    raise ZeroDivisionError(f"item {number}")


def test_an_error_of_the_program_is_raised_as_it_is(ray_session):
    items, told = Items(OpenedOnce(wrong), 3), []
    with pytest.raises(Exception, match="item 0") as caught:
        next(dataset.read(items, items.of_worker(0, 1), Readers(), told.append))
    assert isinstance(caught.value, ZeroDivisionError) or "ZeroDivisionError" in str(caught.value)
    assert told == []
