"""What tasks bring along is opened once in each process that runs them."""

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from hcmoco_ray.ingest import dataset, opened_once
from hcmoco_ray.ingest.dataset import Items, Readers
from hcmoco_ray.ingest.opened_once import OpenedOnce


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch):
    monkeypatch.setattr(opened_once, "_values", {})


def copy_of(opened: OpenedOnce) -> OpenedOnce:
    """As it goes to a task and comes back."""
    return ray.get(ray.put(opened))


def test_copies_are_equal_and_one_object(ray_session):
    value = {"rows": list(range(1000)), "item": lambda number: number + 1}
    opened = OpenedOnce(value)
    assert opened.value is value, "who makes it opens nothing"
    opened_once._values.clear()  # as in another process
    copies = [copy_of(opened) for _ in range(3)]
    copies += [copy_of(copies[0])]
    assert copies[0].value["rows"] == value["rows"]
    assert copies[0].value["item"](1) == 2
    assert all(each.value is copies[0].value for each in copies)


def test_values_do_not_mix_and_old_ones_are_forgotten(ray_session):
    made = [OpenedOnce([number]) for number in range(9)]
    opened_once._values.clear()
    first = copy_of(made[0]).value
    assert [copy_of(each).value for each in made] == [[number] for number in range(9)]
    assert len(opened_once._values) <= 4
    again = copy_of(made[0])
    assert again.value == first
    assert again.value is not first


class Noted:
    """Gives items, and notes in `folder` each time that it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getstate__(self):
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.folder = folder
        with open(folder / "opened", "a") as notes:
            notes.write(f"{os.getpid()}\n")

    def __call__(self, number: int) -> pa.Table:
        return pa.table({"number": [number], "process": [os.getpid()]})


def test_a_process_opens_it_once_for_all_its_items(ray_session, tmp_path):
    (tmp_path / "opened").touch()
    items = Items(OpenedOnce(Noted(tmp_path)), 12)
    items = [*dataset.read(items, range(12), Readers(2)), *dataset.read(items, range(12), Readers(2))]
    assert [item["number"][0].as_py() for item in items] == 2 * list(range(12))
    readers = {item["process"][0].as_py() for item in items}
    times = Counter(map(int, (tmp_path / "opened").read_text().split()))
    assert readers <= set(times)
    assert set(times.values()) == {1}
