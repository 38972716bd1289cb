"""Writing, opening, reading and checking data sets, on a disk and on a file system in memory."""

import json
import os
import pickle
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from hcmoco.data.codecs import encode_labels
from hcmoco.data.sampler import Plan, Row
from hcmoco.data.schema import Instance, Person, Scene, person_schema
from hcmoco.data.shards.manifest import MANIFEST, read_manifest
from hcmoco.data.shards.reader import Shards, read_rows
from hcmoco.data.shards.verify import verify
from hcmoco.data.shards.writer import Part, finish, group_sizes, renumber, write_part, write_shards
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from tests.helpers.people_made_here import ABOUT, make_persons


def assert_same_person(one: Person, other: Person):
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=f"{one.id} {name}")


def all_rows(shards):
    return [row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()]


@pytest.fixture(params=["disk", "memory"])
def uri(request, tmp_path):
    if request.param == "disk":
        yield str(tmp_path / "set")
    else:
        name = f"memory://{uuid.uuid4()}/set"
        yield name
        fsspec.filesystem("memory").rm(name, recursive=True)


def test_what_is_written_is_read_back(uri):
    persons = make_persons(100)
    manifest = write_shards(
        uri, persons, ABOUT, seed=5, part_rows=40, rejected=[("made/x", "the picture 'a.jpg' is 3 x 4")]
    )
    shards = Shards.open(uri)
    assert shards.manifest == manifest
    rows = all_rows(shards)
    assert [row["index"] for row in rows] == list(range(100))
    by_id = {each.id: each for each in persons}
    for row in rows:
        assert_same_person(Person.from_row(row), by_id.pop(row["id"]))
    assert not by_id
    assert [row["id"] for row in rows] != sorted(row["id"] for row in rows)
    assert verify(uri) == []
    assert manifest.modalities == {
        "rgb": 75, "depth": 67, "keypoints": 80, "joints3d": 0, "parts": 0, "iuv": 0, "dp_points": 0, "mask": 0,
    }  # fmt: skip
    assert manifest.splits == {"train": 90, "val": 10}
    assert manifest.reasons == {"the picture * is * x *": 1}
    assert manifest.rejected_examples[0].reason == "the picture 'a.jpg' is 3 x 4"
    assert Folder(uri).read("rejected.jsonl") == b'{"id": "made/x", "reason": "the picture \'a.jpg\' is 3 x 4"}\n'


def test_bytes_are_a_function_of_records_and_seed(tmp_path):
    persons = make_persons(50)
    contents = [
        write_shards(str(tmp_path / str(k)), persons, ABOUT, seed=seed).content for k, seed in enumerate((1, 1, 2))
    ]
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 31, 32, 33, 47, 64, 65, 500, 1000, 1024])
def test_group_sizes(rows):
    sizes = group_sizes(rows)
    assert sum(sizes) == rows
    assert max(sizes, default=0) <= 32
    if rows >= 16:
        assert min(sizes) >= 16


def test_files_are_stored_as_they_are(tmp_path):
    """No dictionary, no compression, and each group's bytes lie where the manifest says: an encoded picture is found
    there verbatim.
    """
    persons = make_persons(80)
    uri = str(tmp_path / "set")
    file = write_shards(uri, persons, ABOUT).files[0]
    data = (tmp_path / "set" / file.name).read_bytes()
    metadata = pq.read_metadata(tmp_path / "set" / file.name)
    columns = [
        metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(metadata.num_columns)
    ]
    assert {column.compression for column in columns} == {"UNCOMPRESSED"}
    assert not any(column.has_dictionary_page for column in columns)
    shards = Shards.open(uri)
    for group in range(len(shards.group_rows)):
        stored = data[file.offsets[group] : file.offsets[group + 1]]
        assert all(row["rgb"] is None or row["rgb"] in stored for row in shards.read_group(group).to_pylist())


