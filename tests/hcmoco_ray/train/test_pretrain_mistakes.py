"""A user's mistake: one line on stderr with `error: `, status 2, no traceback, and no file in the way of a retry."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import filelock
import pyarrow.parquet as pq
import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from tests.helpers.pretrain_program import call, start, tracked
from tests.helpers.waiting import CEILING

BEFORE_RAY = {
    "an unknown key": ("optim.leraning_rate=1", "unknown key 'optim.leraning_rate'; allowed here: name, lr, momentum"),
    "an unknown group": ("trian.workers=2", "unknown key 'trian'; allowed here: name, output_dir, seed, data,"),
    "a negative weight of the objective": ("objective.lambda_d=-1", "objective.lambda_d = -1: "),
    "a negative weight of data": ("data.sources.indoor.weight=-1", "data.sources.indoor.weight = -1: "),
    "no steps": (
        "stages={stage1_steps: 0, stage2_steps: 0}",
        r"stages.stage1_steps \+ stages.stage2_steps must be at least 1 step",
    ),
    "an unknown joint set": (
        "model.joint_set=coco-133",
        "model.joint_set = 'coco-133': allowed are coco-17, mpii-16, kinect-25, common-13, itop-15",
    ),
    "a misspelt backbone": ("model.rgb.name=hrnet_w18_smal", "timm has no such model; close: hrnet_w18_small,"),
    "workers that do not divide the lanes": (
        "train.workers=4",
        r"train.workers = 4 does not divide train.lanes = 2; allowed are \[1, 2\]",
    ),
    "an override without =": (
        "stages.stage1_steps",
        "override 'stages.stage1_steps' is not of the form key=value, for example",
    ),
    "an override that is not YAML": (
        "stages.stage1_steps=[3",
        r"override 'stages.stage1_steps=\[3': the value is not valid YAML",
    ),
    "a learning rate that is no number": ("optim.lr=nan", "optim.lr = 'nan': "),
    "crops that reach beyond what is stored": (
        "augment.scale=[0.1, 5]",
        "augment.scale = .*: must be low <= high within 0.05 and 1.5",
    ),
    "an unknown store": (
        "tracking.uri=mydisk",
        "tracking.uri = 'mydisk': must be null .* or start with one of http://",
    ),
    "weights that are not there": (
        "model.rgb.init=/nope.safetensors",
        "weights /nope.safetensors do not exist; put the file there, or name another file",
    ),
    "an output folder that cannot be": (
        "output_dir=/proc/nowhere/run",
        "/proc/nowhere/run cannot be written to: .*; choose another folder with",
    ),
    "an output folder that is a file": (
        "output_dir=tiny.yaml",
        "tiny.yaml cannot be written to: .*; choose another folder with output_dir=",
    ),
    "an output folder below a file": (
        "output_dir=tiny.yaml/x",
        "tiny.yaml/x cannot be written to: .*; choose another folder with output_dir=",
    ),
    "a word for a number that may be a pair": (
        "train.workers=two",
        r": train.workers = 'two': must be a whole number or a list",
    ),
    "storage of an unknown kind": (
        "output_dir=bogus://x/y tracking.uri=http://h",
        "storage bogus://x/y cannot be opened: .*give a path or a URI",
    ),
    "remote results without a tracking server": (
        "output_dir=memory://x",
        "tracking.uri is not set and the output folder .* is not local",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), BEFORE_RAY.values(), ids=BEFORE_RAY.keys())
def test_before_ray_starts(tiny_home, arguments, line):
    apart = arguments.split(" ") if "tracking.uri=http" in arguments else [arguments]
    out = [] if "output_dir=" in arguments else ["output_dir=runs/never"]
    assert re.search(line, call(tiny_home, *apart, *out).error)
    assert not (tiny_home / "runs" / "never" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "recipe {path} does not exist; in {folder} there are: .*tiny"),
        ("a: [1\nb: }", "recipe {path} is not valid YAML: "),
        (
            "a: 1\nb: {c: 2, d: 3}\na: 4\n",
            "{path} is not valid YAML: the key 'a' appears twice, in lines 1 and 3",
        ),
        ("- a\n- b\n", "recipe {path} must be a mapping of keys to values, it is list"),
        ("extends: nobody\nseed: 1\n", "recipe {folder}/nobody.yaml does not exist"),
        ("seed: 1\n", "recipe {path}: key 'output_dir' is missing; key 'data' is missing; key 'stages' is missing"),
    ],
)
def test_recipes(tiny_home, text, line):
    path = tiny_home / "given.yaml"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    assert re.search(line.format(path=path, folder=tiny_home), call(tiny_home, recipe=str(path)).error)


def test_a_recipe_that_is_not_there_names_those_that_are(tiny_home):
    assert re.search(
        "recipe .*recipes/people.yaml does not exist; .* as-released, .* people-cpu",
        call(tiny_home, recipe="people").error,
    )


def test_a_folder_with_someone_elses_config(tiny_home):
    folder = tiny_home / "runs" / "foreign"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("theirs: 1\n")
    assert (
        "config.yaml is not a config of this program and version; choose another folder"
        in call(tiny_home, "output_dir=runs/foreign").error
    )
    assert (folder / "config.yaml").read_text() == "theirs: 1\n"


def test_a_folder_in_which_a_run_is_under_way(tiny_home):
    folder = tiny_home / "runs" / "busy"
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".lock"):
        assert "another run is active in this folder" in call(tiny_home, "output_dir=runs/busy").error


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=0.5", "optim.lr was 0.004, now 0.5; take the same config again, or another folder with output_dir="),
        ("stages.stage2_steps=4", "stages.stage2_steps was 3, now 4"),
        ("objective.tau_s=0.1", "objective.tau_s was 0.07, now 0.1"),
        ("seed=4", "seed was 3, now 4"),
    ],
)
def test_a_second_run_with_another_config_into_the_same_folder(finished, tiny_home, override, line):
    assert f"{finished.folder} holds a run with another config: {line}" in call(tiny_home, override).error


def test_a_second_run_on_other_data_into_the_same_folder(finished, tiny_home):
    line = call(tiny_home, "data.sources.wild.path=data/held-out", "data.sources.wild.people=null").error
    assert f"{finished.folder} holds a run with another config: plan.sources" in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "train.gpu=true",
            r"train.workers = 1: 0 of 1 worker of 0.5 CPUs and 1 GPU have room .* set train.gpu=false",
        ),
        (
            "train.workers=2 train.cpus_per_worker=5",
            r"train.workers = 2: 0 of 2 workers of 5 CPUs have room .* lower train.workers or train.cpus_per_worker",
        ),
        (
            "augment.size=8192 train.batch_size_per_lane=4096",
            "the run needs about .* GB of memory, .* GB are free; lower train.batch_size_per_lane",
        ),
        (
            "train.num_checkpoints=1000000000",
            "1000000000 train states need about .* GB, .* GB are free; choose another disk with output_dir=",
        ),
    ],
)
def test_a_machine_too_small(ray_session, tiny_home, arguments, line):
    assert re.search(line, call(tiny_home, *arguments.split(), "output_dir=runs/never").error)


def test_a_server_that_does_not_answer(ray_session, tiny_home):
    line = call(tiny_home, "output_dir=runs/never", "tracking.uri=http://127.0.0.1:9").error
    assert line.startswith("the MLflow store http://127.0.0.1:9 cannot be opened: ")
    assert line.endswith("correct tracking.uri or MLFLOW_TRACKING_URI, or set neither to log to a local file")


def test_a_mixture_without_depth(finished, tiny_home):
    line = call(tiny_home, "output_dir=runs/never", "data.sources.indoor.weight=0.01").error
    assert re.search(
        r"step \d+ would hold no depth with probability 1 \(rows with depth: indoor 100%, wild 0%\); add a data set",
        line,
    )


def test_held_out_people_without_depth(finished, tiny_home):
    line = call(tiny_home, "output_dir=runs/never", "data.held_out.path=data/wild", "data.held_out.people=null").error
    assert "0 of the 24 held-out people have RGB, depth and keypoints; the probes need at least 2" in line


def test_other_people_than_the_config_asks_for(finished, tiny_home):
    line = call(tiny_home, "output_dir=runs/never", "data.sources.wild.people.count=25").error
    assert (
        "data/wild holds data with count = 24, data.sources.wild.people asks for 25; set data.sources.wild.people=null "
        "to use" in line
    )
    line = call(tiny_home, "output_dir=runs/never", "data.held_out.path=data/indoor").error
    assert "data/indoor holds data with count = 48, data.held_out.people asks for 16" in line


def test_the_programs_own_process_says_one_line_too(tiny_home):
    process = start(tiny_home, "--recipe", "nowhere", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed, said = process.communicate(timeout=CEILING)
    assert (process.returncode, printed) == (2, "")
    assert re.fullmatch(r"error: recipe .*/nowhere.yaml does not exist; .*\n", said)


def damaged(home: Path, name: str, change: Callable[[Path], None]) -> list[str]:
    """Overrides that make a changed copy of "indoor" the data."""
    folder = home / "data" / name
    shutil.copytree(home / "data" / "indoor", folder)
    change(folder)
    return [f"output_dir=runs/{name}", f"data.sources.indoor.path=data/{name}"]


def flip_a_byte_of_a_picture(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    group = pq.read_metadata(path).row_group(0)
    column = next(column for column in map(group.column, range(group.num_columns)) if column.path_in_schema == "rgb")
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)


def name_a_file_outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["name"] = "../indoor/part-00000.parquet"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def cut(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-10])


def store_half_a_picture(folder: Path) -> None:
    """As another program might: sound shards, unsound records."""
    shards = Shards.open(str(folder))
    persons = [
        Person.from_row(row) for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()
    ]
    about = About(**{name: getattr(shards.manifest, name) for name in About.model_fields})
    shutil.rmtree(folder)
    write_shards(str(folder), [replace(person, rgb=person.rgb[: len(person.rgb) // 2]) for person in persons], about)


DAMAGE = {
    "cut": (cut, r"part-00000.parquet has \d+ bytes, the manifest says \d+ bytes; copy it again"),
    "outside": (
        name_a_file_outside,
        r"manifest.json: files.0.name = '../indoor/part-00000.parquet': must be of the form",
    ),
    "missing": (
        lambda folder: (folder / "part-00000.parquet").unlink(),
        "part-00000.parquet is missing, the manifest says",
    ),
    "no-manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"schema_version":'),
        "manifest.json cannot be read: .*; prepare the data set again",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_data_that_is_not_what_was_prepared(finished, tiny_home, name):
    change, line = DAMAGE[name]
    assert re.search(line, call(tiny_home, *damaged(tiny_home, name, change)).error)


FLIPPED = (
    r"part-00000.parquet is not the file that was written \(.*CRC.*\); "
    r"see `python pipelines/prepare.py verify .*`, then copy it"
)


def test_a_changed_byte_is_found_when_it_is_read(finished, tiny_home):
    assert re.search(FLIPPED, call(tiny_home, *damaged(tiny_home, "flipped", flip_a_byte_of_a_picture)).error)


@pytest.mark.parametrize("decode", ["worker", "tasks"])
def test_a_record_that_does_not_decode(finished, tiny_home, decode):
    overrides = damaged(tiny_home, f"half-{decode}", store_half_a_picture)
    line = call(tiny_home, *overrides, f"ingest.decode={decode}").error
    assert re.search(r"record 'people/indoor-1-\d+': .*truncated.*; its data set is not as", line)


INFINITE = (
    r"^(loss/g/\S+ became inf|grad_norm became inf in step 1; the largest term there is loss/g/\S+) .*"
    r"lower optim.lr, set optim.clip_norm"
)


def test_a_temperature_too_small(finished, tiny_home):
    assert re.search(INFINITE, call(tiny_home, "output_dir=runs/cold", "objective.tau_g=1e-30").error)


def test_a_learning_rate_too_large_is_not_in_the_way_of_a_mended_one(finished, tiny_home):
    line = call(tiny_home, "output_dir=runs/mended", "optim.lr=1e30", "train.save_every=6").error
    assert re.search(r"^loss/g/\S+ became nan in step 2; .* lower optim.lr", line)
    assert call(tiny_home, "output_dir=runs/mended", "train.save_every=6").status == 0
    assert len(tracked(tiny_home / "runs" / "mended")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("decode", ["worker", pytest.param("tasks", marks=pytest.mark.long)])
def test_a_changed_byte_on_two_workers(finished, tiny_home, decode):
    overrides = damaged(tiny_home, f"flipped-two-{decode}", flip_a_byte_of_a_picture)
    assert re.search(FLIPPED, call(tiny_home, *overrides, f"ingest.decode={decode}", "train.workers=2").error)


@pytest.mark.slow
@pytest.mark.long
def test_a_temperature_too_small_on_two_workers(finished, tiny_home):
    assert re.search(
        INFINITE, call(tiny_home, "output_dir=runs/cold-two", "objective.tau_g=1e-30", "train.workers=2").error
    )
