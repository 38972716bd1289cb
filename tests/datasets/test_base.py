"""The contract of a reader, on one that is registered from outside the package."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field

from hcmoco.config import Config
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17
from hcmoco.datasets import registry
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped, read_all
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.person_crop import checked
from hcmoco.errors import UserError
from hcmoco_ray.prepare.reader import Source, commands


class ToyConfig(Config):
    """Text files of joints."""

    source: str = Field(description="folder of the files")
    size: int = Field(64, description="side, pixels")


@dataclass(frozen=True)
class ToyItem:
    """One file."""

    id: str
    path: str
    size: int
    shift: float = 0.0


def items(config: ToyConfig) -> list[ToyItem | Rejected | Skipped]:
    """The files in the order of their names."""
    paths = sorted(Path(config.source).glob("*.txt"))
    if not paths:
        raise UserError(f"{config.source} holds no .txt file; give --source the folder of the joints")
    return [
        Skipped(f"toy/{path.stem}", "its name begins with _")
        if path.stem.startswith("_")
        else ToyItem(f"toy/{path.stem}", str(path), config.size)
        for path in paths
    ]


def read(item: ToyItem) -> list[Person | Rejected]:
    """One record, moved by what was measured."""

    def make() -> Person:
        x, y = (float(value) for value in Path(item.path).read_text().split())
        keypoints = np.zeros((17, 3), np.float32)
        keypoints[0] = x + item.shift, y, 1
        return Person(item.id, "toy", "train", item.size, keypoints=keypoints)

    return [checked(item.id, 17, make)]


READER = DatasetReader(
    ToyConfig,
    items,
    read,
    lambda config: Inventory({"files": len(items(config))}),
    unit="files",
    joint_set=COCO_17.name,
    calibrations=lambda config, items: {"shift": 2.5},
    calibrate=lambda value: {"shift": value},
    with_calibrations=lambda config, items, measured: [
        ToyItem(item.id, item.path, item.size, measured["shift"]["shift"]) if isinstance(item, ToyItem) else item
        for item in items
    ],
)
ENTRY = registry.Entry(f"{__name__}:READER", "joints in text files", "CC0-1.0", "https://example.org/toy")


@pytest.fixture
def registered(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    monkeypatch.setattr("hcmoco_ray.prepare.reader.REGISTRY", registry.REGISTRY)
    registry.register("toy", ENTRY)
    return


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in (("a", "10 20"), ("b", "x"), ("_c", "1 1")):
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_all_outcomes_come_in_order_with_what_was_measured(folder):
    skipped, person, rejected = read_all(READER, ToyConfig(source=str(folder)))
    assert skipped == Skipped("toy/_c", "its name begins with _")
    assert isinstance(person, Person)
    assert person.keypoints is not None
    assert person.keypoints[0].tolist() == [12.5, 20, 1]
    assert isinstance(rejected, Rejected)
    assert rejected.id == "toy/b"


def test_a_reader_from_outside_is_prepared_like_any_other(registered, folder):
    assert "toy" in commands()
    source = pickle.loads(pickle.dumps(Source("toy", ToyConfig(source=str(folder)))))
    assert (source.name, source.unit, source.rows_per_item) == ("toy", "files", 1)
    assert (source.about.joints, source.about.license, source.about.page) == ("coco-17", "CC0-1.0", ENTRY.page)
    assert source.arguments == {"source": "toy", "download": str(folder), "size": 64, "shuffle_seed": 0}
    measured = {name: source.calibrate(value) for name, value in source.calibrations(source.items()).items()}
    found = [outcome for item in source.with_calibrations(source.items(), measured) for outcome in source.read(item)]
    assert [type(outcome) for outcome in found] == [Skipped, Person, Rejected]


def test_a_worker_need_not_have_registered_it(registered, folder, monkeypatch):
    packed = pickle.dumps(Source("toy", ToyConfig(source=str(folder))))
    monkeypatch.delitem(registry.REGISTRY, "toy")
    assert len(pickle.loads(packed).items()) == 3


def test_a_name_is_registered_once(registered):
    with pytest.raises(ValueError, match="'toy' is registered already"):
        registry.register("toy", ENTRY)


def test_what_is_no_reader_is_refused():
    with pytest.raises(TypeError, match="is not a DatasetReader"):
        registry.Entry(f"{__name__}:items", "", "").load()


def test_a_reader_calibrates_in_full_or_not_at_all():
    with pytest.raises(TypeError, match="all of calibrations, calibrate and with_calibrations"):
        DatasetReader(ToyConfig, items, read, lambda config: Inventory(), calibrate=lambda value: {})


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_every_registered_reader_loads(name):
    reader = registry.REGISTRY[name].load()
    assert "size" in reader.config_class.model_fields
    assert not reader.root or reader.root in reader.config_class.model_fields
