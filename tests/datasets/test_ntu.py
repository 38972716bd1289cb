import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import KINECT_25
from hcmoco.data.validation import check_person
from hcmoco.datasets import ntu
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.errors import UserError
from tests.helpers.ntu_files import HEIGHT, SLIDE, WIDTH, Clip, color_picture, truth, write

CLIPS = {
    clip.tag: clip
    for clip in (
        Clip("S001C001P001R001A001", frames=30, person=0, bodies={10: 2}),
        Clip("S001C001P002R002A002", frames=25, person=1, bodies={20: 0}),
        Clip("S001C002P001R001A001", frames=20, person=2, lost={10: (3, 4), 20: tuple(range(25))}, zeros={10: (15,)}),
        Clip("S001C002P003R001A050", frames=10, person=3),
        Clip("S018C001P041R001A061", frames=10, person=4),
    )
}
_SMALL = 480


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """CLIPS, their videos a quarter of the size, in a folder with a name that is no plain one."""
    root = tmp_path_factory.mktemp("NTU é 日")
    write(root, list(CLIPS.values()), width=_SMALL)
    return root


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def outcomes(root, **options):
    return {each.id: each for each in read_all(ntu.READER, ntu.NtuConfig(source=str(root), **options))}


def frame_of(id):
    tag, _, number = id.removeprefix("ntu/").partition("F")
    return CLIPS[tag], int(number)


def uncropped(person, image, fill=0):
    """The stored square where it came from in the whole picture; what it does not hold is `fill`."""
    x0, y0, side = person.crop[:3].astype(int)
    assert person.size == side, "these people are small enough to keep their pixels"
    whole = np.full((HEIGHT + 2 * side, WIDTH + 2 * side, *image.shape[2:]), fill, image.dtype)
    whole[y0 + side : y0 + 2 * side, x0 + side : x0 + 2 * side] = image
    return whole[side : side + HEIGHT, side : side + WIDTH]


def offset(a, b, mask):
    """How far, in pixels, one picture lies off the other where mask is: the shift that explains their difference best
    (Lucas, Kanade).
    """
    a, b = (cv2.GaussianBlur(each.mean(2).astype(np.float32), (0, 0), 1.5) for each in (a, b))
    inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    shift = np.zeros(2)
    for _ in range(10):
        moved = cv2.warpAffine(b, np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]]), b.shape[::-1])
        slopes = np.column_stack([np.gradient(moved, axis=1)[inside], np.gradient(moved, axis=0)[inside]])
        shift += np.linalg.lstsq(slopes, (a - moved)[inside], rcond=None)[0]
    return float(np.hypot(*shift))


def test_what_was_written_comes_back(written):
    found = outcomes(written)
    persons = {id: each for id, each in found.items() if isinstance(each, Person)}
    assert set(persons) == {
        "ntu/S001C001P001R001A001F020", "ntu/S001C001P001R001A001F030",
        "ntu/S001C001P002R002A002F010", "ntu/S001C002P001R001A001F010",
        "ntu/S018C001P041R001A061F010",
    }  # fmt: skip
    assert {id: each.reason for id, each in found.items() if isinstance(each, Skipped)} == {
        "ntu/S001C001P001R001A001F010": "more than one body",
        "ntu/S001C001P002R002A002F020": "no body",
        "ntu/S001C002P003R001A050": "the clip's action is one of two people",
    }
    assert {id: each.reason for id, each in found.items() if isinstance(each, Rejected)} == {
        "ntu/S001C002P001R001A001F020": "no joint is tracked inside the picture"
    }
    for id, person in persons.items():
        clip, number = frame_of(id)
        seen = truth(clip, number)
        assert check_person(person, 25, "zstd-delta") == []
        assert (person.dataset, person.split, person.subject) == ("ntu", "train", clip.tag[8:12])
        assert person.crop[3:].tolist() == [WIDTH, HEIGHT]
        lost = [*clip.lost.get(number, ()), *clip.zeros.get(number, ())]
        # Also what is only inferred counts as seen; what has no number does not.
        assert np.array_equal(np.flatnonzero(person.keypoints[:, 2] == 0), lost)
        kept = np.setdiff1d(np.arange(25), lost)
        assert np.allclose(person.keypoints[kept, :2] + person.crop[:2], seen.keypoints[kept, :2], atol=1e-3)
        assert np.allclose(person.camera, seen.camera - (0, 0, *person.crop[:2]), atol=0.01)
        if lost:
            assert person.joints3d is None
        else:
            assert np.allclose(person.joints3d, seen.joints3d, atol=1e-5)
            fx, fy, cx, cy = person.camera
            x, y, z = person.joints3d.T
            assert np.allclose(np.column_stack([cx + fx * x / z, cy + fy * y / z]), person.keypoints[:, :2], atol=0.02)
        depth = codecs.decode_depth(person.depth, "zstd-delta", person.size)
        assert np.array_equal(uncropped(person, depth), seen.depth)
        rows, columns = np.flatnonzero(seen.depth.any(1)), np.flatnonzero(seen.depth.any(0))
        box = person.box + np.tile(person.crop[:2], 2)
        xy = seen.keypoints[kept, :2]
        expected = [
            *np.minimum(xy.min(0), (columns[0], rows[0])),
            *np.maximum(xy.max(0), (columns[-1] + 1, rows[-1] + 1)),
        ]
        assert np.allclose(box, expected, atol=1e-3)


