"""What tasks bring along is opened once in each process that runs them."""

import os
import pickle
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import ray.cloudpickle

from hcmoco_ray.ingest import dataset, opened_once
from hcmoco_ray.ingest.opened_once import OpenedOnce


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch):
    monkeypatch.setattr(opened_once, "_values", {})


def out_of_band(value: object) -> tuple[bytes, list]:
    """As Ray pickles: buffers stay beside the text."""
    buffers: list = []
    return ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers


def test_copies_are_equal_and_one_object():
    value = {"rows": list(range(1000)), "item": lambda number: number + 1}
    text, buffers = out_of_band(OpenedOnce(value))
    assert len(text) < 500, "the value travels beside it"
    copies = [pickle.loads(text, buffers=buffers) for _ in range(3)]
    copies += [pickle.loads(ray.cloudpickle.dumps(copies[0]))]  # in one piece, and a copy of a copy
    assert copies[0].value["rows"] == value["rows"]
    assert copies[0].value["item"](1) == 2
    assert all(each.value is copies[0].value for each in copies)


def test_values_do_not_mix_and_old_ones_are_forgotten():
    pieces = [pickle.dumps(OpenedOnce([number])) for number in range(9)]
    first = pickle.loads(pieces[0])
    assert [pickle.loads(each).value for each in pieces] == [[number] for number in range(9)]
    assert len(opened_once._values) <= 4
    again = pickle.loads(pieces[0])
    assert again.value == first.value
    assert again.value is not first.value


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


@pytest.mark.parametrize("listed", [1000, 3])
def test_a_process_opens_it_once_for_all_its_items(ray_session, tmp_path, monkeypatch, listed):
    monkeypatch.setattr(dataset, "LISTED", listed)
    (tmp_path / "opened").touch()
    items = list(dataset.items(dataset._dataset(Noted(tmp_path), 12, 1, dataset.FREE_READERS)))
    assert [item["number"][0].as_py() for item in items] == list(range(12))
    readers = {item["process"][0].as_py() for item in items}
    times = Counter(map(int, (tmp_path / "opened").read_text().split()))
    assert readers <= set(times)
    assert set(times.values()) == {1}
