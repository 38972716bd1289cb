import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from hcmoco.data.codecs import decode_depth
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import ITOP_15
from hcmoco.datasets import itop
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.io.matlab5 import read_matrices
from hcmoco.errors import UserError
from tests.helpers import itop_files
from tests.helpers.real_samples import real_sample

TOP = 40  # rows above the 320 x 240 frame in its square
DOWN = np.array([0, TOP, 0, TOP])


@pytest.fixture
def content():
    return itop_files.frames()


def outcomes(folder, split="train", **changes):
    return [
        each
        for item in itop.items(itop.ItopConfig(source=str(folder), split=split, **changes))
        for each in itop.read(item)
    ]


def persons(folder, split="train", **changes):
    return sorted(
        (each for each in outcomes(folder, split, **changes) if isinstance(each, Person)), key=lambda person: person.id
    )


def rejected(found):
    return {each.id: each.reason for each in found if isinstance(each, Rejected)}


def changed(folder, split="train", file="labels", **values):
    """Writes values into data sets of a file; a function of the old values, or None to delete one."""
    with h5py.File(folder / f"ITOP_side_{split}_{file}.h5", "r+") as opened:
        for name, value in values.items():
            new = value(opened[name][()]) if callable(value) else value
            del opened[name]
            if new is not None:
                opened[name] = new


def put(at, value):
    def write(array):
        array[at] = value
        return array

    return write


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (1, 240, 320), "compression": "gzip"},
        {"chunks": (5, 60, 80), "compression": "lzf", "fletcher32": True},
    ],
)
def test_what_was_written_is_read(tmp_path, content, storage):
    itop_files.write_split(tmp_path, "train", content, **storage)
    found = outcomes(tmp_path)
    assert len(found) == len(content.ids)
    assert {each.reason for each in found if isinstance(each, Skipped)} == {
        "not approved by its annotators (is_valid = 0)"
    }
    people = persons(tmp_path)
    chosen = np.flatnonzero(content.valid)
    assert [person.id for person in people] == [
        f"itop/train-{k + 1:05d}/{content.ids[row].decode()}" for k, row in enumerate(chosen)
    ]
    for person, row in zip(people, chosen, strict=True):
        assert person.subject == content.ids[row].decode()[:2]
        assert (person.size, person.split, person.dataset) == (320, "train", "itop")
        square = decode_depth(person.depth, itop.READER.depth_codec, 320)
        assert not square[:TOP].any()
        assert not square[-TOP:].any()
        assert np.array_equal(square[TOP:-TOP], np.rint(1000 * content.depth[row].astype(np.float64)).astype(np.uint16))
        assert np.array_equal(person.joints3d, content.world[row].astype(np.float32) * (1, -1, 1))
        seen = content.visible[row] > 0
        assert np.array_equal(person.keypoints[:, 2], seen)
        assert np.allclose(person.keypoints[seen, :2], content.xy[row][seen] + (0.5, TOP + 0.5))


def test_joints_are_projected_to_the_pixels_that_the_file_says(tmp_path, content):
    """A distinct reading at the pixel of each joint lies under its projection by the record's own camera."""
    z = content.world[..., 2].astype(float)
    depth = content.depth.copy()
    marks = np.float16(6) + np.arange(15, dtype=np.float16) / 8
    for row, xy in enumerate(content.xy):
        depth[row, xy[::-1, 1], xy[::-1, 0]] = marks[::-1]
    itop_files.write_split(tmp_path, "train", itop_files.Frames(**{**vars(content), "depth": depth}))
    for person, row in zip(persons(tmp_path), np.flatnonzero(content.valid), strict=True):
        xy = person.joints3d[:, :2] / z[row][:, None] * person.camera[:2] + person.camera[2:]
        assert np.abs(xy - person.keypoints[:, :2]).max() <= 0.51
        square = decode_depth(person.depth, itop.READER.depth_codec)
        column, line = np.floor(xy).astype(int).T
        alone = [np.sum((content.xy[row] == each).all(1)) == 1 for each in content.xy[row]]
        assert np.array_equal(square[line, column][alone], np.rint(1000 * marks.astype(float))[alone])