def test_columns_and_rows_of_a_group(tmp_path):
    uri = str(tmp_path)
    write_shards(uri, make_persons(40), ABOUT)
    shards = Shards.open(uri)
    whole = shards.read_group(1)
    part = shards.read_group(1, columns=["index", "keypoints"], rows=[5, 0])
    assert part.column_names == ["index", "keypoints"]
    assert part.to_pylist() == [{name: whole[name][k].as_py() for name in ("index", "keypoints")} for k in (5, 0)]
    with pytest.raises(IndexError, match=r"row groups 0\.\.1, not 2"):
        shards.read_group(2)


def test_opened_shards_pickle_small_and_read_elsewhere(tmp_path):
    write_shards(str(tmp_path), make_persons(40), ABOUT)
    shards = Shards.open(str(tmp_path))
    shards.read_group(0)
    data = pickle.dumps(shards)
    assert len(data) < 4000
    assert pickle.loads(data).read_group(1).equals(shards.read_group(1))


def test_rows_of_a_mixture_come_in_the_order_of_the_plan(tmp_path):
    """Two data sets with other joint sets, drawn for one pass of the first: the rows are those that the plan names."""
    write_shards(str(tmp_path / "a"), make_persons(120, dataset="a"), ABOUT.model_copy(update={"dataset": "a"}))
    write_shards(
        str(tmp_path / "b"),
        make_persons(70, joints=17, dataset="b"),
        ABOUT.model_copy(update={"dataset": "b", "joints": "coco-17"}),
    )
    sources = [Shards.open(str(tmp_path / name)) for name in "ab"]
    plan = Plan(1, tuple(each.source_plan(weight=2.0 - k) for k, each in enumerate(sources)), 2, 6, 5, 15)
    drawn = []
    for window in range(plan.windows):
        for lane in range(plan.lanes):
            rows = [row for step in plan.item(window, lane) for row in step]
            table = read_rows(sources, rows)
            for row, stored in zip(rows, table.to_pylist(), strict=True):
                assert stored["dataset"] == "ab"[row.source]
                assert stored == sources[row.source].read_group(row.group, rows=[row.row]).to_pylist()[0]
            drawn += [stored["id"] for row, stored in zip(rows, table.to_pylist(), strict=True) if row.source == 0]
    assert sorted(drawn) == [f"a/{k:05d}" for k in range(120)]
    assert read_rows(sources, [Row(1, 0, 3)], columns=["id"]).num_rows == 1


def test_plans_tell_data_sets_with_other_bytes_apart(tmp_path):
    plans = []
    for k in range(2):
        write_shards(str(tmp_path / str(k)), make_persons(40, seed=k), ABOUT)
        plans.append(Plan(0, (Shards.open(str(tmp_path / str(k))).source_plan(),), 1, 4, 2, 10))
    assert plans[0].description != plans[1].description


def test_parts_beyond_the_hundred_thousandth_are_read_in_order(uri):
    """1,024 rows of a part each: a data set of more than 102 million."""
    persons, folder = make_persons(12), Folder(uri)
    parts = [
        write_part(folder, number, ABOUT, persons[first : first + 6], first_index=first)
        for number, first in ((99_999, 0), (100_000, 6))
    ]
    manifest = finish(folder, ABOUT, parts)
    assert [file.name for file in manifest.files] == ["part-99999.parquet", "part-100000.parquet"]
    assert [row["id"] for row in all_rows(Shards.open(uri))] == [each.id for each in persons]


def test_parts_are_renumbered_when_earlier_ones_lost_records(uri):
    persons = make_persons(90)
    folder = Folder(uri)
    dealt = [persons[:28], [], persons[30:90]]
    lost = [[("made/28", "broken"), ("made/29", "broken")], [("made/x", "broken")], []]
    parts = [write_part(folder, k, ABOUT, dealt[k], first_index=30 * k, rejected=lost[k]) for k in range(3)]
    with pytest.raises(ValueError, match="part 1 begins at index 30, the rows before it end at 28"):
        finish(folder, ABOUT, parts)
    parts = [Part.model_validate_json(part.model_dump_json()) for part in parts]
    manifest = finish(
        folder, ABOUT, [renumber(folder, part, ABOUT, first) for part, first in zip(parts, (0, 28, 28), strict=True)]
    )
    assert [file.name for file in manifest.files] == ["part-00000.parquet", "part-00002.parquet"]
    rows = all_rows(Shards.open(uri))
    assert [(row["index"], row["id"]) for row in rows] == [
        (k, each.id) for k, each in enumerate(persons[:28] + persons[30:])
    ]
    assert manifest.rejected == 3
    assert verify(uri) == []


