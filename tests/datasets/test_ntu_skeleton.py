import time

import numpy as np
import pytest

from hcmoco.datasets.ntu import skeleton_file
from tests.helpers.ntu_files import STRANGER, Clip, skeleton_lines, truth


def text(clip, ends="\r\n"):
    lines = [str(clip.frames)]
    for number in range(1, clip.frames + 1):
        lines += skeleton_lines(clip, truth(clip, number), number)
    return ends.join([*lines, ""]).encode()


CLIP = Clip("S001C001P001R001A001", frames=6, bodies={2: 2, 3: 0, 5: 2}, lost={4: (7,)})


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_numbers_come_back_as_they_were_written(ends):
    clip = skeleton_file.parse(text(CLIP, ends))
    assert (clip.declared, clip.fault) == (6, "")
    assert [len(bodies) for bodies in clip.frames] == [1, 2, 0, 1, 2, 1]
    for number, bodies in enumerate(clip.frames, start=1):
        # A body is called the same in every frame; these ids differ in their seventeenth digit.
        assert [body.id for body in bodies] == [STRANGER + k for k in range(len(bodies))]
        if not bodies:
            continue
        joints, seen = clip.joints(bodies[0]), truth(CLIP, number)
        lost = list(CLIP.lost.get(number, ()))
        kept = np.setdiff1d(np.arange(25), lost)
        assert np.isnan(joints.xyz[lost]).all()
        assert np.isnan(joints.depth_xy[lost]).all()
        assert np.allclose(joints.xyz[kept] * (-1, -1, 1), seen.joints3d[kept], atol=1e-5)
        unmirrored = np.column_stack([511.5 - joints.depth_xy[:, 0], joints.depth_xy[:, 1] + 0.5])
        assert np.allclose(unmirrored[kept], seen.keypoints[kept, :2], atol=1e-3)
        assert np.array_equal(joints.state, 1 + seen.keypoints[:, 2])
        assert np.allclose(joints.color_xy[kept], CLIP.rig.color(joints.depth_xy[kept], joints.xyz[kept, 2]), atol=0.02)


@pytest.mark.parametrize(
    ("change", "frames", "words"),
    [
        (lambda lines: lines[: len(lines) - 10], 5, "ends after 5 of the 6 frames"),
        (lambda lines: lines[:1], 0, "ends after 0 of the 6 frames"),
        (lambda lines: ["7", *lines[1:]], 6, "ends after 6 of the 7 frames"),
        (lambda lines: ["3", *lines[1:]], 3, "goes on after the 3 frames"),
        (lambda lines: [lines[0], "7", *lines[2:]], 0, "line 2 of the skeleton declares 7 bodies"),
        (lambda lines: [lines[0], "99999999999999999", *lines[2:]], 0, "line 2 of the skeleton declares"),
        (lambda lines: [*lines[:2], "nonsense", *lines[3:]], 0, "line 3 of the skeleton has 1 values, a body begins"),
        (lambda lines: [*lines[:3], "26", *lines[4:]], 0, "line 4 of the skeleton declares 26 joints"),
        (lambda lines: [*lines[:10], *lines[11:]], 1, "not a number of bodies"),
    ],
)
def test_a_fault_ends_the_frames(change, frames, words):
    lines = text(CLIP).decode().splitlines()
    clip = skeleton_file.parse("\n".join(change(lines)).encode())
    assert len(clip.frames) == frames
    assert words in clip.fault


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"no number\n", b"-3\n", b"0\n", b"1e9\n", b"99999999999999999999\n", b"1000000000\n0\n"]
)
def test_a_file_without_a_believable_number_of_frames(data):
    with pytest.raises(ValueError, match=r"a number of frames|frames; 1 to 10000 are read"):
        skeleton_file.parse(data)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", "has 'text' in place of a number"),
        ("", "line 6 of the skeleton has 11 values"),
        ("1 2", "line 6 of the skeleton has 13 values"),
    ],
)
def test_a_broken_joint_costs_its_frame_alone(value, words):
    lines = text(CLIP).decode().splitlines()
    lines[5] = " ".join([*lines[5].split()[:3], value, *lines[5].split()[4:]])
    clip = skeleton_file.parse("\n".join(lines).encode())
    with pytest.raises(ValueError, match=words):
        clip.joints(clip.frames[0][0])
    assert np.isfinite(clip.joints(clip.frames[1][0]).xyz).all()


@pytest.mark.parametrize(("state", "words"), [("3", "'3'; there are 0, 1 and 2"), ("-1", "'-1'"), ("nan", "'nan'")])
def test_an_unknown_tracking_state(state, words):
    lines = text(CLIP).decode().splitlines()
    lines[6] = " ".join([*lines[6].split()[:11], state])
    clip = skeleton_file.parse("\n".join(lines).encode())
    with pytest.raises(ValueError, match=words):
        clip.joints(clip.frames[0][0])


@pytest.mark.parametrize("nan", ["nan", "NaN", "-1.#IND", "1.#QNAN", "-nan"])
def test_every_way_to_write_no_number(nan):
    lines = text(CLIP).decode().splitlines()
    lines[4] = " ".join([*lines[4].split()[:3], nan, *lines[4].split()[4:]])
    clip = skeleton_file.parse("\n".join(lines).encode())
    joints = clip.joints(clip.frames[0][0])
    assert np.isnan(joints.depth_xy[0, 0])
    assert np.isfinite(joints.depth_xy[1:]).all()


def test_a_long_file_is_read_at_the_speed_of_a_disk():
    """The structure of all frames and the numbers of every tenth: all files together have more than 10 GB."""
    data = text(Clip("S001C001P001R001A001", frames=60))
    assert len(data) > 100_000
    begun = time.process_time()
    for _ in range(20):
        clip = skeleton_file.parse(data)
        for frame in clip.frames[9::10]:
            clip.joints(frame[0])
    rate = 20 * len(data) / (time.process_time() - begun) / 1e6
    assert rate > 20, f"{rate:.0f} MB/s"
