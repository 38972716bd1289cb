"""Lists of a JSON file, read element by element: what Python's own parser gives, and one line for other files."""

import json
import math

import pytest

from hcmoco.datasets.io.json_stream import read_lists
from hcmoco.errors import UserError

KEEP = {"images": lambda value: value, "annotations": lambda value: value}
CONTENT = {
    "info": {"images": [1], "nested": [[{}]]},
    "images": [{"id": 1, "name": 'a "quoted" \\ ü \u2028.jpg'}, [], "text", None, 1.5e300, 10**30, True],
    "annotations": [],
    "more": {"annotations": [2]},
}


def lists(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_lists(path, "annotation file", KEEP)


@pytest.mark.parametrize("options", [{}, {"indent": 3}, {"ensure_ascii": False}, {"separators": (",", ":")}])
def test_elements_are_those_of_pythons_parser(tmp_path, options):
    wanted = {key: CONTENT[key] for key in KEEP}
    assert lists(tmp_path / "a.json", json.dumps(CONTENT, **options)) == wanted
    assert lists(tmp_path / "b.json", b"\xef\xbb\xbf" + json.dumps(CONTENT, **options).encode()) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[]", {}),
        ("3", {}),
        ("{}", {}),
        ('{"images": {"id": 1}}', {}),
        ('{"images": [1], "images": [2]}', {"images": [2]}),
        ('{"images": [1], "images": 2}', {}),
        (' { "images" : [ ] } ', {"images": []}),
    ],
)
def test_what_is_no_list_is_absent_and_the_last_of_a_key_counts(tmp_path, text, wanted):
    assert lists(tmp_path / "a.json", text) == wanted


def test_numbers_that_json_lacks_are_read_as_python_writes_them(tmp_path):
    found = lists(tmp_path / "a.json", '{"images": [NaN, -Infinity, 1e999, "\\ud800"]}')["images"]
    assert math.isnan(found[0])
    assert found[1:] == [-math.inf, math.inf, "\ud800"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"images": [1, 2',
        b'{"images": [1 2]}',
        b'{"images": [1]} x',
        b'{"images": [{"id": tru}]}',
        b'{"images": ["\xff"]}',
        b'{"images": ' + b"[" * 200_000,
    ],
)
def test_what_is_not_json_is_one_line(tmp_path, content):
    with pytest.raises(UserError, match=r"annotation file .*a\.json is not valid JSON") as error:
        lists(tmp_path / "a.json", content)
    assert "\n" not in str(error.value)


def test_an_error_of_what_keeps_an_element_is_raised(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [1]}')

    def keep(value):
        raise LookupError(value)

    with pytest.raises(LookupError):
        read_lists(tmp_path / "a.json", "annotation file", {"images": keep})