def test_nothing_usable_is_not_a_data_set(tmp_path):
    with pytest.raises(UserError, match="no usable record"):
        write_shards(str(tmp_path), [], ABOUT)
    with pytest.raises(UserError, match="no usable record"):
        finish(Folder(str(tmp_path)), ABOUT, [write_part(Folder(str(tmp_path)), 0, ABOUT, [], first_index=0)])
    with pytest.raises(UserError, match="is not a prepared data set"):
        Shards.open(str(tmp_path))


def test_a_write_that_fails_leaves_nothing(tmp_path):
    persons = make_persons(5)
    persons[3].rgb = 17  # not bytes
    with pytest.raises((TypeError, ValueError)):
        write_shards(str(tmp_path), persons, ABOUT)
    assert os.listdir(tmp_path) == []


def test_a_data_set_is_never_overwritten(uri):
    write_shards(uri, make_persons(20), ABOUT)
    with pytest.raises(UserError, match="already holds a prepared data set"):
        write_shards(uri, make_persons(20), ABOUT)


# --- refusals


@pytest.fixture
def made(tmp_path):
    write_shards(str(tmp_path / "set"), make_persons(70), ABOUT, part_rows=40)
    return tmp_path / "set"


def edit_manifest(folder: Path, change):
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values))


def test_any_changed_byte_is_found_and_the_file_named(made):
    path = made / "part-00001.parquet"
    good = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(good), 60):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        problems = verify(str(made), sample=0)
        assert len(problems) == 1
        assert "part-00001.parquet: its bytes are not those that were written" in problems[0]
        assert "\n" not in problems[0]


def test_a_changed_byte_in_a_page_is_not_trained_on(made):
    """Reading alone, without `verify`: data pages carry checksums."""
    path = made / "part-00000.parquet"
    good = path.read_bytes()
    shards = Shards.open(str(made))
    group = shards.read_group(0).to_pylist()
    for row in group:
        if row["rgb"] is not None:
            position = good.index(row["rgb"]) + len(row["rgb"]) // 2
            path.write_bytes(good[:position] + bytes([good[position] ^ 16]) + good[position + 1 :])
            with pytest.raises(UserError, match=r"part-00000\.parquet is not the file that was written") as caught:
                shards.read_group(0)
            assert "\n" not in str(caught.value)
            path.write_bytes(good)


def test_another_valid_file_in_its_place_is_refused(made):
    """Rows of another data set must not come in under this one's name, though their file is whole."""
    shards = Shards.open(str(made))
    other = made.parent / "other"
    write_shards(str(other), make_persons(70, seed=1), ABOUT, part_rows=40)
    (other / "part-00000.parquet").replace(made / "part-00000.parquet")
    with pytest.raises(
        UserError, match=r"part-00000\.parquet is not the file that was written \(its row groups are not where"
    ):
        shards.read_group(0)


def test_a_file_of_the_same_layout_is_told_by_its_digest(made):
    other = made.parent / "other"
    persons = make_persons(70)
    for each in persons:
        each.id = each.id.replace("made", "fake")
    write_shards(str(other), persons, ABOUT, part_rows=40)
    (other / "part-00001.parquet").replace(made / "part-00001.parquet")
    assert ["part-00001.parquet: its bytes" in line for line in verify(str(made))] == [True]