def test_boxes_of_training_surround_the_joints(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    for person in persons(tmp_path, joint_margin=7):
        xy = person.joints3d[:, :2] / person.joints3d[:, 2:] * person.camera[:2] + person.camera[2:]
        expected = np.concatenate([xy.min(0) - 7, xy.max(0) + 7])
        assert np.allclose(person.box, np.clip(expected, [0, TOP, 0, TOP], [320, 320 - TOP, 320, 320 - TOP]), atol=0.01)


def test_boxes_of_the_test_split_are_those_published(tmp_path, content):
    itop_files.write_split(tmp_path, "test", content)
    with pytest.raises(UserError, match=r"itop_side_bndbox_test.mat.*does not exist.*--boxes joints"):
        outcomes(tmp_path, "test")
    itop_files.write_boxes(tmp_path, content.boxes)
    people = persons(tmp_path, "test")
    assert np.allclose([person.box for person in people], content.boxes + DOWN)
    assert len(persons(tmp_path, "test", boxes="joints")) == len(people)
    itop_files.write_boxes(tmp_path, content.boxes[1:])
    with pytest.raises(UserError, match="has 7 rows, the split has 8 valid frames"):
        outcomes(tmp_path, "test")


def test_boxes_in_other_files(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    boxes = content.boxes.astype(float)
    lists = {str(k + 1): [[*box, 0.99], [0, 0, 5, 5, 0.2]] for k, box in enumerate(boxes.tolist())}
    (tmp_path / "nested.json").write_text(json.dumps({**lists, "3": []}))
    (tmp_path / "flat.json").write_text(
        json.dumps({key: value[0][:4] if key != "3" else [] for key, value in lists.items()})
    )
    np.save(tmp_path / "rows.npy", np.where(np.arange(8)[:, None] == 2, np.nan, boxes))
    for name in ("nested.json", "flat.json", "rows.npy", str(tmp_path / "rows.npy")):
        found = outcomes(tmp_path, boxes=name)
        people = [each for each in found if isinstance(each, Person)]
        assert np.allclose([person.box for person in people], np.delete(boxes, 2, 0) + DOWN), name
        assert [each.id for each in found if isinstance(each, Skipped) and "box" in each.reason] == [
            "itop/train-00003/00_00059"
        ]
        around = {person.id: person.box for person in persons(tmp_path, boxes=name, without_box="joints")}
        assert len(around) == 8
        assert np.allclose(around["itop/train-00003/00_00059"], persons(tmp_path)[2].box)


def test_a_frame_without_a_box_is_left_out_whatever_else_is_wrong_with_it(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    boxes = np.tile(np.array([10.0, 10, 90, 90]), (8, 1))
    boxes[2] = np.nan
    np.save(tmp_path / "rows.npy", boxes)
    row = int(np.flatnonzero(content.valid)[2])
    changed(tmp_path, real_world_coordinates=put(row, np.nan))
    found = outcomes(tmp_path, boxes="rows.npy")
    assert rejected(found) == {}
    changed(tmp_path, is_valid=put(row, 2))
    assert rejected(outcomes(tmp_path, boxes="rows.npy")) == {}
    assert len(rejected(outcomes(tmp_path, boxes="rows.npy", without_box="joints"))) == 1


def test_files_of_boxes_that_cannot_be_used_are_one_line(tmp_path, content):
    from scipy.io import savemat

    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    itop_files.write_split(tmp_path, "train", content)
    (tmp_path / "boxes.pkl").write_bytes(pickle.dumps(Harm()))
    (tmp_path / "disguised.npy").write_bytes(pickle.dumps(Harm()))
    np.save(tmp_path / "objects.npy", np.array([Harm()], object), allow_pickle=True)
    np.save(tmp_path / "short.npy", np.zeros((7, 4)))
    np.save(tmp_path / "flat.npy", np.zeros(32))
    savemat(tmp_path / "cells.mat", {"FRbndbox_test": np.array([[1, "a"]], object)})
    savemat(tmp_path / "two.mat", {"a": np.zeros((8, 4)), "b": np.zeros((8, 4))})
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "gap.json").write_text(json.dumps({str(k): [0, 0, 1, 1] for k in (1, 2, 3, 4, 5, 6, 7, 9)}))
    (tmp_path / "words.json").write_text(json.dumps({str(k): ["a", 0, 1, 1] for k in range(1, 9)}))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "boxes.csv").write_text("1,2,3,4")
    expected = {
        "boxes.pkl": "docs/data/itop.md", "disguised.npy": "cannot be read", "objects.npy": "cannot be read",
        "short.npy": "has 7 rows, the split has 8",
        "flat.npy": r"shape \[32\]", "cells.mat": "no variable FRbndbox_test",
        "two.mat": "no variable FRbndbox_test", "list.json": "must be an object",
        "gap.json": "lacks frame 8", "words.json": "frame 1: its box",
        "deep.json": "give another file", "boxes.csv": ".mat, .npy or .json",
        "none.npy": "does not exist", "../none.npy": "leaves the folder",
    }  # fmt: skip
    for name, words in expected.items():
        with pytest.raises(UserError, match=words) as error:
            outcomes(tmp_path, boxes=name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, np.uint8])
