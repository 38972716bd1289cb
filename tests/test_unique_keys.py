"""A key twice in an object of a user's JSON is refused with both of its places."""

import json

import pytest

from hcmoco import unique_keys
from hcmoco.datasets import folder
from hcmoco.datasets.base import read_all
from hcmoco.datasets.io.files import read_json
from hcmoco.errors import UserError
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.people import read_boxes

TWICE = '{"a": 1, "b": 2, "a": 1}'
LINE = "the key 'a' appears twice, as entries 1 and 3; keep one of them"


@pytest.mark.parametrize("text", ['{"a": 1, "b": [{"c": null}]}', "[]", "1", '"a"', "{}"])
def test_what_has_no_key_twice_is_read_as_json(text):
    assert unique_keys.loads(text) == json.loads(text)


@pytest.mark.parametrize("text", [TWICE, f'[{{"x": {TWICE}}}]'])
def test_a_key_twice(text):
    with pytest.raises(ValueError, match=rf"^{LINE}$"):
        unique_keys.loads(text)


def test_a_key_twice_in_a_line_of_people(tmp_path):
    (tmp_path / "people.jsonl").write_text(TWICE)
    (rejected,) = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path)))
    assert rejected.reason == f"people.jsonl line 1 is not valid JSON: {LINE}"


def test_a_key_twice_in_a_line_of_boxes(tmp_path):
    path = tmp_path / "boxes.jsonl"
    path.write_text(TWICE)
    with pytest.raises(UserError, match=f"--boxes {path} line 1 is not valid JSON: {LINE}"):
        read_boxes(path, [ImageFile("a.png", tmp_path / "a.png")])


def test_a_key_twice_in_an_annotation_file(tmp_path):
    (tmp_path / "train.json").write_text(TWICE)
    with pytest.raises(UserError, match=f"is not valid JSON .{LINE}"):
        read_json(tmp_path / "train.json", "annotation file")