def test_all_broken_records_are_listed_and_the_list_is_checked(tmp_path):
    rejected = [(f"made/ü{k}", f"it is broken\nat byte {k}") for k in range(300)]
    manifest = write_shards(str(tmp_path), make_persons(20), ABOUT, rejected=rejected)
    path = tmp_path / "rejected.jsonl"
    assert [tuple(json.loads(line).values()) for line in path.read_text().splitlines()] == rejected
    assert manifest.rejected == 300
    assert len(manifest.rejected_examples) == 20
    assert verify(str(tmp_path)) == []
    good = path.read_bytes()
    path.write_bytes(good.replace(b"byte 7", b"byte 8"))
    assert ["rejected.jsonl: its bytes are not those" in line for line in verify(str(tmp_path))] == [True]
    path.unlink()
    assert ["rejected.jsonl: it is missing" in line for line in verify(str(tmp_path))] == [True]
    assert len(Shards.open(str(tmp_path))) == 20  # training needs no list
    path.write_bytes(good)
    edit_manifest(tmp_path, lambda values: values.update(rejected=299))
    assert ["rejected.jsonl: it has 300 lines, the manifest counts 299" in line for line in verify(str(tmp_path))] == [
        True
    ]
    edit_manifest(tmp_path, lambda values: values.pop("rejected_file"))  # as hcmoco wrote manifests before
    assert verify(str(tmp_path)) == []


def test_missing_and_cut_files(made):
    path = made / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"part-00001\.parquet has \d+ bytes"):
        Shards.open(str(made))
    path.unlink()
    with pytest.raises(UserError, match=r"part-00001\.parquet is missing"):
        verify(str(made))


