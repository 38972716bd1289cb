"""The program from the command line's point of view: small data sets, made by real tasks on one Ray."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards.dataset_card import CARD
from hcmoco.data.shards.manifest import MANIFEST, REJECTED
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.verify import verify
from hcmoco.datasets.synthetic import NumberedPeople
from hcmoco.rng import make_rng
from hcmoco.synthetic import PeopleConfig, ScenesConfig, make_person, make_scene
from hcmoco_ray.commands.prepare import main, parser
from hcmoco_ray.prepare.parts import make_part, part_bounds
from hcmoco_ray.prepare.reader import Source, commands, from_arguments
from hcmoco_ray.prepare.request import REQUEST, WORK, request_of
from tests.helpers.mutations import damage
from tests.helpers.waiting import CEILING, wait_until

PEOPLE = ["people", "--domain", "wild", "--size", "32"]


def run(capsys, *arguments):
    """Exit status, stdout and stderr of one call of the program."""
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def failing(capsys, *arguments):
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "Traceback" not in err
    *before, last = err.strip().splitlines()
    assert last.startswith("error: ")
    return last, before


def rows_of(uri):
    shards = Shards.open(str(uri))
    return [row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()]


@pytest.fixture
def pictures(tmp_path):
    """A folder of 150 pictures in the format that hcmoco.datasets.folder reads; every tenth file is cut short."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for k in range(150):
        rng = make_rng(0, "picture", k)
        data = cv2.imencode(".jpg", rng.integers(0, 256, (40, 48, 3), np.uint8))[1].tobytes()
        (folder / f"{k:03d}.jpg").write_bytes(data[: len(data) // 2] if k % 10 == 3 else data)
        joints = np.column_stack([rng.uniform(5, 35, (17, 2)), np.full(17, 2)]).round(1).tolist()
        lines.append(json.dumps({"id": f"{k:03d}", "rgb": f"{k:03d}.jpg", "keypoints": joints, "subject": f"s{k % 4}"}))
    (folder / "people.jsonl").write_text("\n".join(lines))
    return folder


def test_people_are_the_records_that_the_seed_names(ray_session, tmp_path, capsys):
    """Row k is person order[k], whoever made it: the program's output against the pure functions."""
    status, out, err = run(capsys, *PEOPLE, "--out", tmp_path / "p", "--count", 150, "--seed", 3, "--split", "val")
    assert status == 0, err
    # A machine without Embree says so, once.
    assert all(line.startswith(("preparing ", "the package embreex ")) for line in err.splitlines())
    assert "prepared, 150 rows in 3 files" in out
    config = PeopleConfig(domain="wild", size=32, seed=3)
    order = make_rng(3, "write").permutation(150)
    rows = rows_of(tmp_path / "p")
    assert [row["index"] for row in rows] == list(range(150))
    for k in (0, 1, 51, 99, 149):
        expected = make_person(config, int(order[k]), dataset="people", split="val")
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(value, getattr(Person.from_row(rows[k]), name), err_msg=name)
    assert {row["id"] for row in rows} == {f"people/wild-3-{k}" for k in range(150)}
    manifest = Shards.open(str(tmp_path / "p")).manifest
    assert manifest.provenance.arguments["count"] == 150
    assert manifest.modalities["depth"] == 0
    assert sorted(os.listdir(tmp_path / "p")) == [
        CARD,
        MANIFEST,
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert verify(str(tmp_path / "p"), sample=50) == []


def test_the_bytes_do_not_depend_on_who_made_which_part(ray_session, tmp_path, capsys):
    run(capsys, *PEOPLE, "--out", tmp_path / "tasks", "--count", 130)
    source = Source("people", NumberedPeople(domain="wild", size=32, count=130))
    order = make_rng(0, "write").permutation(130).tolist()
    bounds = part_bounds(130)
    from hcmoco.storage import Folder

    folder = Folder(str(tmp_path / "alone"))
    items = source.items()
    for number in reversed(range(len(bounds) - 1)):  # one process, last part first
        dealt = [items[k] for k in order[bounds[number] : bounds[number + 1]]]
        make_part(source, folder, number, bounds[number], dealt)
    for name in ("part-00000.parquet", "part-00001.parquet", "part-00002.parquet"):
        assert (tmp_path / "tasks" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_the_same_command_twice_and_another_into_the_same_folder(ray_session, tmp_path, capsys):
    command = [*PEOPLE, "--out", tmp_path / "p", "--count", 8]
    run(capsys, *command)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()}
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "already prepared" in out
    line, _ = failing(capsys, *PEOPLE, "--out", tmp_path / "p", "--count", 9)
    assert "already holds a data set with count = 8, not 9 as requested" in line
    line, _ = failing(capsys, "people", "--size", 64, "--out", tmp_path / "p", "--count", 8)
    assert "domain = 'wild', not 'indoor' as requested" in line
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()}


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    line, _ = failing(capsys, *PEOPLE, "--out", tmp_path, "--count", 8)
    assert "is not empty and holds no data set" in line
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_broken_records_stop_with_their_list_then_are_counted(ray_session, tmp_path, capsys, pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)  # a relative path means the same to the tasks
    command = ["folder", "--path", pictures.name, "--out", tmp_path / "mine", "--name", "mine"]
    line, listed = failing(capsys, *command)
    assert re.search(r"records of mine are rejected so far, --max-broken 0.05 allows 7; .*raise --max-broken", line)
    assert any(re.fullmatch(r"  mine/\d\d3: .*truncated.*", each) for each in listed)
    finished = {path.name for path in (tmp_path / "mine" / WORK).glob("part-*.json")}
    assert finished
    with pytest.raises(Exception, match="is not a prepared data set"):
        Shards.open(str(tmp_path / "mine"))

    status, out, _ = run(capsys, *command, "--max-broken", "0.2")
    assert status == 0
    assert "15 rejected" in out
    assert "15 x the JPEG is truncated" in out
    rows = rows_of(tmp_path / "mine")
    order = make_rng(0, "write").permutation(150)
    assert [(row["index"], row["id"]) for row in rows] == list(enumerate(f"mine/{k:03d}" for k in order if k % 10 != 3))
    manifest = Shards.open(str(tmp_path / "mine")).manifest
    assert (manifest.rejected, sum(manifest.reasons.values()), manifest.rows) == (15, 15, 135)
    listed = [json.loads(line) for line in (tmp_path / "mine" / REJECTED).read_text().splitlines()]
    assert {each["id"] for each in listed} == {f"mine/{k:03d}" for k in range(3, 150, 10)}
    assert all("truncated" in each["reason"] for each in listed)
    assert min(rows for file in manifest.files for rows in file.group_rows) >= 16
    assert verify(str(tmp_path / "mine"), sample=50) == []
    assert not (tmp_path / "mine" / WORK).exists()


def test_going_on_keeps_finished_parts_and_remakes_damaged_ones(ray_session, tmp_path, capsys, pictures):
    whole = tmp_path / "whole"
    command = ["folder", "--path", pictures, "--max-broken", "0.2"]
    run(capsys, *command, "--out", whole)

    source_lines = (pictures / "people.jsonl").read_text()
    arguments = parser().parse_args([*map(str, command), "--out", str(tmp_path / "again")])
    source = from_arguments("folder", arguments)
    items, order, bounds = source.items(), make_rng(0, "write").permutation(150).tolist(), part_bounds(150)
    from hcmoco.storage import Folder

    folder = Folder(str(tmp_path / "again"))
    folder.write(REQUEST, json.dumps(request_of(source, 150)).encode())
    for number in (0, 1):  # as a killed run leaves them: two parts, and the beginning of the third
        make_part(
            source, folder, number, bounds[number], [items[k] for k in order[bounds[number] : bounds[number + 1]]]
        )
    again = tmp_path / "again"
    (again / "part-00002.parquet.writing-1").write_bytes(b"PAR1")
    kept = (again / "part-00000.parquet").stat().st_ino
    data = (again / "part-00001.parquet").read_bytes()
    (again / "part-00001.parquet").write_bytes(data[:100] + b"?" + data[101:])

    line, _ = failing(capsys, *command, "--out", again, "--size", 64)
    assert "holds the beginning of a data set with size = 320, not 64 as requested" in line
    status, _, _ = run(capsys, *command, "--out", again)
    assert status == 0
    assert (again / "part-00000.parquet").stat().st_ino == kept
    assert sorted(os.listdir(again)) == sorted(os.listdir(whole))
    assert REJECTED in os.listdir(whole)
    for name in os.listdir(whole):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert (pictures / "people.jsonl").read_text() == source_lines


def test_what_was_mended_is_read_again(ray_session, tmp_path, capsys, pictures):
    command = ["folder", "--path", pictures, "--out", tmp_path / "mine"]
    failing(capsys, *command)
    whole = (pictures / "000.jpg").read_bytes()
    for k in range(3, 150, 10):
        (pictures / f"{k:03d}.jpg").write_bytes(whole)
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert "150 rows" in out
    assert " 0 rejected" in out
    assert not (tmp_path / "mine" / REJECTED).exists()


def test_damaged_folders_are_read_or_refused(ray_session, tmp_path, capsys, pictures):
    """Four kinds of damage: rows and rejected records are all lines that there are, unless the file of lines itself
    is damaged.
    """
    for number in range(4):
        copy, out = tmp_path / f"copy {number}", tmp_path / f"out {number}"
        shutil.copytree(pictures, copy)
        what = damage(copy, make_rng(0, "prepare folder", number))
        print(what)  # shown where the time limit ends it
        status, _, err = run(capsys, "folder", "--path", copy, "--out", out, "--max-broken", 1)
        if status == 0:
            manifest = Shards.open(str(out)).manifest
            assert "people.jsonl" in what or manifest.rows + manifest.rejected == 150, what
            assert verify(str(out)) == [], what
        else:
            *_, last = err.strip().splitlines()
            assert last.startswith("error: "), what
            assert "people.jsonl" in last, what


def test_verify_names_the_changed_file(ray_session, tmp_path, capsys):
    run(capsys, *PEOPLE, "--out", tmp_path / "p", "--count", 130)
    status, out, _ = run(capsys, "verify", tmp_path / "p")
    assert (status, out.strip()) == (0, f"{tmp_path / 'p'}: whole, 130 rows in 3 files")
    for names in (["part-00001.parquet"], ["part-00001.parquet", "part-00002.parquet"]):
        path = tmp_path / "p" / names[-1]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        line, listed = failing(capsys, "verify", tmp_path / "p")
        assert all(name in "\n".join([*listed, line]) for name in names)
    assert "2 of 3 files are bad" in line


def test_sheet(ray_session, tmp_path, capsys):
    run(capsys, *PEOPLE, "--out", tmp_path / "p", "--count", 6)
    status, out, _ = run(capsys, "sheet", tmp_path / "p", tmp_path / "look" / "people.png", "--count", 3)
    assert status == 0
    assert "3 rows" in out
    picture = cv2.imread(str(tmp_path / "look" / "people.png"))
    assert picture.shape[0] > 2 * picture.shape[1] / 3 > 0
    assert picture.std() > 20
    assert failing(capsys, "sheet", tmp_path / "p", tmp_path / "people.jpg")


def test_scenes_are_the_records_that_the_seed_names(ray_session, tmp_path, capsys):
    command = ["people", "--scenes", "--size", 64, "--seed", 3, "--split", "val", "--out", tmp_path / "s", "--count", 9]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert "prepared, 9 rows in 1 files" in out
    config = ScenesConfig(size=64, seed=3)
    order = make_rng(3, "write").permutation(9)
    for k, row in enumerate(rows_of(tmp_path / "s")):
        assert row == make_scene(config, int(order[k]), dataset="scenes", split="val").to_row(k)
    manifest = Shards.open(str(tmp_path / "s")).manifest
    assert (manifest.kind, manifest.joints, manifest.modalities) == ("scene", "", {"rgb": 9, "instances": 9})
    assert (manifest.provenance.arguments["source"], manifest.provenance.arguments["max_people"]) == ("scenes", 3)
    assert run(capsys, "verify", tmp_path / "s")[0] == 0
    assert "already prepared" in run(capsys, *command)[1]
    line, _ = failing(capsys, "people", "--size", 64, "--seed", 3, "--out", tmp_path / "s", "--count", 9)
    assert "already holds a data set with source = 'scenes', not 'people' as requested" in line

    status, out, _ = run(capsys, "sheet", tmp_path / "s", tmp_path / "scenes.png", "--count", 4)
    assert (status, "4 rows" in out) == (0, True)
    picture = cv2.imread(str(tmp_path / "scenes.png"))
    assert picture.shape[1] > picture.shape[0]
    assert picture.std() > 20


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["people", "--scenes", "--count", "5", "--min-people", "3", "--max-people", "2"],
            "prepare people --scenes: .*min_people = 3 is more",
        ),
        (
            ["people", "--scenes", "--count", "5", "--masked-depth", "true"],
            "prepare people --scenes: unknown key 'masked_depth'",
        ),
        (["people", "--count", "5", "--num-points", "3"], "prepare people: unknown key 'num_points'"),
        (
            ["people", "--scenes", "--count", "5", "--most", "2"],
            "prepare people --scenes: 'most' is now called 'max_people'",
        ),
        (["people", "--count", "0"], "prepare people: count = 0"),
        (["people", "--count", "5", "--domain", "space"], "domain = 'space'"),
        (["people", "--count", "5", "--size", "huge"], "size = 'huge'"),
        (["people", "--count", "5", "--size", "["], r"size = '\['"),
        (["people", "--count", "5", "--max-broken", "5"], "--max-broken 5.0: must be a share from 0 to 1"),
        (["people", "--count", "1000000000"], "will need about .* GB, and .* free"),
        (["ntu"], "key 'source' is missing"),
        (["ntu", "--source", "nowhere"], "nowhere is not a folder"),
        (
            ["coco", "--source", "s3://bucket/coco"],
            "--source s3://bucket/coco is a URI; raw files are read from a folder",
        ),
        (["coco", "--source", 200 * "ä"], "File name too long"),
        (["mpii", "--split", ""], "split = ''"),
        (["mpii", "--annotations", "nowhere.json", "--images", "nowhere"], "nowhere.json does not exist"),
        (["coco", "--annotations", "nowhere.json", "--images", "nowhere"], "nowhere.json does not exist"),
        (["folder", "--path", "nowhere"], "people.jsonl does not exist"),
    ],
)
def test_a_mistake_is_one_line_before_ray_starts(tmp_path, capsys, arguments, line):
    found, before = failing(capsys, arguments[0], "--out", tmp_path / "p", *arguments[1:])
    assert re.search(line, found)
    assert before == []
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["ntu", "--actions", "9"], "actions", (9,)),
        (["ntu", "--setups", "1, 2"], "setups", (1, 2)),
        (["ntu", "--setups", "[1, 2]"], "setups", (1, 2)),
        (["h36m-parsing", "--subjects", "S1,S5"], "subjects", ("S1", "S5")),
        (["densepose-coco", "--annotations", "a.json"], "annotations", ("a.json",)),
        (["ntu", "--rgb", "1"], "rgb", "1"),
    ],
)
def test_a_list_is_written_with_commas(arguments, name, value):
    parsed = parser().parse_args([*arguments, "--source", "x", "--out", "y"])
    assert getattr(from_arguments(arguments[0], parsed).config, name) == value


