"""The reader contract: what every reader of files promises, tested on the smallest whole data set of each (readers.py).

Each reader is fed 25 damaged copies of it; `--mutations=200` asks for more.
"""

import dataclasses
import pickle
import re
import shutil

import numpy as np
import pytest

from hcmoco.data.schema import Person, Scene
from hcmoco.datasets.base import Rejected
from hcmoco.errors import UserError
from tests.helpers.mutations import lives_through
from tests.helpers.readers import NTU_CLIPS, READERS, Reader

BLOCK = 25  # mutations of one test


def pytest_generate_tests(metafunc):
    if "reader" in metafunc.fixturenames:
        metafunc.parametrize("reader", READERS.values(), ids=READERS, scope="module")
    if "mutations" in metafunc.fixturenames:
        count = metafunc.config.getoption("--mutations")
        blocks = [range(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]
        metafunc.parametrize("mutations", blocks, ids=lambda block: f"{block.start}-{block.stop - 1}")


@pytest.fixture(scope="module")
def original(reader: Reader, tmp_path_factory):
    """The whole data set, which no test changes."""
    root = tmp_path_factory.mktemp(reader.name) / "original é"
    reader.write(root)
    return root


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy é")


def refusal(call, *arguments) -> str | None:
    """The line with which `call` refuses, None where it does not."""
    try:
        call(*arguments)
    except UserError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line
    return line


def plain(value):
    """Records as values that can be compared."""
    if dataclasses.is_dataclass(value):
        return type(value).__name__, {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def test_a_whole_data_set_is_read_whole(reader, original):
    found = reader.read(reader.items(original))
    records = [each for each in found if isinstance(each, Person | Scene)]
    assert len(records) == reader.records
    assert not [each for each in found if isinstance(each, Rejected)]
    assert all(each.id.startswith(f"{reader.name}/") for each in found)
    inventories = reader.inventories(original)
    assert [each.faults for each in inventories] == [[]] * len(inventories)
    assert all(sum(each.counts.values()) for each in inventories)


def test_items_are_small_messages_that_read_the_same_elsewhere(reader, original):
    items = reader.items(original)
    assert max(len(pickle.dumps(item)) for item in items) <= reader.item_bytes
    assert plain(reader.read(pickle.loads(pickle.dumps(items)))) == plain(reader.read(items))


def test_pixels_are_read_with_their_item_and_not_before(reader, original, copy):
    """Once the items are known every file is emptied: then every item is rejected."""
    items = reader.items(copy)
    for path in copy.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    found = reader.read(items)
    assert not [each for each in found if isinstance(each, Person | Scene)]
    assert [each for each in found if isinstance(each, Rejected)]


def test_a_place_that_is_not_there_is_one_line(reader, tmp_path):
    line = refusal(reader.items, tmp_path / "nowhere")
    assert line is not None
    assert str(tmp_path / "nowhere") in line
    assert refusal(reader.inventories, tmp_path / "nowhere") or any(
        each.faults for each in reader.inventories(tmp_path / "nowhere")
    )


def test_a_missing_file_is_one_line_or_sets_its_records_aside(reader, original, tmp_path):
    """Each file in turn."""
    for number, path in enumerate(sorted(path for path in original.rglob("*") if path.is_file())):
        root = shutil.copytree(original, tmp_path / str(number))
        (root / path.relative_to(original)).unlink()
        line = refusal(reader.items, root)
        if path.name in reader.unneeded:
            assert line is None
            continue
        faults = (
            []
            if (refused := refusal(reader.inventories, root))
            else [f for each in reader.inventories(root) for f in each.faults]
        )
        assert refused or faults, f"{path.name}: nothing is missed"
        found = [] if line else reader.read(reader.items(root))
        reasons = [line] if line else [each.reason for each in found if isinstance(each, Rejected)]
        words = "does not exist|is missing|has no|lacks|no such"
        assert any(re.search(words, reason) for reason in reasons), (
            path.name,
            reasons,
        )
        shutil.rmtree(root)


def test_any_damage_is_read_set_aside_or_refused(reader, original, tmp_path, mutations):
    def read_all(root):
        found = reader.read(reader.items(root))
        inventories = reader.inventories(root)
        if reader.name == "ntu-parsing":
            assert len(found) == sum(each.counts["lines of the list"] for each in inventories)
        if reader.name == "ntu":
            # Each clip has two records: none gets lost.
            for tag in NTU_CLIPS:
                records = [each for each in found if each.id.startswith(f"ntu/{tag}")]
                whole = [each for each in records if each.id == f"ntu/{tag}"]
                assert len(records) - len(whole) == 2 or len(whole) == 1, f"{tag}: {[each.id for each in records]}"
        return found

    outcomes = [lives_through(original, tmp_path, read_all, number, seed=reader.name) for number in mutations]
    assert len(mutations) < BLOCK or {*outcomes} - {"read"}, "else nothing was damaged"