@pytest.mark.parametrize(
    "name",
    [
        "../part-00000.parquet",
        "/etc/passwd",
        "part-00000.parquet\n",
        "sub/part-00000.parquet",
        "..\\x",
        "part-0.parquet",
        "s3://b/k",
    ],
)
def test_a_manifest_cannot_point_out_of_its_folder(made, name):
    edit_manifest(made, lambda values: values["files"][0].update(name=name))
    with pytest.raises(UserError, match=r"manifest\.json: files\.0\.name = ") as caught:
        Shards.open(str(made))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda values: values.update(schema_version=99), "schema_version is 99, this hcmoco reads 1"),
        (lambda values: values.pop("schema_version"), "schema_version is None"),
        (lambda values: values.update(surprise=1), "unknown key 'surprise'"),
        (lambda values: values.pop("license") and values.pop("dataset"), "key 'dataset' is missing"),
        (lambda values: values.update(rows=71), "the files have 70 rows together, the manifest says 71"),
        (lambda values: values.update(joints="mpii-17"), "mpii-17"),
        (lambda values: values.update(depth_codec="pickle"), "depth_codec"),
        (lambda values: values["files"].append(values["files"][0]), "listed twice"),
        (lambda values: values["files"][0].update(sha256="0" * 63), r"files\.0\.sha256"),
        (lambda values: values["files"][0]["offsets"].reverse(), "offsets of part-00000.parquet do not fit"),
        (lambda values: values["files"][0]["group_rows"].append(-3), r"files\.0\.group_rows\.2"),
    ],
)
def test_a_bad_manifest_is_one_line(made, change, line):
    edit_manifest(made, change)
    with pytest.raises(UserError, match=line) as caught:
        read_manifest(Folder(str(made)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, "\x00", '{"schema_version": 1}', '{"schema_version": NaN}']
)
def test_a_manifest_that_is_no_manifest(made, text):
    (made / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Shards.open(str(made))


def test_verify_reads_what_the_bytes_mean(tmp_path):
    """Checksums that fit a wrong content: damaged pictures, a second id, other columns, and wrong indices."""
    persons = make_persons(20)
    persons[7].id = persons[8].id
    write_shards(str(tmp_path / "twice"), persons, ABOUT)
    assert "the id 'made/00008' comes twice" in verify(str(tmp_path / "twice"))[0]

    persons = make_persons(4)
    for each in persons:
        each.rgb = each.rgb and each.rgb[: len(each.rgb) // 2]
    write_shards(str(tmp_path / "cut"), persons, ABOUT)
    assert "truncated" in verify(str(tmp_path / "cut"))[0]
    assert verify(str(tmp_path / "cut"), sample=0) == []

    write_shards(str(tmp_path / "joints"), make_persons(4, joints=15), ABOUT)
    assert "keypoints has 45 numbers instead of 48" in verify(str(tmp_path / "joints"))[0]

    write_shards(str(tmp_path / "kind"), make_persons(4), ABOUT)
    edit_manifest(tmp_path / "kind", lambda values: values.update(kind="scene"))
    assert "its columns are not those of scene records" in verify(str(tmp_path / "kind"))[0]

    folder = Folder(str(tmp_path / "gap"))
    part = write_part(folder, 0, ABOUT, make_persons(4), first_index=7)
    finish(folder, ABOUT, [part.model_copy(update={"first_index": 0})])
    assert "does not count from 0 to 3" in verify(str(tmp_path / "gap"))[0]


def test_scenes_are_data_sets_too(tmp_path):
    rgb = make_persons(1)[0].rgb
    mask = encode_labels(np.full((32, 32), 255, np.uint8))
    points = np.array([[1.5, 2.5, 3, 0.25, 0.5], [2.5, 3.5, 24, 0, 1]], np.float32)
    people = [
        Instance(np.array([1, 2, 3, 4], np.float32), mask, points),
        Instance(np.array([0, 0, 32, 32], np.float32), crowd=True),
    ]
    scenes = [Scene(f"s/{k}", "s", "val", rgb, 32, 32, people[: k % 3]) for k in range(40)]
    about = ABOUT.model_copy(update={"kind": "scene", "dataset": "s", "joints": ""})
    manifest = write_shards(str(tmp_path), scenes, about)
    assert (manifest.kind, manifest.rows, manifest.modalities) == ("scene", 40, {"rgb": 40, "instances": 40})
    stored = {row["id"]: Scene.from_row(row) for row in all_rows(Shards.open(str(tmp_path)))}
    for scene in scenes:
        found = stored[scene.id]
        assert (found.rgb, found.width, found.height, found.split) == (rgb, 32, 32, "val")
        assert len(found.instances) == len(scene.instances)
        for one, other in zip(found.instances, scene.instances, strict=True):
            np.testing.assert_array_equal(one.box, other.box)
            np.testing.assert_array_equal(one.dp_points, other.dp_points)
            assert (one.mask, one.crowd) == (other.mask, other.crowd)
    assert verify(str(tmp_path)) == []


def test_verify_reads_scenes(tmp_path):
    rgb = make_persons(1)[0].rgb
    about = ABOUT.model_copy(update={"kind": "scene", "dataset": "s", "joints": ""})
    bad = Instance(np.array([0, 0, 9, 9], np.float32), dp_points=np.array([[1, 1, 30, 0, 0]], np.float32))
    write_shards(str(tmp_path / "chart"), [Scene("s/1", "s", "val", rgb, 32, 32, [bad])], about)
    assert "instance 0: surface points: there is a chart 30" in verify(str(tmp_path / "chart"))[0]
    short = {**Scene("s/1", "s", "val", rgb, 32, 32, [bad]).to_row(0)}
    short["instances"][0]["dp_points"].pop()
    write_shards(str(tmp_path / "short"), [short], about)
    assert "not rows of 5 numbers" in verify(str(tmp_path / "short"))[0]


def test_reading_a_group_is_quick(tmp_path):
    persons = make_persons(512)
    write_shards(str(tmp_path), persons, ABOUT)
    shards = Shards.open(str(tmp_path))
    shards.read_group(0)
    start = time.process_time()
    for group in range(16):
        shards.read_group(group)
    assert (time.process_time() - start) / 16 < 0.02


def test_the_schema_on_disk_is_the_declared_one(made):
    assert pq.read_schema(made / "part-00000.parquet").equals(person_schema(16))
