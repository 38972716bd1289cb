"""NTURGBD-Parsing-4K: what was put into its files comes back, and invalid frames are rejected with a reason."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.body_parts import FLIP, IGNORE, RAW_IDS
from hcmoco.data.schema import Person
from hcmoco.data.validation import check_person
from hcmoco.datasets import ntu_parsing
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.datasets.ntu_parsing import NtuParsingConfig
from hcmoco.errors import UserError
from hcmoco.tasks.parsing.loss import class_counts
from tests.helpers.ntu_files import Clip, truth, write
from tests.helpers.ntu_parsing_files import HEIGHT, WIDTH, frame_name, label_png, make_frame, write_ntu_parsing
from tests.helpers.real_samples import real_sample

TOP = (WIDTH - HEIGHT) // 2


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("download") / "NTU RGB+D Parsing \u00e9"
    return root, write_ntu_parsing(root)


@pytest.fixture
def source(original, tmp_path):
    root = tmp_path / original[0].name
    shutil.copytree(original[0], root)
    return root


def config(root, **values):
    return NtuParsingConfig(source=str(root), **values)


def persons(root, **values):
    return list(read_all(ntu_parsing.READER, config(root, **values)))


def test_frames_come_back_as_they_were_put_in(original):
    root, frames = original
    for split, names in (("train", list(frames)[:4]), ("val", list(frames)[4:])):
        found = persons(root, split=split)
        assert [person.id for person in found] == [f"ntu-parsing/{name}" for name in names]
        for person, name in zip(found, names, strict=True):
            assert isinstance(person, Person)
            assert check_person(person, 25) == []
            assert (person.split, person.subject, person.size) == (split, name[8:12], WIDTH)
            assert person.crop.tolist() == [0, -TOP, WIDTH, WIDTH, HEIGHT]
            rgb, depth, parts = decoded(person)
            inside = np.s_[TOP : TOP + HEIGHT]
            assert np.array_equal(depth[inside], frames[name].depth)
            assert np.array_equal(parts[inside], frames[name].parts)
            assert np.abs(rgb[inside].astype(int) - frames[name].rgb).mean() < 4
            assert (parts == IGNORE).sum() == WIDTH * (WIDTH - HEIGHT)
            x0, y0, x1, y1 = person.box.astype(int)
            shown = (parts > 0) & (parts < 25)
            assert shown[y0:y1, x0:x1].sum() == shown.sum()
            assert shown[y0].any()
            assert shown[:, x1 - 1].any()


def decoded(person, codec="png16"):
    return codecs.decode_rgb(person.rgb), codecs.decode_depth(person.depth, codec), codecs.decode_labels(person.parts)


def test_classes_are_as_frequent_as_in_the_pictures(original):
    """The published class weights are over the pictures; what pads them to squares must not count as background."""
    root, frames = original
    counts = class_counts(codecs.decode_labels(person.parts) for person in persons(root))
    assert counts.tolist() == class_counts(frames[name].parts for name in list(frames)[:4]).tolist()


def test_the_short_lists(original):
    root, frames = original
    assert [person.id for person in persons(root, lists="v3")] == [f"ntu-parsing/{next(iter(frames))}"]


def test_a_crop_around_the_person(original):
    root, frames = original
    (person, *_), frame = persons(root, stored="person", depth_codec="zstd-delta"), next(iter(frames.values()))
    side, width, height = person.crop[2:].astype(int)
    assert (width, height) == (WIDTH, HEIGHT)
    _, depth, parts = decoded(person, "zstd-delta")
    assert (parts > 0).sum() == (frame.parts > 0).sum()
    assert depth[parts > 0].sum(dtype=int) == frame.depth[frame.parts > 0].sum(dtype=int)
    assert side == round(1.5 * max(np.ptp(np.nonzero(frame.parts)[0]), np.ptp(np.nonzero(frame.parts)[1])) + 1.5)


def test_mirrors(original):
    root, frames = original
    name = next(iter(frames))
    inside = np.s_[TOP : TOP + HEIGHT]
    flipped = frames[name].parts[:, ::-1]
    for mirror, expected in (("pixels", flipped), ("pixels and sides", FLIP[flipped])):
        rgb, depth, parts = decoded(persons(root, mirror=mirror)[0])
        assert np.array_equal(parts[inside], expected)
        assert np.array_equal(depth[inside], frames[name].depth[:, ::-1])
        assert np.abs(rgb[inside].astype(int) - frames[name].rgb[:, ::-1]).mean() < 4
        assert (parts[:TOP] == IGNORE).all()
    assert not np.array_equal(flipped, FLIP[flipped])


def test_what_is_missing_is_listed_exactly(source):
    whole = ntu_parsing.inventory(config(source))
    assert whole.faults == []
    assert whole.counts == {"lines of the list": 4, "RGB pictures": 4, "depth pictures": 4, "label pictures": 4}
    assert any("not the 1,963 of the published v2 list" in note for note in whole.notes)
    (source / "depth" / f"MDepth-{frame_name(1)}.png").unlink()
    (source / "images" / f"{frame_name(2)}.jpg").write_bytes(b"<html>")
    (source / "png_annotation_v2" / f"{frame_name(3)}.png").write_bytes(b"")
    faults = ntu_parsing.inventory(config(source)).faults
    assert [(Path(each.path).name, each.reason) for each in faults] == [
        (f"{frame_name(2)}.jpg", "is not JPEG"),
        (f"MDepth-{frame_name(1)}.png", "does not exist"),
        (f"{frame_name(3)}.png", "is empty"),
    ]
    # What reading rejects is what the inventory lists.
    assert [isinstance(each, Rejected) for each in persons(source)] == [False, True, True, True]
    shutil.rmtree(source / "depth")
    faults = ntu_parsing.inventory(config(source)).faults
    assert ("does not exist; 4 depth pictures are looked for in it") in [each.reason for each in faults]
    with pytest.raises(UserError, match=r"folder of depth pictures .* does not exist"):
        ntu_parsing.items(config(source))


def test_the_halves_are_never_guessed(source):
    for name, other in (("train_v2.txt", "half one.txt"), ("val_v2.txt", "half two.txt")):
        (source / name).rename(source / other)
    with pytest.raises(
        UserError, match=r"v2 list of train frames.*is missing.*cannot be guessed.*--list-file"
    ) as error:
        ntu_parsing.items(config(source))
    assert "\n" not in str(error.value)
    (source / "lists").mkdir()
    shutil.copy(source / "val_v3.txt", source / "lists" / "VAL-v2.lst")
    assert len(ntu_parsing.items(config(source, split="val"))) == 1
    shutil.copy(source / "val_v3.txt", source / "lists" / "val_v2_copy.txt")
    with pytest.raises(UserError, match="is not certain"):
        ntu_parsing.items(config(source, split="val"))
    assert len(ntu_parsing.items(config(source, split="val", list_file="lists/VAL-v2.lst"))) == 1
    assert len(ntu_parsing.items(config(source, split="val", list_file=str(source / "lists" / "VAL-v2.lst")))) == 1
    with pytest.raises(UserError, match="does not exist"):
        ntu_parsing.items(config(source, list_file="nowhere.txt"))
    (source / "train_v3.txt").unlink()
    with pytest.raises(UserError, match="first 392 lines"):
        ntu_parsing.items(config(source, lists="v3"))


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe\x00", b"<html>moved</html>\n", b"images/1.jpg\n"])
def test_a_list_that_is_none_is_one_line(source, data):
    (source / "train_v2.txt").write_bytes(data)
    with pytest.raises(UserError, match=r"list .*train_v2.txt") as error:
        ntu_parsing.items(config(source))
    assert "\n" not in str(error.value)


def test_lines_that_name_no_frame(source):
    name = frame_name(0)
    lines = [
        "\ufeffimages/" + name + ".jpg\r",
        f"images/{name}.jpg",
        "../../etc/passwd",
        f"images/{name}",
        "images/../" + name + ".png",
        "",
        "é",
    ]
    (source / "train_v2.txt").write_text("\n".join(lines), encoding="utf-8")
    found = persons(source)
    reasons = [each.reason if isinstance(each, Rejected) else None for each in found]
    expected = [
        None,
        "line 2 of the list repeats",
        "line 3 of the list, '../../etc/passwd', names no frame",
        "line 4 .* repeats",
        "line 5",
        "line 7",
    ]
    for reason, words in zip(reasons, expected, strict=True):
        assert (reason is None) == (words is None)
        if words:
            with pytest.raises(ValueError, match=words):
                raise ValueError(reason)


def test_faults_become_reasons(source, tmp_path):
    frame, name = make_frame(0), frame_name(0)
    label, depth, image = (
        source / "png_annotation_v2" / f"{name}.png",
        source / "depth" / f"MDepth-{name}.png",
        source / "images" / f"{name}.jpg",
    )
    raw = np.array(RAW_IDS, np.uint8)[frame.parts]
    wrong = raw.copy()
    wrong[5, 5], wrong[6, 6] = 9, 200
    outside = tmp_path / "elsewhere.png"
    shutil.copy(label, outside)
    gray = lambda values: cv2.imencode(".png", values)[1].tobytes()  # noqa: E731
    cases = [
        (label, gray(wrong), r"raw part ids \[9, 200\]"),
        (label, gray(raw[:, :-1]), "differ in size: rgb 512 x 424, depth 512 x 424, parts 511 x 424"),
        (label, gray(np.dstack([raw] * 3)), "a PNG of 8 bits and 3 channels"),
        (label, gray(raw.astype(np.uint16)), "a PNG of 16 bits"),
        (label, label.read_bytes()[:-30], "truncated"),
        (depth, gray(frame.depth.astype(np.uint8)), "a 16-bit PNG of one channel is needed"),
        (depth, gray(frame.depth * 0), "no reading at all"),
        (depth, gray(np.uint16(frame.depth > 0) * 30000), "beyond 20 m"),
        (image, image.read_bytes()[:1000], "truncated"),
        (image, b"", "is empty"),
        (image, None, "does not exist"),
    ]
    for path, data, words in cases:
        before = path.read_bytes()
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        first, *others = persons(source)
        assert isinstance(first, Rejected), words
        with pytest.raises(ValueError, match=words):
            raise ValueError(first.reason)
        assert all(isinstance(each, Person) for each in others)
        path.write_bytes(before)
    label.unlink()
    label.symlink_to(outside)
    assert "leaves the folder" in persons(source)[0].reason
    label.unlink()
    os.mkfifo(label)
    assert "not a regular file" in persons(source)[0].reason


def test_255_is_left_out_and_a_frame_without_a_person_has_no_box(source):
    label = source / "png_annotation_v2" / f"{frame_name(0)}.png"
    label.write_bytes(cv2.imencode(".png", np.full((HEIGHT, WIDTH), 255, np.uint8))[1].tobytes())
    person = persons(source)[0]
    assert person.box is None
    assert (codecs.decode_labels(person.parts) == IGNORE).all()
    assert "no person to crop around" in persons(source, stored="person")[0].reason
    label.write_bytes(label_png(np.zeros((HEIGHT, WIDTH), np.uint8), palette=True))
    assert persons(source)[0].box is None


def one_frame(root, image: bytes, depth: bytes, label: bytes):
    name = frame_name(0)
    for folder, file, data in (
        ("images", f"{name}.jpg", image),
        ("depth", f"MDepth-{name}.png", depth),
        ("png_annotation_v2", f"{name}.png", label),
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / file).write_bytes(data)
    (root / "train_v2.txt").write_text(f"images/{name}.jpg\n")
    return persons(root)[0]


def test_real_labels_of_another_table_are_refused(tmp_path):
    folder = real_sample("lip-parsing")
    image, label = ((folder / f"684_2150041.{suffix}").read_bytes() for suffix in ("jpg", "png"))
    depth = codecs.encode_depth(np.full(codecs.decode_labels(label).shape, 2000, np.uint16), "png16")
    found = one_frame(tmp_path / "parsing", image, depth, label)
    assert "raw part ids [5, 13, 14, 15], which Human3.6M's part table does not list" in found.reason


def test_real_masked_depth_comes_back(tmp_path):
    files = sorted(real_sample("kinect1-masked-depth").glob("*.png"))
    for number, file in enumerate(files):
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        image = cv2.imencode(".jpg", np.full((*depth.shape, 3), 90, np.uint8))[1].tobytes()
        person = one_frame(
            tmp_path / str(number), image, file.read_bytes(), label_png(np.where(depth > 0, 14, 0), palette=True)
        )
        _, stored, parts = decoded(person)
        height, width = depth.shape
        assert person.size == 512
        assert person.crop.tolist() == [0, -(width - height) // 2, width, width, height]
        assert set(np.unique(stored)) <= set(np.unique(depth))
        assert np.array_equal(stored > 0, parts == 14)
        assert (stored > 0).mean() == pytest.approx((depth > 0).sum() / width**2, rel=0.02)


DOWNLOADED = (Clip("S001C001P001R001A001", frames=20, person=0), Clip("S001C001P002R001A050", frames=10, person=1))
DOWNLOADED_FRAMES = ("S001C001P001R001A001F010", "S001C001P001R001A001F020", "S001C001P002R001A050F010")


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """Labels and lists alone, and a download of NTU RGB+D beside them."""
    root = tmp_path_factory.mktemp("labels")
    write(root / "NTU", list(DOWNLOADED), width=640)
    (root / "png_annotation_v2").mkdir()
    for frame in DOWNLOADED_FRAMES:
        (root / "png_annotation_v2" / f"{frame}.png").write_bytes(label_png(labels_of(frame), palette=True))
    (root / "train_v2.txt").write_text("".join(f"images/{frame}.jpg\n" for frame in DOWNLOADED_FRAMES))
    return root


def seen(frame):
    """What the frame shows, mirrored as it is stored."""
    found = truth_of(frame)
    return found.rgb[:, ::-1], found.depth[:, ::-1]


def truth_of(frame):
    return truth(next(each for each in DOWNLOADED if each.tag == frame[:20]), int(frame[21:]))


def labels_of(frame):
    """The head wherever depth is, in train ids."""
    return (seen(frame)[1] > 0).astype(np.uint8) * 20


def test_rgb_and_depth_come_from_a_download_of_ntu(downloaded):
    with pytest.raises(UserError, match=r"--ntu takes RGB and depth from an NTU RGB\+D download"):
        persons(downloaded)
    assert not ntu_parsing.inventory(config(downloaded, ntu="NTU")).faults
    found = persons(downloaded, ntu="NTU")
    assert [person.id for person in found] == [f"ntu-parsing/{frame}" for frame in DOWNLOADED_FRAMES]
    inside = np.s_[TOP : TOP + HEIGHT]
    for person, frame in zip(found, DOWNLOADED_FRAMES, strict=True):
        assert check_person(person, 25) == []
        rgb, depth, parts = (each[inside] for each in decoded(person))
        true_rgb, true_depth = seen(frame)
        assert np.array_equal(depth, true_depth)
        assert np.array_equal(parts > 0, true_depth > 0)
        # The camera of the mirrored pictures, in the square that holds them.
        cx, cy = WIDTH - truth_of(frame).camera[2], truth_of(frame).camera[3]
        assert person.camera == pytest.approx([*truth_of(frame).camera[:2], cx, cy + TOP], abs=0.02)
        # RGB lies on depth: what it shows there is what was rendered, and no place beside it fits as well.
        errors = [np.abs(np.roll(rgb, shift, 1).astype(int) - true_rgb)[true_depth > 0].mean() for shift in (-4, 0, 4)]
        assert errors[1] < 0.7 * min(errors[0], errors[2]), errors


@pytest.mark.parametrize("stored", ["whole", "person"])
def test_the_camera_goes_with_mirrors_and_crops(downloaded, stored):
    """Points of a picture and of its mirror image are each other's mirror image, at their true places."""
    plain, mirrored = (
        persons(downloaded, ntu="NTU", stored=stored, mirror=mirror)[0] for mirror in ("none", "pixels and sides")
    )
    points = []
    for person in (plain, mirrored):
        depth = decoded(person)[1]
        rows, columns = np.nonzero(depth)
        fx, fy, cx, cy = person.camera
        z = depth[rows, columns] / 1000
        found = np.stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z], 1)
        points.append(found.mean(0))
    assert points[0] == pytest.approx(points[1] * (-1, 1, 1), abs=0.002)
    joints = truth_of(DOWNLOADED_FRAMES[0]).joints3d
    assert (joints.min(0) < points[1]).all()
    assert (points[1] < joints.max(0)).all()


def test_a_frame_whose_clip_is_not_there_is_named(downloaded, tmp_path):
    root = Path(shutil.copytree(downloaded, tmp_path / "copy"))
    (root / "NTU" / "nturgb+d_skeletons" / "S001C001P002R001A050.skeleton").unlink()
    (*good, bad) = persons(root, ntu="NTU")
    assert all(isinstance(each, Person) for each in good)
    assert isinstance(bad, Rejected)
    assert bad.reason == "the clip has no skeleton file"
    (fault,) = ntu_parsing.inventory(config(root, ntu="NTU")).faults
    assert "S001C001P002R001A050F010: the clip has no skeleton file" in f"{fault.path}: {fault.reason}"
