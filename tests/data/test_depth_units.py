"""Which unit depth can be in follows from how large the person would be."""

import json
import re

import cv2
import numpy as np
import pytest

from hcmoco.data.depth_units import check_distance, in_millimeters, shortest_m
from hcmoco.datasets import folder, humman
from hcmoco.datasets.base import Rejected, read_all
from tests.helpers import humman_files
from tests.helpers.readers import write_folder

FOCAL, TALL_M = 500.0, 1.7
FIX = "give --depth-unit {unit}"


def person(distance_m: float, unit_mm: float, tall_m: float = TALL_M) -> tuple[np.ndarray, float]:
    """The numbers that a camera stores of a person, and the longer side of their box in pixels."""
    stored = np.full((20, 10), round(1000 * distance_m / unit_mm), np.uint32)
    return stored, tall_m * FOCAL / distance_m


@pytest.mark.parametrize("distance_m", [1.2, 2.2, 3.5, 5.0, 8.0])
@pytest.mark.parametrize("own", ["mm", "cm", "0.25mm", "0.1mm"])
def test_a_whole_person_tells_the_unit_and_the_advice_helps(distance_m, own):
    stored, size_px = person(distance_m, {"mm": 1, "cm": 10, "0.25mm": 0.25, "0.1mm": 0.1}[own])

    def check(unit: str) -> None:
        check_distance(in_millimeters(stored, unit), unit, FIX, size_px=size_px, focal_px=FOCAL, least_m=0.3)

    check(own)
    if own == "mm":
        return
    with pytest.raises(ValueError, match="was probably meant") as refused:
        check("mm")
    meant = re.search(r"give --depth-unit (\S+)$", str(refused.value))[1]
    check(meant)
    if own == "cm":
        assert meant == "cm"


def test_what_may_be_small_is_taken():
    """A child, somebody who sits, a face at the edge of the picture, and somebody far away of whom a head is seen."""
    for tall_m, distance_m, least_m in ((0.6, 0.8, 0.3), (0.9, 2.5, 0.3), (0.25, 0.5, 0.2), (0.25, 2.5, 0.3)):
        stored, size_px = person(distance_m, 1, tall_m)
        check_distance(stored, "mm", FIX, size_px=size_px, focal_px=FOCAL, least_m=least_m)


def test_without_a_camera_the_widest_lens_is_taken():
    """Far from the camera a person is small in any lens."""
    stored, size_px = person(5.0, 10)
    check = {"size_px": size_px, "picture_px": 1280.0, "least_m": 0.3}
    with pytest.raises(ValueError, match=r"the person at most 0\.\d+ m tall; from 0.3 m on can be right: cm was"):
        check_distance(stored, "mm", FIX, **check)
    check_distance(10 * stored, "mm", FIX, **check)
    stored, size_px = person(1.2, 1)  # close by, a narrow lens could show the same
    check_distance(stored, "mm", FIX, **{**check, "size_px": size_px})


@pytest.mark.parametrize(
    ("box", "least_m"),
    [
        ([30, 20, 70, 60], 0.3),
        ([30, 20, 70, 90], 0.2),
        ([0, 20, 70, 60], 0.2),
        ([0, 20, 120, 60], 0.0),
        ([30, 0, 70, 90], 0.0),
    ],
)
def test_a_picture_may_show_a_part_of_somebody(box, least_m):
    assert shortest_m(np.array(box), 120, 90) == least_m


def test_centimeters_of_humman_are_refused(tmp_path, monkeypatch):
    config = humman.HummanConfig(source=str(tmp_path))
    depth, rgb, _ = humman_files.seen()
    mask = np.zeros_like(rgb[..., 0])
    mask[15:75, 85:115] = 255
    monkeypatch.setattr(humman_files, "seen", lambda: (np.full_like(depth, 2500), rgb, mask))
    humman_files.write_humman(tmp_path, kinects=1)
    assert not [each for each in read_all(humman.READER, config) if isinstance(each, Rejected)]
    monkeypatch.setattr(humman_files, "seen", lambda: (np.full_like(depth, 250), rgb, mask))
    humman_files.write_humman(tmp_path, kinects=1)
    (refused,) = read_all(humman.READER, config)
    assert isinstance(refused, Rejected)
    assert re.search(r"tall; from 0.3 m on can be right: cm was probably meant", refused.reason), refused.reason
    assert refused.reason.endswith("look at the files, since HuMMan's are in mm and these seem to be in cm")


def test_centimeters_of_own_pictures_are_refused_and_the_advice_helps(tmp_path):
    write_folder(tmp_path)
    depth = np.full((90, 120), 250, np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), depth)
    line = '{"depth": "depth.png", "camera": [110, 110, 60, 45], "box": [50, 20, 70, 85]}'
    (tmp_path / "people.jsonl").write_text(line)

    def read(**options):
        (found,) = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path), **options))
        return found

    reason = read().reason
    assert "the person 0.148 m tall; from 0.3 m on can be right: cm was probably meant (then 2.5 m away)" in reason
    assert not isinstance(read(depth_unit=reason.rpartition(" ")[2]), Rejected)


@pytest.mark.parametrize(("joints", "refused"), [(5, False), (12, True)])
def test_a_few_joints_say_nothing_of_the_size(tmp_path, joints, refused):
    write_folder(tmp_path)
    cv2.imwrite(str(tmp_path / "depth.png"), np.full((90, 120), 600, np.uint16))
    points = [[55 + k, 30 + 2 * k, 2] for k in range(joints)] + [[0, 0, 0]] * (17 - joints)
    line = {"depth": "depth.png", "camera": [110, 110, 60, 45], "keypoints": points}
    (tmp_path / "people.jsonl").write_text(json.dumps(line))
    (found,) = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path)))
    assert isinstance(found, Rejected) is refused