@pytest.mark.parametrize("codec", ["XVID", "MJPG"])
def test_color_lies_on_depth_to_under_half_a_pixel(tmp_path, codec):
    """In a video of full size; a neighboring frame would lie further off."""
    clips = [Clip("S003C002P007R001A010", frames=12, person=2), Clip("S003C002P008R001A010", frames=12, person=6)]
    write(tmp_path, clips, codec=codec)
    found = outcomes(tmp_path)
    assert len(found) == 2
    for clip in clips:
        person = found[f"ntu/{clip.tag}F010"]
        rgb = uncropped(person, codecs.decode_rgb(person.rgb))
        same, next_one = truth(clip, 10), truth(clip, 11)
        on_person = same.depth > 0
        assert offset(rgb, same.rgb, on_person) < 0.2
        assert abs(offset(rgb, next_one.rgb, on_person) - SLIDE) < 0.2
        assert np.abs(rgb.astype(float) - same.rgb)[on_person].mean() < 8


def test_left_is_the_persons_own_left(written):
    facing = 0
    for id, person in outcomes(written).items():
        if isinstance(person, Person) and person.joints3d is not None:
            left, right = (person.keypoints[KINECT_25.index(f"{side}_shoulder")] for side in ("left", "right"))
            clip, number = frame_of(id)
            there = truth(clip, number).keypoints
            facing += there[4, 0] > there[8, 0]
            assert (left[0] > right[0]) == (there[4, 0] > there[8, 0])
    assert facing


def test_calibrations_say_how_well_it_fits(written):
    config = ntu.NtuConfig(source=str(written))
    items = ntu.items(config)
    calibrations = ntu.calibrations(config, items)
    assert list(calibrations) == ["S001C001", "S001C002", "S018C001"]
    result = ntu.calibrate(calibrations["S001C001"])
    assert (result["clips"], result["clips_with_pairs"], result["refused"]) == (2, 2, "")
    assert result["pairs"] >= 8 * 25
    assert result["median_px"] < 0.01
    assert result["p90_px"] < 0.01
    assert result["clip_median_max_px"] < 0.01
    assert np.allclose(result["camera"], CLIPS["S001C001P001R001A001"].rig.camera, atol=0.01)
    assert ntu.calibrate(calibrations["S001C001"]) == result


def test_a_bad_fit_is_refused_with_its_clips(tmp_path, written):
    root = Path(shutil.copytree(written, tmp_path / "copy"))
    rng = np.random.default_rng(0)
    path = root / "nturgb+d_skeletons" / "S018C001P041R001A061.skeleton"
    lines = path.read_text().splitlines()
    for k, line in enumerate(lines):
        values = line.split()
        if len(values) == 12:
            values[5:7] = (f"{value:.2f}" for value in np.array(values[5:7], float) + rng.normal(0, 9, 2))
            lines[k] = " ".join(values)
    path.write_text("\n".join(lines) + "\n")
    found = outcomes(root)
    reason = found["ntu/S018C001P041R001A061"].reason
    assert reason.startswith("setup and camera 'S018C001' are refused: the median residual of its registration is ")
    assert isinstance(found["ntu/S001C001P001R001A001F020"], Person)
    assert isinstance(
        outcomes(root, max_residual=20, max_residual_p90=40, max_clip_residual=20)["ntu/S018C001P041R001A061F010"],
        Person,
    )
    with pytest.raises(UserError, match="no clip is left to read"):
        outcomes(root, setups=(18,))


