"""Human3.6M's part labels: what was put into its videos and label tracks comes back; invalid frames are rejected."""

import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.body_parts import IGNORE, RAW_IDS
from hcmoco.data.schema import Person
from hcmoco.data.validation import check_person
from hcmoco.datasets import h36m_parsing
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.h36m_parsing import H36mParsingConfig
from hcmoco.datasets.io.mp4 import open_mp4
from hcmoco.errors import UserError
from tests.helpers.h36m_files import (
    Clip,
    damage_frame,
    hold_frame,
    make_clip,
    skip_frame,
    write_h36m,
    write_mat,
    write_mp4,
    write_video,
)

RAW = np.array(RAW_IDS, np.uint8)
STEM = "Directions 1.54138969"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("download") / "Human 3.6M \u00e9"
    return root, write_h36m(root)


@pytest.fixture
def source(original, tmp_path):
    """S1 alone."""
    root = tmp_path / original[0].name
    shutil.copytree(original[0] / "S1", root / "S1")
    return root


def config(root, **values):
    return H36mParsingConfig(source=str(root), **{"subjects": ("S1",), **values})


def outcomes(root, **values):
    return list(read_all(h36m_parsing.READER, config(root, **values)))


def mat_of(root, stem=STEM):
    return root / "S1" / "MySegmentsMat" / "PartLabels" / f"{stem}.mat"


def mp4_of(root, stem=STEM):
    return root / "S1" / "Videos" / f"{stem}.mp4"


def number_of(outcome):
    return int(outcome.id.rsplit("/", 1)[1])


