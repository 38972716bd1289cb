"""People of a folder of pictures: the crops of `Pretrained.crop`, and the same people again from their lines."""

import json

import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data.codecs import encode_depth, encode_png
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.person_lines import FolderConfig
from hcmoco.embedding.crops import Cropping, cut_out
from hcmoco.embedding.pictures import PicturedPeople, lines_of, pictures_with_boxes
from hcmoco.embedding.sources import first_rows

CROPPING = Cropping(64, ("rgb", "depth", "keypoints"), "coco-17", "mpii-16", "zstd-delta")


def config(folder) -> FolderConfig:
    return build(FolderConfig, {"path": str(folder), "name": "mine", "depth_codec": "zstd-delta"}, "test")


@pytest.fixture
def folder(tmp_path):
    """Two pictures, and depth of the first, which holds a person of 60 x 100 pixels at 2 m."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        (tmp_path / f"{name}.png").write_bytes(encode_png(np.kron(small, np.ones((10, 10, 1), np.uint8))))
    depth = np.zeros((120, 160), np.uint16)
    depth[10:110, 50:110] = 2000
    (tmp_path / "a-depth.png").write_bytes(encode_depth(depth, "png16"))
    return tmp_path


def test_boxes_pick_the_people(folder):
    boxes = {"a.png": [(50, 10, 110, 110), (0, 0, 60, 60)]}
    people = pictures_with_boxes(config(folder), ["a.png", "b.png"], "rgb", boxes, None)
    assert [item.id for item in people.items] == ["mine/a.png", "mine/a.png#2", "mine/b.png"]
    rows = people.read(0, 3)
    assert isinstance(rows[2], Rejected)
    assert [row["dataset"] for row in rows[:2]] == ["a.png", "a.png"]
    first, second = (cut_out(row, CROPPING) for row in rows[:2])
    assert first.present == ("rgb",)
    assert not np.array_equal(first.rgb, second.rgb)


def test_without_a_box_the_picture_made_square_is_the_crop_that_is_stored(folder):
    whole, filled = (
        pictures_with_boxes(config(folder), ["a.png"], "rgb", None, box).read(0, 1)[0] for box in (None, "picture")
    )
    assert whole["crop"].tolist() == [0, -20, 160, 160, 120]
    assert filled["crop"][2] == 1.5 * 160


def test_lines_come_back(folder):
    lines = [
        {"rgb": "a.png", "depth": "a-depth.png", "box": [50, 10, 110, 110], "subject": "anna"},
        {"rgb": "b.png", "keypoints": [[70, 60, 2]] * 17, "id": "second"},
        {"rgb": "missing.png"},
        {"nothing": 1},
    ]
    (folder / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    people = lines_of(config(folder))
    again = PicturedPeople.from_lines(people.config, people.to_lines(), whole=False)
    assert people.modalities == again.modalities == ("rgb", "depth", "keypoints")
    assert people.content == again.content
    for first, second in zip(people.read(0, 4), again.read(0, 4), strict=True):
        assert isinstance(first, Rejected) == isinstance(second, Rejected)
        if isinstance(first, Rejected):
            assert first == second
        else:
            assert first["id"] == second["id"]
            assert first["rgb"] == second["rgb"]
            assert first["depth"] == second["depth"]
    assert [row["subject"] for row in first_rows(people, 5, ("rgb", "depth"))] == ["anna"]
    whole = people.content
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    assert lines_of(config(folder)).content != whole
