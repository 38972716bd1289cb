"""Ray Data deals the items of the plan in the plan's order, to the workers that it names, whatever their number."""

import threading
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
from hcmoco_ray.ingest import dataset

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


def first_items(split, count: int, into: list) -> None:
    for item, _ in zip(dataset.items(split), range(count), strict=False):
        into.append(item)


@pytest.mark.parametrize(
    ("steps", "decode"),
    [(40, "worker"), (40, "tasks"), (4000, "worker"), pytest.param(4000, "tasks", marks=pytest.mark.slow)],
)
def test_items_come_in_the_plan_s_order_to_the_workers_it_names(ray_session, shards, steps, decode):
    feed = make_feed(shards, steps, decode)
    assert (feed.plan.windows * LANES > dataset.LISTED) == (steps == 4000), "both ways are meant"
    first_step, took = 5, 12
    splits = dataset.dataset(feed, first_step).streaming_split(2)
    got: list[list[pa.Table]] = [[], []]
    threads = [
        threading.Thread(target=first_items, args=(split, took, items))
        for split, items in zip(splits, got, strict=True)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for rank, items in enumerate(got):
        wanted = list(feed.own_items(rank=rank, world=2, first_step=first_step))[:took]
        assert len(items) == took
        for item, (window, lane) in zip(items, wanted, strict=True):
            assert item.equals(feed.item(window, lane))


def test_a_long_run_ends_with_its_last_item(ray_session, shards, monkeypatch):
    monkeypatch.setattr(dataset, "LISTED", 3)
    feed = make_feed(shards, 6)
    items = list(dataset.items(dataset.dataset(feed, 0)))
    assert [(item["window"][0].as_py(), item["lane"][0].as_py()) for item in items] == [
        (w, lane) for w in range(3) for lane in range(LANES)
    ]


@pytest.mark.parametrize("listed", [1000, 3])
def test_a_shard_that_is_gone_is_a_user_s_mistake(ray_session, tmp_path, shards, monkeypatch, listed):
    monkeypatch.setattr(dataset, "LISTED", listed)
    moved = Shards(str(tmp_path / "nowhere"), shards.manifest)
    with pytest.raises(UserError, match="nowhere") as caught:
        next(dataset.items(dataset.dataset(make_feed(moved, 6), 0)))
    assert Path(tmp_path, "nowhere").exists() is False
    assert "\n" not in str(caught.value)