def test_joints_in_space_that_fit_no_camera_cost_no_picture(tmp_path, written):
    root = Path(shutil.copytree(written, tmp_path / "copy"))
    rng = np.random.default_rng(0)
    path = root / "nturgb+d_skeletons" / "S018C001P041R001A061.skeleton"
    lines = path.read_text().splitlines()
    for k, line in enumerate(lines):
        values = line.split()
        if len(values) == 12:
            lines[k] = " ".join([*(f"{value:.4f}" for value in rng.uniform(-1, 1, 2)), *values[2:]])
    path.write_text("\n".join(lines) + "\n")
    config = ntu.NtuConfig(source=str(root))
    result = ntu.calibrate(ntu.calibrations(config, ntu.items(config))["S018C001"])
    assert result["refused"] == ""
    assert "camera" not in result
    assert len(result["camera_refused"].split()) > 5
    person, whole = (outcomes(each)["ntu/S018C001P041R001A061F010"] for each in (root, written))
    assert (person.camera, person.joints3d) == (None, None)
    assert (person.rgb, person.depth) == (whole.rgb, whole.depth)
    assert np.array_equal(person.keypoints, whole.keypoints)


def test_a_clip_that_does_not_fit_its_registration_is_set_aside(tmp_path):
    """A camera that was moved during one of four clips."""
    clips = [Clip(f"S002C001P00{k}R001A001", person=k, frames=10, shift=30.0 * (k == 3)) for k in range(1, 5)]
    write(tmp_path, clips, width=_SMALL)
    found = outcomes(tmp_path)
    assert [isinstance(each, Person) for each in found.values()] == [True, True, False, True]
    assert "lie 14.6" in found["ntu/S002C001P003R001A001F010"].reason
    assert "off the registration of its setup and camera, at most 2" in found["ntu/S002C001P003R001A001F010"].reason


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"dataset": 60},
            {"S001C001P001R001A001", "S001C001P002R002A002", "S001C002P001R001A001", "S001C002P003R001A050"},
        ),
        ({"setups": (18,)}, {"S018C001P041R001A061"}),
        ({"performers": (1, 41)}, {"S001C001P001R001A001", "S001C002P001R001A001", "S018C001P041R001A061"}),
        ({"actions": (1, 2)}, {"S001C001P001R001A001", "S001C001P002R002A002", "S001C002P001R001A001"}),
    ],
)
def test_a_part_of_the_data_set(written, options, expected):
    assert {each.id for each in ntu.items(ntu.NtuConfig(source=str(written), **options))} == {
        f"ntu/{tag}" for tag in expected
    }


def test_options(written, tmp_path):
    found = outcomes(
        written, two_person_actions=True, people="first", stride=5, split="mine", size=64, depth_codec="png16"
    )
    assert {each.split for each in found.values() if isinstance(each, Person)} == {"mine"}
    assert {each.size for each in found.values() if isinstance(each, Person)} == {64}
    assert [id for id in found if "A050" in id] == ["ntu/S001C002P003R001A050F005", "ntu/S001C002P003R001A050F010"]
    first = found["ntu/S001C001P001R001A001F010"]
    codecs.decode_depth(first.depth, "png16", 64)
    # The first of the two bodies is the one that is there.
    at = first.keypoints[:, :2] * first.crop[2] / 64 + first.crop[:2]
    assert np.allclose(at, truth(*frame_of(first.id)).keypoints[:, :2], atol=1e-2)

    (tmp_path / "missing skeletons.txt").write_text(
        "Samples\n----\nS001C001P001R001A001\nS001C002P001R001A001.skeleton\n"
    )
    found = outcomes(written, exclude=str(tmp_path / "missing skeletons.txt"))
    reasons = [each.reason for each in found.values() if isinstance(each, Skipped)]
    assert reasons.count("the clip is on the list to exclude") == 2


