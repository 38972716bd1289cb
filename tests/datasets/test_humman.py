"""HuMMan-Recon's frames against the scene that they were written from."""

import json

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import humman
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.person_crop import cut_square
from hcmoco.errors import UserError
from tests.helpers import humman_files as files


def read(root, **options) -> list:
    return list(read_all(humman.READER, humman.HummanConfig(source=str(root), size=4096, **options)))


def test_depth_is_registered_to_color_by_the_places_in_the_world(tmp_path):
    files.write_humman(tmp_path, kinects=2)
    depth, _, mask = files.seen()
    expected = np.where(mask > 0, np.rint(register_depth(depth, files.RIG)), 0)
    assert (expected > 0).sum() > 0.9 * (mask > 0).sum(), "what lies on each other is the same"
    found = read(tmp_path)
    assert [each.id for each in found] == [f"humman/{files.SEQUENCE}/kinect_{number:03d}/000000" for number in (0, 1)]
    for person in found:
        assert isinstance(person, Person), person.reason
        x0, y0, side = person.crop[:3].astype(int)
        found_depth = codecs.decode_depth(person.depth, "png16").astype(int)
        off = np.abs(found_depth - cut_square(expected, x0, y0, side))
        assert (off <= 1).mean() > 0.999, "but for rounding of the cameras' places"
        assert person.subject == "p000455"
        assert person.keypoints is None
        fx, fy, cx, cy = person.camera
        color = files.COLOR
        np.testing.assert_allclose([fx, fy, cx + x0, cy + y0], [color.fx, color.fy, color.cx + 0.5, color.cy + 0.5])


def test_kinects_and_frames_can_be_chosen(tmp_path):
    files.write_humman(tmp_path, (0, 6, 12), kinects=2)
    config = humman.HummanConfig(source=str(tmp_path), kinects=(1,), stride=2)
    assert [each.id[-17:] for each in humman.items(config)] == ["kinect_001/000000", "kinect_001/000012"]


def change(root, edit) -> str:
    """The reason with which the only frame is rejected after `edit` of its cameras."""
    files.write_humman(root, kinects=1)
    path = root / files.SEQUENCE / "cameras.json"
    values = json.loads(path.read_text())
    edit(values["kinect_color_000"])
    path.write_text(json.dumps(values))
    (found,) = read(root)
    assert isinstance(found, Rejected)
    return found.reason


FAULTS = [
    (
        lambda camera: camera.update(T=[1000 * each for each in camera["T"]]),
        "its numbers are probably millimeters, and meters",
    ),
    (lambda camera: camera.update(R=(-np.array(camera["R"])).tolist()), "must be a rotation"),
    (lambda camera: camera.update(K=np.array(camera["K"]).T.tolist()), "K in cameras.json must be fx 0 cx, 0 fy cy"),
    (lambda camera: camera.update(K=[[0.47, 0, 0.5], [0, 0.84, 0.5], [0, 0, 1]]), "of a 160 x 90 picture; give pixels"),
    (lambda camera: camera.pop("T"), "key 'T' is missing"),
]


@pytest.mark.parametrize(("edit", "said"), FAULTS, ids=lambda value: "")
def test_cameras_of_another_convention_are_rejected(tmp_path, edit, said):
    assert said in change(tmp_path, edit)


def test_depth_of_another_size_is_rejected(tmp_path):
    files.write_humman(tmp_path, kinects=1)
    path = tmp_path / files.SEQUENCE / "kinect_depth" / "kinect_000" / "000000.png"
    path.write_bytes(codecs.encode_depth(np.full((288, 320), 2000, np.uint16), "png16"))
    (found,) = read(tmp_path)
    assert "the depth picture is 320 x 288 pixels; HuMMan's are 640 x 576" in found.reason


def test_the_subset_with_videos_is_refused_with_the_reason(tmp_path):
    files.write_humman(tmp_path, kinects=1)
    (tmp_path / files.SEQUENCE / "kinect_color" / "kinect_000.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"so this is HuMMan-Point, which is not read: .*; take HuMMan-Recon"):
        read(tmp_path)


@pytest.mark.parametrize("number", [7, -1])
def test_a_kinect_that_is_not_there_is_one_line(tmp_path, number):
    files.write_humman(tmp_path, kinects=2)
    with pytest.raises(UserError, match=rf"--kinects {number}: .* has 0, 1; choose among them, or leave it out"):
        humman.items(humman.HummanConfig(source=str(tmp_path), kinects=(1, number)))