def test_matrices_of_matlab_files_are_what_scipy_wrote(compressed, kind):
    import io

    from scipy.io import savemat

    rng = np.random.default_rng(0)
    values = {"FRbndbox_test": rng.integers(0, 200, (9, 4)).astype(kind), "x": rng.integers(0, 9, (1, 1)).astype(kind)}
    others = {
        "text": "text",
        "cells": np.array([1, "a"], object),
        "complex": np.array([[1j]]),
        "cube": np.zeros((2, 2, 2)),
        "s": {"a": 1},
    }
    file = io.BytesIO()
    savemat(file, {**others, **values}, do_compression=compressed)
    found = read_matrices(file.getvalue())
    assert set(found) == set(values)
    assert all(np.array_equal(found[name], values[name]) for name in values)


def test_a_bomb_in_a_matlab_file_is_not_unpacked(tmp_path):
    import io

    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, {"FRbndbox_test": np.zeros((2_500_000, 4))}, do_compression=True)
    assert len(file.getvalue()) < 100_000
    with pytest.raises(ValueError, match="more than"):
        read_matrices(file.getvalue())


def test_the_way_to_write_a_pickle_of_boxes_as_json_works(tmp_path, content):
    import subprocess
    import sys

    itop_files.write_split(tmp_path, "train", content)
    boxes = {str(k + 1): np.array([[*box, 1]], np.float32) for k, box in enumerate(content.boxes)}
    boxes["3"] = np.zeros((0, 5), np.float32)
    (tmp_path / "boxes.pkl").write_bytes(pickle.dumps(boxes))
    page = (Path(__file__).parents[2] / "docs" / "data" / "itop.md").read_text()
    program = page.partition('python -c "')[2].partition('"\n')[0]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert len(persons(tmp_path, boxes="boxes.json")) == 7


def test_depth_and_labels_are_matched_by_id(tmp_path, content):
    itop_files.write_split(tmp_path / "as published", "train", content)
    order = np.random.default_rng(1).permutation(len(content.ids))
    itop_files.write_split(tmp_path / "other order", "train", content, order=order)
    itop_files.write_split(tmp_path / "some", "train", content, order=order[:9])
    one, other, some = (persons(tmp_path / name) for name in ("as published", "other order", "some"))
    assert [vars(a)["depth"] for a in one] == [vars(b)["depth"] for b in other]
    missing = {content.ids[row].decode() for row in order[9:]} & {
        content.ids[row].decode() for row in np.flatnonzero(content.valid)
    }
    assert missing
    reasons = rejected(outcomes(tmp_path / "some"))
    assert {id.rpartition("/")[2] for id in reasons} == missing
    assert set(reasons.values()) == {"the depth file has no frame of this id"}
    # The numbers of the others stay, and with them the published subsets.
    assert {person.id for person in some} == {person.id for person in one} - set(reasons)


def test_without_ids_rows_are_matched_by_number(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content, ids=False)
    assert [person.id for person in persons(tmp_path)][:3] == [
        "itop/train-00001/0",
        "itop/train-00002/1",
        "itop/train-00003/3",
    ]
    changed(tmp_path, file="depth_map", data=lambda data: data[1:])
    with pytest.raises(UserError, match="11 frames and the label file 12"):
        outcomes(tmp_path)


