"""Depth of a static camera against a room in which everything is known."""

import numpy as np
import pytest

from hcmoco.datasets.segmentation import Background
from hcmoco.datasets.segmentation.background import near_box
from hcmoco.datasets.segmentation.stage import thinned
from tests.helpers import static_camera


def of(seen) -> Background:
    return Background.of_frames([each.depth for each in seen], 50.0, "a test's")


def test_the_background_is_the_room_where_it_has_readings():
    found = of(static_camera.frames()).depth_HW.astype(float)
    room = static_camera.room()
    np.testing.assert_array_equal(found > 0, room > 0)
    # The mean of many readings with 8 mm of noise; none is of the person, who hides each place for a while.
    assert np.abs(found - room)[room > 0].max() < 8


def test_what_is_left_are_the_readings_of_the_person():
    seen = static_camera.frames()
    background = of(seen)
    for each in seen:
        left = background.remove(each.depth)
        assert not ((left > 0) & (each.depth == 0)).any(), "holes stay holes"
        np.testing.assert_array_equal(left[left > 0], each.depth[left > 0])
        read = each.depth > 0
        union = ((left > 0) | (read & each.person)).sum()
        assert ((left > 0) & each.person).sum() / union > 0.98


def test_a_chair_that_comes_later_and_goes_is_no_background():
    """The background is what is seen often, farthest away: not the median, which a long visit would become."""
    seen = static_camera.frames(40)
    stack = [each.depth.copy() for each in seen]
    for depth in stack[:28]:
        depth[50:, 40:60] = 2500
    found = Background.of_frames(stack, 50.0, "a test's").depth_HW
    assert np.abs(found[50:, 40:60] - static_camera.room()[50:, 40:60]).max() < 12


def test_one_wild_reading_moves_no_background():
    seen = static_camera.frames(40)
    stack = [each.depth.copy() for each in seen]
    stack[7][60:70, :] = 9000
    found = Background.of_frames(stack, 50.0, "a test's").depth_HW
    assert np.abs(found[60:70] - static_camera.room()[60:70]).max() < 12


def test_the_tolerance_decides_what_is_in_front():
    wall = np.full((40, 40), 3000, np.uint16)
    scene = wall.copy()
    scene[10:30, 10:30] = 2930
    assert Background(wall, 50.0, "", 1).foreground(scene).sum() == 400
    assert not Background(wall, 80.0, "", 1).foreground(scene).any()


def test_specks_are_dropped_and_a_hand_stays():
    wall = np.full((100, 100), 3000, np.uint16)
    scene = wall.copy()
    scene[20:80, 40:60] = 2000
    scene[40:52, 70:82] = 2000  # more than a tenth of the person
    scene[5:7, 5:7] = 2000
    front = Background(wall, 50.0, "", 1).foreground(scene)
    assert front.sum() == 60 * 20 + 12 * 12
    assert not front[5, 5]


@pytest.mark.parametrize("nobody", [static_camera.empty(seed=3), np.zeros_like(static_camera.empty())])
def test_a_picture_of_nobody_is_refused(nobody):
    with pytest.raises(ValueError, match=r"nobody is in the picture, or the person stood still .* empty scene"):
        of(static_camera.frames()).remove(nobody)


def test_the_empty_scene_serves_as_well():
    seen = static_camera.frames(3)
    background = Background.of_frames([static_camera.empty()], 50.0, "a test's")
    for each in seen:
        left, right = background.remove(each.depth) > 0, (each.depth > 0) & each.person
        assert (left & right).sum() / (left | right).sum() > 0.95


def test_pictures_of_two_sizes_have_no_background():
    with pytest.raises(ValueError, match=r"differ in size \(8 x 6, 9 x 6\)"):
        Background.of_frames([np.ones((6, 8), np.uint16), np.ones((6, 9), np.uint16)], 50.0, "")
    with pytest.raises(ValueError, match="the depth picture is 9 x 6, the background 8 x 6"):
        Background(np.ones((6, 8), np.uint16), 50.0, "", 1).foreground(np.ones((6, 9), np.uint16))


def test_a_background_comes_back_from_the_manifest():
    background = of(static_camera.frames(6))
    again = Background.from_json(background.to_json())
    np.testing.assert_array_equal(again.depth_HW, background.depth_HW)
    assert (again.tolerance_mm, again.by, again.frames) == (50.0, "a test's", 6)


def test_other_people_are_off_the_box():
    depth = np.full((50, 60), 2000, np.uint16)
    np.testing.assert_array_equal(np.flatnonzero(near_box(depth, [20, 10, 30, 40]).any(0)), np.arange(17, 33))


@pytest.mark.parametrize("length", [1, 100, 101, 250, 999])
def test_a_stream_is_thinned_evenly(length):
    kept = thinned(np.array([[number]]) for number in range(length))
    numbers = np.array(kept).ravel()
    assert len(kept) == length if length <= 100 else 50 <= len(kept) <= 100
    assert numbers[0] == 0
    assert len(set(np.diff(numbers).tolist())) <= 1