def test_frames_that_one_of_the_files_lacks(copy):
    tag = "S001C001P001R001A001"
    depth = copy / "nturgb+d_depth_masked" / tag
    (depth / "MDepth-00000020.png").unlink()
    skeleton = copy / "nturgb+d_skeletons" / f"{tag}.skeleton"
    lines = skeleton.read_text().splitlines()
    starts = [k for k, line in enumerate(lines) if len(line.split()) == 1 and line != "25"]
    skeleton.write_text("\n".join(lines[: starts[26]]) + "\n")  # 25 whole frames of 30
    video = copy / "nturgb+d_rgb" / "S001C001P002R002A002_rgb.avi"
    reader = cv2.VideoCapture(str(video))
    frames = [reader.read()[1] for _ in range(9)]
    writer = cv2.VideoWriter(str(video), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"XVID"), 30, frames[0].shape[1::-1])
    for each in frames:
        writer.write(each)
    writer.release()
    found = outcomes(copy)
    assert "MDepth-00000020.png' does not exist" in found[f"ntu/{tag}F020"].reason
    assert found[f"ntu/{tag}F030"].reason == "the skeleton ends after 25 of the 30 frames that it declares"
    assert found["ntu/S001C001P002R002A002F010"].reason == "the video has no such frame, or ends before it is whole"
    assert isinstance(found["ntu/S018C001P041R001A061F010"], Person)


def test_a_skeleton_of_too_few_frames_is_told_even_where_no_record_needs_them(copy):
    skeleton = copy / "nturgb+d_skeletons" / "S018C001P041R001A061.skeleton"
    skeleton.write_bytes(b"11" + skeleton.read_bytes()[2:])
    found = outcomes(copy)
    assert isinstance(found["ntu/S018C001P041R001A061F010"], Person)
    assert found["ntu/S018C001P041R001A061"].reason == "the skeleton ends after 10 of the 11 frames that it declares"


def chunks(data):
    """(position, length) of the frames of an AVI."""
    at, found = data.index(b"movi") + 4, []
    while data[at : at + 4] == b"00dc":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((at, length))
        at += 8 + length + length % 2
    return found


def test_a_frame_that_the_video_leaves_out_does_not_move_the_others(tmp_path):
    """Frame 15 is an empty chunk, as capturing programs write where they were late."""
    write(tmp_path, [CLIPS["S001C001P001R001A001"]], width=_SMALL, codec="MJPG")
    video = tmp_path / "nturgb+d_rgb" / "S001C001P001R001A001_rgb.avi"
    data = video.read_bytes()
    at, length = chunks(data)[14]
    video.write_bytes(data[: at + 4] + bytes(4) + data[at + 8 + length + length % 2 :])
    person = outcomes(tmp_path)["ntu/S001C001P001R001A001F020"]
    rgb = uncropped(person, codecs.decode_rgb(person.rgb))
    mask = uncropped(person, np.ones((person.size, person.size), np.uint8))[..., None]
    errors = {
        number: np.abs(rgb.astype(float) - truth(CLIPS["S001C001P001R001A001"], number).rgb * mask).mean()
        for number in (19, 20, 21)
    }
    assert min(errors, key=errors.get) == 20


