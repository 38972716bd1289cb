"""A list of files on standard input, and several files or folders at once."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from hcmoco.data.codecs import encode_png
from hcmoco.errors import UserError
from hcmoco.inference.inputs import ImageFile, VideoFile, find_inputs, read_list
from hcmoco.inference.writer import file_name
from hcmoco_ray.commands.predict import main
from tests.hcmoco_ray.test_predict import photo
from tests.helpers.drawn_models import write_model


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The current folder, with pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    for name in ("a.png", "in/b.png", "in/é b.png", "else/b.png"):
        photo(tmp_path / name)
    (tmp_path / "clip").write_bytes(b"\0\0\0\x18ftypisom" + bytes(20))
    return tmp_path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_each_line_is_a_file(place, end):
    found = read_list("".join(f"{each}{end}" for each in ("./in/é b.png", "a.png", "clip")).encode())
    assert [(each.name, each.path, each.place) for each in found.files] == [
        ("in/é b.png", Path("in/é b.png"), "line 1"), ("a.png", Path("a.png"), "line 2"),
        ("clip", Path("clip"), "line 3"),
    ]  # fmt: skip
    assert [type(each) for each in found.files] == [ImageFile, ImageFile, VideoFile]
    assert not found.rejected


def test_a_newline_in_a_name_needs_nul(place):
    name = "two\nlines.png"
    (place / name).write_bytes(encode_png(photo_array()))
    assert [each.name for each in read_list(f"{name}\0a.png\0".encode()).files] == [name, "a.png"]
    assert [reason for _, reason in read_list(f"{name}\na.png".encode()).rejected] == ["it does not exist"] * 2


def photo_array():
    import numpy as np

    return np.zeros((20, 20, 3), np.uint8)


def test_bad_lines_are_told_by_number_and_the_rest_stays(place):
    found = read_list(b"a.png\n\nin\ngone.png\n./a.png\nin/b.png\n" + b"x" * 300 + b"\n")
    assert [each.name for each in found.files] == ["a.png", "in/b.png"]
    told = dict(found.rejected)
    assert told["line 3, in"] == "it is a folder; name the files in it"
    assert told["line 4, gone.png"] == "it does not exist"
    assert told["line 5, ./a.png"] == "it is named twice, first in line 1"
    assert told["line 7, " + "x" * 300].startswith("it cannot be read: ") or "exist" in told["line 7, " + "x" * 300]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"gone.png\n"])
def test_a_list_without_a_file_is_one_line(place, data):
    with pytest.raises(UserError, match="the list on standard input names no file that can be read"):
        read_list(data)


def test_several_files_and_folders(place):
    found = find_inputs(["a.png", "in", "else"], "about.json")
    assert [each.name for each in found.files] == ["a.png", "in/b.png", "in/é b.png", "else/b.png"]
    with pytest.raises(UserError, match=r"in/b\.png is given twice"):
        find_inputs(["in/b.png", "in"], "about.json")
    with pytest.raises(UserError, match="stands alone"):
        find_inputs(["-", "in"], "about.json")


def test_results_stay_in_the_folder(tmp_path):
    names = ["/a/b.png", "a/b.png", "../a/b.png", "a/../../b.png", "b.png", "/b.png"]
    files = [file_name(name, ".png") for name in names]
    assert len(set(files)) == len(names)
    for each in files:
        assert not os.path.isabs(each)
        assert ".." not in Path(each).parts
    assert files[1] == "a/b.png.png"


def test_find_is_piped_into_the_program(place, monkeypatch, capsys):
    model = write_model(place / "model", "parsing-rgb")
    listed = f"a.png\ngone.png\n{place}/in/b.png\nbad.png\n".encode()
    (place / "bad.png").write_bytes(b"text")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert main([str(model), "-", "--out=out", "--threads=1", "--device=cpu"]) == 0
    said = capsys.readouterr()
    assert "rejected line 2, gone.png: it does not exist" in said.err
    assert "rejected line 4, bad.png: the picture is none of what is read" in said.err
    assert "2 pictures, 2 people, 2 rejected" in said.out
    lines = [json.loads(line) for line in (place / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {line["image"]: line["error"] is None for line in lines} == {
        "a.png": True, "gone.png": False, f"{place}/in/b.png": True, "bad.png": False,
    }  # fmt: skip
    for line in lines:
        for name in [line["overlay"], *(each["parts"] for each in line["people"])] if not line["error"] else ():
            assert (place / "out" / name).resolve().is_relative_to(place / "out")
            assert (place / "out" / name).is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png"], "MODEL is missing before a.png"),
        (["-"], "MODEL is missing before -"),
        (["runs/x"], "IMAGES is missing after runs/x: give a picture, a video, a folder of them, or - for a list"),
        (["people-small", "a.png"], "people-small is pre-trained encoders"),
        (["model", "a.png", "--every=0"], "--every 0: must be at least 1"),
    ],
)
def test_what_is_missing_is_one_line(place, capsys, arguments, said):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_model_may_be_an_option_as_before(place, capsys):
    model = write_model(place / "model", "parsing-rgb")
    assert main(["a.png", "in", "--weights", str(model), "--out=out", "--threads=1", "--device=cpu"]) == 0
    assert "3 pictures, 3 people" in capsys.readouterr().out
