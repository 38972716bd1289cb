"""What a detector found is kept item by item, in whatever order it comes, and found again by the next run."""

import json

import numpy as np
import pyarrow as pa
import pytest

from hcmoco.datasets.base import Found
from hcmoco.detection.detector import Detected
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco_ray.prepare.detect import _ANSWER, _BROKEN, _Answers, _packed, _unpacked
from hcmoco_ray.prepare.parts import forget_parts_of_others
from hcmoco_ray.prepare.request import WORK
from hcmoco_ray.tracking.progress import Progress


def table(*rows: tuple) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(_ANSWER.names, row, strict=True)) for row in rows], schema=_ANSWER)


def answers(folder: Folder) -> _Answers:
    return _Answers(folder, ["mine/a", "mine/b", "mine/c"], Progress("finding", 3, "records"))


def test_items_are_whole_or_not_kept(tmp_path):
    (tmp_path / WORK).mkdir()
    folder = Folder(str(tmp_path))
    first = answers(folder)
    # A video of two frames whose end comes before its last frame; a broken item; and one that is not whole yet.
    first.take(table((0, "000000", '{"n": 1}', 0, ""), (0, "", "", 2, ""), (1, "", "", _BROKEN, "")))
    assert first.found == {1: {}}
    first.take(table((0, "000005", '{"n": 2}', 0, ""), (2, "", "", 1, "")))
    assert first.found == {0: {"000000": {"n": 1}, "000005": {"n": 2}}, 1: {}}
    first.keep()
    assert answers(folder).found == {0: first.found[0]}
    # What a lost process had not finished is forgotten, and its pictures come again.
    first.forget_arrived()
    first.take(table((2, "", "", 1, ""), (2, "", '{"n": 3}', 0, "")))
    first.keep()
    assert sorted(answers(folder).found) == [0, 2]
    # A file that was cut short costs its own items.
    names = sorted(folder.sizes(WORK))
    (tmp_path / WORK / names[0]).write_bytes((tmp_path / WORK / names[0]).read_bytes()[:-5])
    again = answers(folder)
    assert sorted(again.found) == [2]
    again.take(table((0, "", "", 0, "")))
    again.keep()
    assert len(folder.sizes(WORK)) == 3


def test_a_mistake_names_the_item(tmp_path):
    with pytest.raises(UserError, match="mine/b: the model fails"):
        answers(Folder(str(tmp_path))).take(table((1, "", "", 0, "the model fails")))


def test_people_survive_packing():
    person = Detected(np.array([1.5, 2, 30, 40]), 0.75, np.array([[3.25, 4.5, 0.5], [0, 0, 0]]))
    packed = json.loads(json.dumps({"": _packed(Found((64, 48), [[person, person], []]))}))
    found = _unpacked(packed)[""]
    assert found.size == (64, 48)
    assert [len(line) for line in found.people] == [2, 0]
    assert np.array_equal(found.people[0][1].joints, person.joints)
    assert np.array_equal(found.people[0][0].box, person.box)


def test_parts_of_other_people_are_made_again(tmp_path):
    (tmp_path / WORK).mkdir()
    folder = Folder(str(tmp_path))
    for ids, left in ((["a", "b"], False), (["a", "b"], True), (["a", "b", "b#2"], False)):
        folder.write(f"{WORK}/part-00000.json", b"{}")
        forget_parts_of_others(folder, ids)
        assert folder.exists(f"{WORK}/part-00000.json") == left