def test_a_cut_video_gives_no_gray_frame(copy):
    video = copy / "nturgb+d_rgb" / "S001C001P001R001A001_rgb.avi"
    data = video.read_bytes()
    at, length = chunks(data)[19]
    video.write_bytes(data[: at + 8 + length // 3])
    found = outcomes(copy)
    assert found["ntu/S001C001P001R001A001F020"].reason == "the video has no such frame, or ends before it is whole"


@pytest.mark.parametrize("shape", [(340, 256), (1920, 1088), (3840, 2160)])
def test_a_video_of_another_shape(copy, shape):
    video = copy / "nturgb+d_rgb" / "S018C001P041R001A061_rgb.avi"
    writer = cv2.VideoWriter(str(video), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 30, shape)
    writer.write(np.zeros((shape[1], shape[0], 3), np.uint8))
    writer.release()
    assert f"the video is {shape[0]} x {shape[1]} pixels" in outcomes(copy)["ntu/S018C001P041R001A061F010"].reason


def test_numbers_that_contradict_each_other(copy):
    tag = "S018C001P041R001A061"
    path = copy / "nturgb+d_skeletons" / f"{tag}.skeleton"
    lines = path.read_text().splitlines()
    at = 1 + 9 * 28 + 3 + 13  # frame 10, left knee
    whole = lines[at].split()
    for column, value, words in (
        (3, "40.5", "the joint 'left_knee' lies"),
        (2, "1e308", "the joint 'left_knee' lies at"),
        (2, "-2", "the joint 'left_knee' lies at"),
        (11, "7", "tracking state '7'"),
    ):
        lines[at] = " ".join([*whole[:column], value, *whole[column + 1 :]])
        path.write_text("\n".join(lines) + "\n")
        assert words in outcomes(copy)[f"ntu/{tag}F010"].reason


def test_pictures_of_another_kind(copy):
    for tag, image in (
        ("S001C001P001R001A001F020", np.ones((HEIGHT, WIDTH), np.uint8)),
        ("S001C001P001R001A001F030", np.ones((240, 320), np.uint16)),
        ("S001C001P002R002A002F010", np.zeros((HEIGHT, WIDTH), np.uint16)),
    ):
        clip, number = frame_of(tag)
        cv2.imwrite(str(copy / "nturgb+d_depth_masked" / clip.tag / f"MDepth-{number:08d}.png"), image)
    found = outcomes(copy)
    assert "a 16-bit PNG of one channel is needed" in found["ntu/S001C001P001R001A001F020"].reason
    assert "320 x 240 pixels, Kinect's are 512 x 424" in found["ntu/S001C001P001R001A001F030"].reason
    assert "no reading around the person" in found["ntu/S001C001P002R002A002F010"].reason


def test_what_leaves_the_folder_is_not_read(copy, tmp_path):
    for name in ("nturgb+d_skeletons/S001C001P001R001A001.skeleton", "nturgb+d_rgb/S001C002P001R001A001_rgb.avi"):
        (copy / name).rename(tmp_path / Path(name).name)
        (copy / name).symlink_to(tmp_path / Path(name).name)
    (copy / "nturgb+d_depth_masked/S001C001P002R002A002").rename(tmp_path / "depth")
    (copy / "nturgb+d_depth_masked/S001C001P002R002A002").symlink_to(tmp_path / "depth")
    found = outcomes(copy)
    for id in ("ntu/S001C001P001R001A001", "ntu/S001C002P001R001A001F010", "ntu/S001C001P002R002A002F010"):
        assert "leaves the folder" in found[id].reason


def test_the_two_roots_of_both_releases(written, tmp_path):
    for root, setup in (("NTURGBD", "S001"), ("NTURGBD120", "S018")):
        for folder in ("nturgb+d_rgb", "nturgb+d_skeletons", "nturgb+d_depth_masked"):
            (tmp_path / root / folder).mkdir(parents=True)
            for path in (written / folder).glob(f"{setup}*"):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / root / folder / path.name)
    apart, together = outcomes(tmp_path), outcomes(written)
    assert list(apart) == list(together)
    for id, each in together.items():
        assert not isinstance(each, Person) or (each.rgb, each.depth) == (apart[id].rgb, apart[id].depth)


@pytest.mark.parametrize(
    "second", ["nturgb+d_skeletons120", "nturgb+d_skeletons_120", "nturgbd_skeletons_s018_to_s032"]
)
def test_skeletons_of_the_second_release_in_their_own_folder(copy, written, second):
    (copy / second).mkdir()
    moved = list((copy / "nturgb+d_skeletons").glob("S018*"))
    assert moved
    for path in moved:
        path.rename(copy / second / path.name)
    found, expected = outcomes(copy), outcomes(written)
    assert list(found) == list(expected)
    assert [type(each) for each in found.values()] == [type(each) for each in expected.values()]
    assert ntu.inventory(ntu.NtuConfig(source=str(copy))).faults == []


def test_check_lists_exactly_what_is_missing(copy):
    config = ntu.NtuConfig(source=str(copy))
    whole = ntu.inventory(config)
    assert whole.counts == {"clips": 4, "RGB videos": 4, "skeleton files": 4, "depth pictures to be read": 8}
    assert whole.faults == []
    assert whole.notes == ["1 clips will be skipped: the clip's action is one of two people"]

    (copy / "nturgb+d_rgb/S001C001P001R001A001_rgb.avi").unlink()
    (copy / "nturgb+d_rgb/S001C001P002R002A002_rgb.avi").write_bytes(b"<html>")
    (copy / "nturgb+d_skeletons/S001C002P001R001A001.skeleton").write_bytes(b"")
    (copy / "nturgb+d_depth_masked/S001C001P002R002A002/MDepth-00000020.png").unlink()
    (copy / "nturgb+d_depth_masked/S001C001P002R002A002/MDepth-00000019.png").unlink()  # of a frame that is not read
    (copy / "nturgb+d_rgb/notes.txt").write_text("mine")
    found = ntu.inventory(config)
    assert [(Path(fault.path).name, fault.reason) for fault in found.faults] == [
        ("S001C001P001R001A001", "the clip has no RGB video"),
        ("S001C001P002R002A002_rgb.avi", "is not AVI"),
        ("S001C002P001R001A001.skeleton", "is empty"),
        ("S001C002P001R001A001.skeleton", "does not begin with a number of frames"),
        ("MDepth-00000020.png", "does not exist"),
    ]
    assert any("1 files or folders are not named like a clip" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda root: shutil.rmtree(root), {}, "is not a folder"),
        (
            lambda root: shutil.rmtree(root / "nturgb+d_depth_masked"),
            {},
            "has no folder nturgb.d_depth_masked, nor have NTURGBD",
        ),
        (lambda root: None, {"setups": (7,)}, "has no clip that is asked for"),
        (lambda root: None, {"exclude": "nowhere.txt"}, "--exclude .*nowhere.txt: 'nowhere.txt' does not exist"),
        (lambda root: (root / "x.txt").write_text("nothing"), {"exclude": "x.txt"}, "names no clip"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line(copy, change, options, words):
    change(copy)
    with pytest.raises(UserError, match=words) as caught:
        ntu.items(ntu.NtuConfig(source=str(copy), **options))
    assert "\n" not in str(caught.value)


def color_keypoints(clip, number):
    """float64 [25, 2], where the unmirrored video of 480 pixels shows the joints; a pixel's center is at +0.5."""
    seen = truth(clip, number)
    x, y, z = (seen.joints3d * (-1, -1, 1)).T
    fx, fy, cx, cy = clip.rig.camera
    xy = clip.rig.color(np.column_stack([cx + fx * x / z, cy - fy * y / z]), z)
    return (np.array([1920, 0]) - (xy + 0.5) * (1, -1)) * (_SMALL / 1920)


def test_rgb_and_joints_alone_are_the_color_picture(copy):
    shutil.rmtree(copy / "nturgb+d_depth_masked")
    with pytest.raises(UserError, match="--use rgb reads RGB and joints without depth"):
        outcomes(copy)
    found = outcomes(copy, use="rgb")
    persons = {id: each for id, each in found.items() if isinstance(each, Person)}
    assert {"ntu/S001C001P001R001A001F020", "ntu/S001C002P001R001A001F010"} <= set(persons)
    assert found["ntu/S001C001P001R001A001F010"].reason == "more than one body"
    for id, person in persons.items():
        clip, number = frame_of(id)
        assert check_person(person, 25, "zstd-delta") == []
        assert (person.depth, person.camera, person.joints3d) == (None, None, None)
        assert person.crop[3:].tolist() == [_SMALL, _SMALL * 9 // 16]
        lost = [*clip.lost.get(number, ()), *clip.zeros.get(number, ())]
        kept = np.setdiff1d(np.arange(25), lost)
        assert np.array_equal(np.flatnonzero(person.keypoints[:, 2]), kept)
        assert person.size == person.crop[2]
        expected = color_keypoints(clip, number)[kept] - person.crop[:2]
        assert np.allclose(person.keypoints[kept, :2], expected, atol=0.01)
        # The pixels: what the color camera saw, mirrored back.
        shown = color_picture(clip, truth(clip, number), _SMALL)[:, ::-1, ::-1]
        x0, y0, side = person.crop[:3].astype(int)
        high, low = np.minimum([y0 + side, x0 + side], shown.shape[:2]), np.maximum([y0, x0], 0)
        stored = codecs.decode_rgb(person.rgb)[low[0] - y0 : high[0] - y0, low[1] - x0 : high[1] - x0]
        assert np.abs(stored.astype(int) - shown[low[0] : high[0], low[1] : high[1]]).mean() < 8


def test_the_check_asks_for_no_depth_without_it(copy):
    shutil.rmtree(copy / "nturgb+d_depth_masked")
    found = ntu.inventory(ntu.NtuConfig(source=str(copy), use="rgb"))
    assert not found.faults
    assert set(found.counts) == {"clips", "RGB videos", "skeleton files"}