def test_ids_of_any_length_are_not_read(tmp_path, content):
    """A damaged heap of them makes the library run for ever, and not even an alarm gets through to it."""
    itop_files.write_split(tmp_path, "train", content)
    changed(tmp_path, id=lambda ids: ids.astype(object))
    with h5py.File(tmp_path / "ITOP_side_train_labels.h5") as file:
        assert h5py.check_string_dtype(file["id"].dtype).length is None
    assert persons(tmp_path)[0].id == "itop/train-00001/0"
    assert any("matched by the number" in note for note in itop.inventory(itop.ItopConfig(source=str(tmp_path))).notes)


def test_faults_become_reasons(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    ids = [each.decode() for each in content.ids]
    changed(
        tmp_path,
        id=put(1, content.ids[0]),
        is_valid=put(3, 7),
        real_world_coordinates=lambda world: put((4, 5, 1), np.nan)(
            put((6, slice(None)), 3000)(put((7, slice(None), 2), -1)(put((9, 1, 0), np.inf)(world)))
        ),
    )
    changed(tmp_path, file="depth_map", id=put(11, content.ids[10]), data=put(0, np.nan))
    found = outcomes(tmp_path)
    reasons = rejected(found)
    expected = {
        f"itop/train-00001/{ids[0]}": "no reading at all",
        f"itop/train-00002/{ids[0]}": "a frame of this id before",
        f"itop/train-00003/{ids[3]}": "is_valid is 7",
        f"itop/train-00004/{ids[4]}": "'left_elbow' is not finite",
        f"itop/train-00005/{ids[6]}": "the unit must be meters",
        f"itop/train-00006/{ids[7]}": "none is in front of the camera",
        f"itop/train-00007/{ids[9]}": "'neck' is not finite",
        f"itop/train-00008/{ids[10]}": "more than one frame of this id",
        f"itop/train/{ids[1]}": "the label file has no such frame",
    }
    assert set(reasons) == set(expected)
    assert all(words in reasons[id] for id, words in expected.items())
    assert len(found) == len(ids) + 1  # and one frame of the depth file has lost its label


@pytest.mark.parametrize(
    ("value", "millimeters"),
    [
        (np.nan, 0),
        (np.inf, 0),
        (-np.inf, 0),
        (-1.0, 0),
        (0.0, 0),
        (0.0004, 0),
        (0.0006, 1),
        (2.9140625, 2914),
        (65504.0, 65535),
    ],
)
def test_odd_readings(tmp_path, content, value, millimeters):
    itop_files.write_split(tmp_path, "train", content)
    changed(tmp_path, file="depth_map", data=put((0, 100, 50), value))
    person = persons(tmp_path)[0]
    assert decode_depth(person.depth, itop.READER.depth_codec)[100 + TOP, 50] == millimeters


def test_depth_in_millimeters_is_refused(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    changed(tmp_path, file="depth_map", data=lambda data: 1000 * data)
    assert set(rejected(outcomes(tmp_path)).values()) == {
        "depth: 100% of the readings are beyond 20 m; the file must hold meters"
    }


def test_joints_outside_the_frame_or_marked_hidden_are_not_visible(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    changed(
        tmp_path,
        image_coordinates=lambda xy: put((0, 0), (320, 100))(
            put((0, 1), (100, 240))(put((0, 2), (-1, 5))(put((0, 3), (319, 239))(xy)))
        ),
        visible_joints=lambda seen: put((0, 4), 0)(put((0, slice(4)), 1)(seen)),
    )
    person = persons(tmp_path)[0]
    assert person.keypoints[:5, 2].tolist() == [0, 0, 0, 1, 0]
    assert person.keypoints[3].tolist() == [319.5, 239.5 + TOP, 1]
    changed(tmp_path, visible_joints=None)
    assert persons(tmp_path)[0].keypoints[:5, 2].tolist() == [0, 0, 0, 1, 1]


def test_a_damaged_chunk_costs_its_frame_alone(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content, chunks=(1, 240, 320), compression="gzip")
    path = tmp_path / "ITOP_side_train_depth_map.h5"
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(4)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    (reason,) = rejected(outcomes(tmp_path)).items()
    assert reason[0] == f"itop/train-00004/{content.ids[4].decode()}"
    assert "cannot be read" in reason[1]


def external_link(file, name):
    file[name] = h5py.ExternalLink("/tmp/other.h5", "data")


def soft_link(file, name):
    file["elsewhere"] = np.zeros((12, 240, 320), np.float16)
    file[name] = h5py.SoftLink("/elsewhere")


def virtual(file, name):
    layout = h5py.VirtualLayout((12, 240, 320), np.float16)
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "data", shape=(12, 240, 320))
    file.create_virtual_dataset(name, layout)


def external(file, name):
    file.create_dataset(name, (12, 240, 320), np.float16, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def scale_offset(file, name):
    file.create_dataset(name, (12, 240, 320), np.float32, chunks=(1, 240, 320), scaleoffset=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (external_link, "link to somewhere else"),
        (soft_link, "link to somewhere else"),
        (virtual, "lie in another file"),
        (external, "lie in another file"),
        (scale_offset, "filter number 6"),
        (lambda file, name: file.create_group(name), "not a data set"),
        (lambda file, name: file.create_dataset(name, (12, 240, 321), np.float16), "needed is N x 240 x 320"),
        (lambda file, name: file.create_dataset(name, (240, 320), np.float16), "needed is N x 240 x 320"),
        (lambda file, name: file.create_dataset(name, (12, 240, 320), np.uint16), "type uint16"),
        (
            lambda file, name: file.create_dataset(name, (2**40, 240, 320), np.float16, chunks=(1, 240, 320)),
            "1 to 1000000 are read",
        ),
        (
            lambda file, name: file.create_dataset(name, (12000, 240, 320), np.float16, chunks=(4000, 240, 320)),
            "too large to hold",
        ),
        (lambda file, name: file.create_dataset(name, data=h5py.Empty("f2")), "has the shape"),
        (lambda file, name: None, "no data set 'data'"),
    ],
)
def test_other_kinds_of_data_sets_are_refused(tmp_path, content, make, words):
    itop_files.write_split(tmp_path, "train", content)
    with h5py.File(tmp_path / "ITOP_side_train_depth_map.h5", "r+") as file:
        del file["data"]
        make(file, "data")
    with pytest.raises(UserError, match=words) as error:
        outcomes(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert words in itop.inventory(itop.ItopConfig(source=str(tmp_path))).faults[0].reason


def test_what_is_missing_is_listed(tmp_path, content):
    folder = tmp_path / "my data é"
    folder.mkdir()
    config = itop.ItopConfig(source=str(folder), split="test")
    assert [(Path(fault.path).name, fault.reason) for fault in itop.inventory(config).faults] == [
        (name, "does not exist")
        for name in ("ITOP_side_test_depth_map.h5", "ITOP_side_test_labels.h5", "itop_side_bndbox_test.mat")
    ]
    itop_files.write_split(folder, "test", content)
    itop_files.write_boxes(folder, content.boxes)
    assert itop.inventory(config).faults == []
    labels = folder / "ITOP_side_test_labels.h5"
    labels.rename(f"{labels}.gz")
    (fault,) = itop.inventory(config).faults
    assert fault.path == str(labels)
    assert f"gunzip -k '{labels}.gz'" in fault.reason
    with pytest.raises(UserError, match="gunzip -k"):
        itop.items(config)
    labels.write_text("<html>")
    (fault,) = itop.inventory(config).faults
    assert "not HDF5" in fault.reason
    labels.unlink()
    labels.symlink_to("/etc/hostname")
    (fault,) = itop.inventory(config).faults
    assert fault.reason.endswith("leaves the folder")
    with pytest.raises(UserError, match="no folder"):
        itop.inventory(itop.ItopConfig(source=str(tmp_path / "none")))


def test_what_is_there_is_counted(tmp_path, content):
    itop_files.write_split(tmp_path, "train", content)
    found = itop.inventory(itop.ItopConfig(source=str(tmp_path)))
    assert found.counts["valid frames"] == 8
    assert found.counts["frames"] == 12
    assert "the published train split has 17991 of 39795, so this is not the whole of it" in found.notes[0]
    changed(tmp_path, image_coordinates=lambda xy: xy + 30, file="labels")
    assert any("30 pixels from" in note for note in itop.inventory(itop.ItopConfig(source=str(tmp_path))).notes)


def test_the_published_numbers_are_recognized(tmp_path):
    """A label file of the published size, whose frames share one chunk of depth that is nowhere stored."""
    count, valid = 39795, 17991
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "ITOP_side_train_labels.h5", "w") as file:
        file["is_valid"] = np.isin(np.arange(count), rng.permutation(count)[:valid]).astype(np.uint8)
        file["image_coordinates"] = np.full((count, 15, 2), 100, np.int16)
        file["real_world_coordinates"] = np.full((count, 15, 3), 3, np.float16)
    with h5py.File(tmp_path / "ITOP_side_train_depth_map.h5", "w") as file:
        file.create_dataset("data", (count, 240, 320), np.float16, chunks=(128, 240, 320))
    config = itop.ItopConfig(source=str(tmp_path))
    notes = itop.inventory(config).notes
    assert notes[0] == "17991 of 39795 frames are valid and read; the published train split has 17991 of 39795"
    assert any("h5repack" in note for note in notes)
    blocks = itop.items(config)
    frames = [frame for block in blocks for frame in block.frames]
    assert len({frame.id for frame in frames}) == valid
    assert max(len(block.frames) for block in blocks) <= itop.READER.rows_per_item
    assert sum(len(block.excluded) for block in blocks) == count - valid
    in_order = sorted(frames, key=lambda frame: frame.id)
    assert [frame.row for frame in in_order] == sorted(frame.row for frame in frames)
    assert max(len(pickle.dumps(block)) for block in blocks[:50]) < 40_000


@pytest.fixture(scope="module")
def real():
    folder = real_sample("itop-side")
    rows = np.load(folder / "itop_side_test_rows_0000_1499.npz")
    return np.load(folder / "depth_mm_side_test_00053.npy"), {name: rows[name] for name in rows}


def test_a_real_frame_is_read(tmp_path, real):
    """A frame of the data set in the layout of its files, with A2J's box: the joints lie on the person that depth
    shows.
    """
    depth, rows = real
    world = rows["gt_world_m"][:1].astype(np.float16)
    projected = world[..., :2] / world[..., 2:].astype(float) / 0.0035 * (1, -1) + (160, 120)
    content = itop_files.Frames(
        ids=np.array([b"00_00053"]),
        depth=(depth[None] / 1000).astype(np.float16),
        valid=np.ones(1, np.uint8),
        xy=np.rint(projected).astype(np.int16),
        world=world,
        visible=np.ones((1, 15), np.int16),
        boxes=rows["bbox_xyxy"][:1],
    )
    itop_files.write_split(tmp_path, "test", content)
    itop_files.write_boxes(tmp_path, content.boxes)
    (person,) = persons(tmp_path, "test")
    square = decode_depth(person.depth, itop.READER.depth_codec)
    assert np.abs(square[TOP:-TOP].astype(int) - depth).max() <= 2  # float16 has steps of 2 mm beyond 2 m
    xy = person.joints3d[:, :2] / person.joints3d[:, 2:] * person.camera[:2] + person.camera[2:]
    assert np.abs(xy - person.keypoints[:, :2]).max() <= 0.51
    on = square[np.floor(xy[:, 1]).astype(int), np.floor(xy[:, 0]).astype(int)] / 1000
    assert np.median(np.abs(person.joints3d[:, 2] - on)) < 0.03
    assert person.keypoints[ITOP_15.index("head"), 1] < person.keypoints[ITOP_15.index("torso"), 1]
    # Made from joints, the box is about the one that A2J's detector found.
    (other,) = persons(tmp_path, "test", boxes="joints")
    assert np.abs(other.box - person.box).max() < 15


def test_left_is_the_persons_own_in_the_real_labels(real):
    """Forearms reach towards the camera where people face it, and then their right shoulder is at the left of the
    picture.
    """
    _, rows = real
    joints = rows["gt_world_m"].astype(float)
    at = {name: joints[:, number] for number, name in enumerate(ITOP_15.joints)}
    reach = sum(at[f"{side}_hand"][:, 2] - at[f"{side}_elbow"][:, 2] for side in ("left", "right"))
    facing = reach < -0.1
    assert facing.mean() > 0.8
    assert np.mean(at["right_shoulder"][facing, 0] < at["left_shoulder"][facing, 0]) > 0.95