def inside(picture, clip):
    height, width = clip.parts.shape[1:]
    top, left = ((max(height, width) - side) // 2 for side in (height, width))
    return picture[top : top + height, left : left + width]


@pytest.mark.parametrize(("split", "subject"), [("train", "S1"), ("test", "S9")])
def test_frames_come_back_as_they_were_put_in(original, split, subject):
    root, clips = original
    found = outcomes(root, split=split, subjects=(subject,))
    assert [each.id for each in found] == [
        f"h36m-parsing/{subject}/{stem}/{number:08d}"
        for stem in (STEM, "Walking Dog.55011271")
        for number in (0, 25, 50)
    ]
    for person in found:
        assert isinstance(person, Person)
        assert check_person(person, 0) == []
        assert (person.split, person.subject) == (split, subject)
        clip = clips[person.id.removeprefix("h36m-parsing/").rsplit("/", 1)[0]]
        frames, height, width = clip.parts.shape
        assert person.size == max(height, width)
        assert person.crop.tolist() == [-((person.size - width) // 2), 0, person.size, width, height]
        parts = codecs.decode_labels(person.parts)
        assert np.array_equal(inside(parts, clip), clip.parts[number_of(person)])
        assert (parts == IGNORE).sum() == person.size**2 - width * height
        # The picture is that frame's and no neighbor's: the person moves by a pixel each frame.
        rgb = inside(codecs.decode_rgb(person.rgb), clip).astype(int)
        errors = [
            np.abs(rgb - clip.rgb[n]).mean()
            for n in range(max(0, number_of(person) - 3), min(frames, number_of(person) + 4))
        ]
        assert np.argmin(errors) == min(3, number_of(person))
        assert min(errors) < 6


def test_subjects_are_those_of_the_split_and_a_missing_one_is_not_passed_over(original):
    root, _ = original
    with pytest.raises(
        UserError,
        match=r"folder of videos .*S5.* does not exist; download S5, or name those that exist with --subjects",
    ):
        h36m_parsing.items(H36mParsingConfig(source=str(root)))
    faults = h36m_parsing.inventory(H36mParsingConfig(source=str(root))).faults
    assert [Path(each.path).relative_to(root).parts[0] for each in faults] == [
        "S5",
        "S5",
        "S6",
        "S6",
        "S7",
        "S7",
        "S8",
        "S8",
    ]
    assert H36mParsingConfig(source="x", split="test").chosen == ("S9", "S11")
    with pytest.raises(UserError, match="does not exist"):
        h36m_parsing.items(config(root / "nowhere"))
    for bad in (["../S1"], ["S1", "S1"], [], [""]):
        with pytest.raises(ValueError, match="subject"):
            H36mParsingConfig(source="x", subjects=bad)


def test_what_is_missing_is_listed_exactly(source):
    assert h36m_parsing.inventory(config(source)).faults == []
    mat_of(source).unlink()
    mp4_of(source, "Walking Dog.55011271").write_bytes(b"RIFF....AVI ")
    shutil.copy(mat_of(source, "Walking Dog.55011271"), mat_of(source, "Sitting.55011271"))
    result = h36m_parsing.inventory(config(source))
    assert result.counts == {"videos": 2, "label tracks": 2}
    assert [(Path(each.path).name, each.reason) for each in result.faults] == [
        ("Walking Dog.55011271.mp4", "is not MP4"),
        (f"{STEM}.mat", "does not exist"),
        ("Sitting.55011271.mp4", "does not exist, but its labels do"),
    ]
    assert sorted((each.id, each.reason) for each in outcomes(source)) == [
        (f"h36m-parsing/S1/{STEM}", f"'{STEM}.mat' does not exist in {mat_of(source).parent}"),
        ("h36m-parsing/S1/Sitting.55011271", "its video does not exist"),
        ("h36m-parsing/S1/Walking Dog.55011271", "'Walking Dog.55011271.mp4' is not an MP4"),
    ]


def test_the_published_count_is_told_for_a_whole_set(tmp_path):
    videos, labels = tmp_path / "S1" / "Videos", mat_of(tmp_path).parent
    videos.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(120):
        (videos / f"Walking {number}.1.mp4").write_bytes(b"\0\0\0\x1cftypisom")
        (labels / f"Walking {number}.1.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    result = h36m_parsing.inventory(config(tmp_path))
    assert result.faults == []
    assert result.notes == ["the set is whole; the published lists have 9,996 frames of S1"]
    (videos / "_ALL 1.1.mp4").write_bytes(b"")
    assert "skipped, since their names begin with _: 1 videos of S1" in h36m_parsing.inventory(config(tmp_path)).notes


@pytest.mark.parametrize(
    ("video_frames", "label_frames", "read", "left_out", "reason"),
    [
        (60, 26, [0, 25], [50], "the labels end before the video does"),
        (51, 102, [0, 25, 50], [75, 100], "the video ends before its labels do"),
    ],
)
def test_what_one_has_beyond_the_others_end_is_left_out(tmp_path, video_frames, label_frames, read, left_out, reason):
    clip = make_clip(5, 102, 64)
    write_video(tmp_path, "S1", "A.1", clip, video_frames=video_frames, label_frames=label_frames)
    found = outcomes(tmp_path)
    assert [number_of(each) for each in found if isinstance(each, Person)] == read
    assert [number_of(each) for each in found if isinstance(each, Skipped)] == left_out
    assert {each.reason for each in found if isinstance(each, Skipped)} == {reason}
    assert len(found) == len(read) + len(left_out)


def test_videos_that_begin_with_an_underscore_are_left_out(source):
    shutil.copy(mp4_of(source), mp4_of(source, "_ALL 1.54138969"))
    found = outcomes(source)
    assert [(each.id, each.reason) for each in found if isinstance(each, Skipped)] == [
        ("h36m-parsing/S1/_ALL 1.54138969", "its name begins with _")
    ]
    assert sum(isinstance(each, Person) for each in found) == 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, np.float32])
@pytest.mark.parametrize(
    "options", [{}, {"compression": None, "compression_opts": None, "chunks": None}, {"chunks": (7, 5)}]
)
def test_labels_of_any_number_type_and_storage(tmp_path, dtype, options):
    clip = make_clip(6, 6, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    write_mat(mat_of(tmp_path, "A.1"), [RAW[parts].astype(dtype) for parts in clip.parts], **options)
    found = outcomes(tmp_path, stride=5)
    assert [number_of(each) for each in found] == [0, 5]
    for person in found:
        assert np.array_equal(codecs.decode_labels(person.parts), clip.parts[number_of(person)])


def test_a_column_of_cells_is_read_like_a_row(tmp_path):
    clip = make_clip(6, 6, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    with h5py.File(mat_of(tmp_path, "A.1"), "r+") as file:
        references = file["Feat"][()]
        del file["Feat"]
        file.create_dataset("Feat", data=references.T, dtype=h5py.ref_dtype)
    assert len([each for each in outcomes(tmp_path, stride=5) if isinstance(each, Person)]) == 2


def test_single_bad_label_frames_are_set_aside(tmp_path):
    clip = make_clip(7, 60, 64)
    matrices = [RAW[parts] for parts in clip.parts]
    changed = {
        5: matrices[5] + np.uint8(9),
        10: matrices[10].astype(float) + 0.5,
        15: np.where(matrices[15] == 0, np.nan, matrices[15]),
        20: matrices[20][:-1],
        25: np.zeros((0, 0), np.uint8),
        30: matrices[30].astype(np.int16) - 1,
        35: np.full((64, 64), 255, np.uint8),
        40: matrices[40].astype(np.complex64),
    }
    write_video(tmp_path, "S1", "A.1", clip)
    whole = {"compression": None, "compression_opts": None, "chunks": None}
    write_mat(mat_of(tmp_path, "A.1"), [changed.get(n, matrix) for n, matrix in enumerate(matrices)], **whole)
    with h5py.File(mat_of(tmp_path, "A.1"), "r+") as file:
        file["Feat"][45, 0] = file["Feat"].ref
        file["Feat"][50, 0] = h5py.Reference()
        file["Feat"][55, 0] = file["#refs#"].ref
    found = {number_of(each): each for each in outcomes(tmp_path, stride=5)}
    words = {
        5: "raw part ids", 10: "no part ids", 15: "no part ids", 20: "differ in size: rgb 64 x 64, parts 64 x 63",
        25: "has the shape [2]",
        30: "no part ids", 40: "values of type complex64", 45: "values of type object", 50: "cell 50 refers to nothing",
        55: "not a data set",
    }  # fmt: skip
    assert {number: type(each) for number, each in found.items()} == {
        number: Rejected if number in words else Person for number in range(0, 60, 5)
    }
    for number, expected in words.items():
        assert expected in found[number].reason
    assert (codecs.decode_labels(found[35].parts) == IGNORE).all()
    assert found[35].box is None
    assert [type(each) for each in outcomes(tmp_path, stride=35, stored="person")] == [Person, Rejected]


def broken_mats(path: Path, clip: Clip):
    """(what is done to the file, words of the reason)."""
    good = path.read_bytes()
    outside = path.parents[4] / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.zeros((64, 64), np.uint8)

    def edit(change):
        path.write_bytes(good)
        with h5py.File(path, "r+") as file:
            change(file)

    def replaced(**values):
        def change(file):
            del file["Feat"]
            file.create_dataset("Feat", **values)

        return change

    def linked(file):
        del file["Feat"]
        file["Feat"] = h5py.ExternalLink(str(outside), "secret")

    yield lambda: path.write_bytes(good[: len(good) // 2]), "cannot be read as HDF5"
    yield lambda: path.write_bytes(good[:600]), "cannot be read as HDF5"
    yield lambda: path.write_bytes(b""), "is empty"
    yield lambda: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(500)), "cannot be read as HDF5"
    yield lambda: edit(lambda file: file.move("Feat", "Other")), "there is no data set 'Feat'"
    yield lambda: edit(replaced(data=np.zeros((5, 5)))), "values of type float64"
    yield lambda: edit(replaced(shape=(4, 4), dtype=h5py.ref_dtype)), "4 x 4 cells"
    yield lambda: edit(replaced(shape=(10**6, 1), dtype=h5py.ref_dtype)), "1 x 1000000 cells"
    yield lambda: edit(linked), "is a link to somewhere else"

    def replace_by(target):
        path.unlink()
        path.symlink_to(target)

    yield lambda: replace_by(outside), "leaves the folder"


def test_label_tracks_that_cannot_be_read(tmp_path):
    clip = make_clip(8, 30, 64)
    root = tmp_path / "h36m"
    write_video(root, "S1", "A.1", clip)
    path = mat_of(root, "A.1")
    for damage, words in broken_mats(path, clip):
        damage()
        (only,) = outcomes(root)
        assert isinstance(only, Rejected), words
        assert words in only.reason
        assert only.id == "h36m-parsing/S1/A.1"


def test_a_matrix_that_declares_absurd_sizes_is_not_allocated(tmp_path):
    clip = make_clip(8, 6, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    with h5py.File(mat_of(tmp_path, "A.1"), "r+") as file:
        huge = file["#refs#"].create_dataset("huge", (10**6, 10**6), np.uint8, chunks=(100, 100))
        file["Feat"][0, 0] = huge.ref
        chunky = file["#refs#"].create_dataset(
            "chunky", (64, 64), np.uint8, chunks=(60000, 60000), maxshape=(None, None)
        )
        file["Feat"][5, 0] = chunky.ref
    first, second = outcomes(tmp_path, stride=5)
    assert "holds 1000000000000 bytes, at most" in first.reason
    assert "too large to hold" in second.reason


def test_videos_that_cannot_be_read(tmp_path):
    root = tmp_path / "h36m"
    write_video(root, "S1", "A.1", make_clip(9, 60, 64))
    path = mp4_of(root, "A.1")
    good = path.read_bytes()
    (tmp_path / "outside.mp4").write_bytes(good)
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/outside.mp4\n#EXT-X-ENDLIST\n".encode()
    for data, words in (
        (good[:200], "does not open"),
        (b"", "is empty"),
        (playlist, "is not an MP4"),
        (b"RIFF" + good[4:], "does not open"),
    ):
        path.write_bytes(data)
        (only,) = outcomes(root)
        assert isinstance(only, Rejected)
        assert words in only.reason, data[:20]
    path.unlink()
    path.symlink_to(tmp_path / "outside.mp4")
    assert "leaves the folder" in outcomes(root)[0].reason
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in outcomes(root)[0].reason


def test_a_video_of_another_size_than_its_labels(tmp_path):
    clip = make_clip(9, 30, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    write_mp4(mp4_of(tmp_path, "A.1"), clip.rgb[:, :, 4:60])
    assert {each.reason for each in outcomes(tmp_path)} == {"the pictures differ in size: rgb 56 x 64, parts 64 x 64"}


def test_frames_behind_one_that_does_not_decode_are_not_given_to_wrong_labels(tmp_path):
    """The decoder stops at damaged data, and passes over a frame that has none: later frames would get the labels of
    earlier ones.
    """
    clip = make_clip(10, 60, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    path = mp4_of(tmp_path, "A.1")
    good = path.read_bytes()
    for data, last in (
        (damage_frame(good, 33), 30),
        (skip_frame(skip_frame(good, 33), 34), 30),
        (skip_frame(good, 58), 55),
    ):
        path.write_bytes(data)
        found = outcomes(tmp_path, stride=5)
        assert [number_of(each) for each in found] == list(range(0, 60, 5))
        assert [number_of(each) for each in found if isinstance(each, Person)] == list(range(0, last + 1, 5))
        for each in found:
            if isinstance(each, Rejected):
                assert re.fullmatch(r"the video breaks off at frame 3[23] of 60", each.reason)


def test_a_frame_that_is_shown_for_longer_is_no_gap(tmp_path):
    clip = make_clip(10, 60, 64)
    write_video(tmp_path, "S1", "A.1", clip)
    path = mp4_of(tmp_path, "A.1")
    path.write_bytes(hold_frame(path.read_bytes(), 33))
    found = outcomes(tmp_path, stride=5)
    assert [type(each) for each in found] == [Person] * 12
    for person in found:
        assert np.array_equal(codecs.decode_labels(person.parts), clip.parts[number_of(person)])


def test_too_many_frames_are_refused_before_they_are_decoded(tmp_path):
    write_video(tmp_path, "S1", "A.1", make_clip(9, 30, 64))
    with (
        pytest.raises(ValueError, match="declares 30 frames; 1 to 29 are read"),
        open_mp4(str(mp4_of(tmp_path, "A.1").parent), "A.1.mp4", 29),
    ):
        pass