@pytest.mark.parametrize("kind", commands())
def test_every_data_set_says_what_it_takes(capsys, kind):
    with pytest.raises(SystemExit) as ended:
        main([kind, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--output-dir OUTPUT_DIR, --out OUTPUT_DIR" in shown
    assert ("--check" in shown) == (kind != "people")


def test_a_place_that_tasks_cannot_share_is_refused(capsys):
    assert "lives in one process" in failing(capsys, *PEOPLE, "--out", "memory://p", "--count", 8)[0]


@pytest.mark.parametrize("command", [["verify", "nowhere"], ["sheet", "nowhere", "x.png"]])
def test_no_data_set_there(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "is not a prepared data set" in failing(capsys, *command)[0]


@pytest.mark.long
@pytest.mark.slow
def test_killed_anywhere_and_run_again(tmp_path):
    """SIGKILL to the whole program, several times; then the result has the bytes of an uninterrupted run."""
    repository = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)

    def command(out):
        return [
            sys.executable,
            str(repository / "pipelines" / "prepare.py"),
            *PEOPLE,
            "--out",
            str(out),
            "--count",
            "700",
        ]

    subprocess.run(command(tmp_path / "whole"), env=environment, check=True, timeout=CEILING)
    for finished in (1, 3, 6):
        process = subprocess.Popen(command(tmp_path / "killed"), env=environment, start_new_session=True)
        wait_until(lambda f=finished: len(list((tmp_path / "killed" / WORK).glob("part-*.json"))) >= f, process)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / MANIFEST).exists()
    subprocess.run(command(tmp_path / "killed"), env=environment, check=True, timeout=CEILING)
    assert sorted(os.listdir(tmp_path / "killed")) == sorted(os.listdir(tmp_path / "whole"))
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
