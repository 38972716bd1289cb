"""A user's mistake in fine-tuning and evaluation: one line on stderr with `error: `, status 2, no traceback."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import MANIFEST, About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.finetuning.saved_model import save_model
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.tasks.registry import make_task
from hcmoco_ray.config import FinetuneRecipe, check
from tests.helpers import finetune_program as tiny
from tests.helpers.pretrain_program import Done


def mistake(done: Done) -> str:
    """The one line; `Done.error`, where scoring may have begun too."""
    return replace(
        done, err="".join(line for line in done.err.splitlines(True) if not line.startswith("scoring"))
    ).error


def about(**over) -> About:
    values = {
        "dataset": "people",
        "joints": "people-31",
        "joints3d": "people-31",
        "size": 64,
        "provenance": Provenance(program="tests"),
    }
    return About(**{**values, **over})


@pytest.fixture(scope="module")
def people(finetune_home) -> Callable[..., str]:
    """Writes 20 people, changed by a function of (person, number), and names their folder."""
    made = [make_person(PeopleConfig(size=64, seed=8), number, dataset="people", split="train") for number in range(20)]

    def write(name: str, change: Callable[[Person, int], Person] = lambda person, number: person) -> str:
        folder = finetune_home / "data" / name
        if not folder.exists():
            write_shards(str(folder), [change(person, number) for number, person in enumerate(made)], about())
        return f"data/{name}"

    return write


def on(data: str) -> list[str]:
    """Overrides that make a prepared data set all that is read."""
    return [f"data.{key}={{path: {data}, people: null, scenes: null}}" for key in ("train", "test")]


BEFORE_RAY = {
    "no labels left": ("fraction=0", "fraction = 0: "),
    "two ways to choose labels": (
        "fraction=0.5 num_samples=3",
        "num_samples and fraction are given; give one of fraction, num_samples and subset",
    ),
    "an unknown subset": ("subset=itop-3%", "subset = 'itop-3%': allowed are itop-10%, "),
    "steps and epochs": ("epochs=3", "steps = 6 and epochs = 3.0: give one of them, and set the other to null"),
    "neither steps nor epochs": ("steps=null", "steps = None and epochs = None: give one of them"),
    "nothing to choose on": (
        "num_val_rows=0",
        "select = validation needs validation rows; set num_val_rows=64, or select=last",
    ),
    "an unknown key": ("fractoin=0.1", "unknown key 'fractoin'; allowed here: fraction, num_samples, subset"),
    "an unknown key of the task": ("task.siez=3", "unknown key 'task.siez'; allowed here: name, joints, size, head"),
    "a task's value": ("task.size=65", "task.size = 65: must be a positive multiple of 32, for example 64"),
    "where the encoder starts, twice": (
        "encoder.init=timm",
        "encoder.init = 'timm': say where the encoder starts with the key init",
    ),
    "one row of 32 pixels": (
        "task.size=32 train.batch_size_per_lane=1 train.lanes=1",
        "task.size = 32 with one row of a step on a worker .*; raise train.batch_size_per_lane, or set task.size=64",
    ),
    "weights that are not there": ("init=nowhere.pth", "weights .*/nowhere.pth do not exist; put the file there"),
    "a folder that is no pre-training": (
        "init=data",
        "init: .*/data is neither an export nor a finished run of pretrain.py",
    ),
    "a people's key for scenes": (
        "data.train.people.least=2",
        "unknown key 'data.train.people.least'; allowed here: domain, size",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), BEFORE_RAY.values(), ids=BEFORE_RAY.keys())
def test_before_ray_starts(finetune_home, arguments, line):
    (finetune_home / "data" / "something").mkdir(parents=True, exist_ok=True)
    assert re.search(line, tiny.call(finetune_home, "pose", *arguments.split(" "), "output_dir=runs/never").error)
    assert not (finetune_home / "runs" / "never" / "config.yaml").exists()


@pytest.mark.parametrize("given", [[], ["init="], ["init=null"]])
def test_where_the_encoder_starts_has_to_be_said(finetune_home, given):
    line = tiny.call(finetune_home, "pose", "--recipe", str(finetune_home / "pose.yaml"), *given, bare=True).error
    assert line.startswith(
        "init is not given: say where the encoder starts, with init=FOLDER of a run of pretrain.py, a weights file, "
    )


def test_an_unknown_task(finetune_home):
    done = tiny.call(finetune_home, "poes", "init=scratch", bare=True)
    assert done.status == 2
    assert re.search(r"argument TASK: invalid choice: 'poes' \(choose from .*parsing-rgb.*pose.*densepose", done.err)


def test_an_unknown_recipe(finetune_home):
    line = tiny.call(finetune_home, "pose", "--recipe", "people", "init=scratch", bare=True).error
    assert re.search(r"recipe .*recipes/pose/people.yaml does not exist; .* there are: .*people-cpu", line)


def test_published_weights_without_a_network(finetune_home, monkeypatch):
    """Nothing listens at that port."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    empty = str(finetune_home / "no-cache")
    line = tiny.call(
        finetune_home, "pose", "init=imagenet", f"encoder.args={{cache_dir: {empty}}}", "output_dir=runs/never"
    ).error
    assert line.startswith(
        "init=imagenet: no imagenet_weights file is given, and encoder test_resnet: cannot get timm's weights: "
    )
    assert line.endswith("; set imagenet_weights=FILE")
    assert "http://127.0.0.1:9 cannot be reached" in line
    assert constants.HF_HUB_OFFLINE is False


def test_an_export_of_another_encoder(finetune_home):
    tiny.export(finetune_home / "wide", name="resnet18")
    line = tiny.call(finetune_home, "parsing-depth", "init=wide", "output_dir=runs/never").error
    assert "the depth encoder of " in line
    assert (
        "/wide has name = 'resnet18', encoder.name is 'test_resnet'; set encoder.name=resnet18 or take weights of that"
        in line
    )


def test_a_file_of_another_encoder(finetune_home):
    torch.save(build_encoder(EncoderConfig(name="resnet10t")).trunk.state_dict(), finetune_home / "resnet10t.pth")
    line = tiny.call(finetune_home, "parsing-rgb", "init=resnet10t.pth", "output_dir=runs/never").error
    assert re.search(r"weights .*/resnet10t.pth do not fit test_resnet: .* of another shape", line)
    line = tiny.call(
        finetune_home, "parsing-rgb", "init=imagenet", "imagenet_weights=resnet10t.pth", "output_dir=runs/never"
    ).error
    assert re.search(r"weights .*/resnet10t.pth do not fit test_resnet: ", line)


def test_a_fine_tuned_model_is_no_pre_training(finetune_home, people, tmp_path):
    model = fine_tuned(tmp_path, people("sound"), finetune_home)
    line = tiny.call(finetune_home, "pose", f"init={model}", "output_dir=runs/never").error
    assert "config.json is not that of an export" in line


def test_a_folder_of_another_program(finetune_home):
    folder = finetune_home / "runs" / "pretraining"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"stages": {"stage1_steps": 3, "stage2_steps": 3}, "model": {}, "seed": 1})
    )
    line = tiny.call(finetune_home, "pose", "output_dir=runs/pretraining").error
    assert (
        "runs/pretraining/config.yaml is not a config of this program and version; choose another folder with "
        "output_dir=..." in line
    )


def test_a_data_set_s_folder_as_the_run_s(finetune_home):
    holding = finetune_home / "holding"
    holding.mkdir()
    (holding / MANIFEST).write_text("{}")
    run = tiny.call(finetune_home, "parsing-rgb", "output_dir=holding")
    assert run.status == 2
    assert "holding is a prepared data set; a run needs its own folder" in run.err
    assert not (holding / "config.yaml").exists()


def test_labels_that_the_data_do_not_have(ray_session, finetune_home, people):
    bare = people("without-parts", lambda person, number: replace(person, parts=None, joints3d=None))
    line = tiny.call(finetune_home, "parsing-rgb", *on(bare), "output_dir=runs/never").error
    assert re.search(
        r"data/without-parts has no parts \(its rows have .*keypoints.*\); prepare or name a data set that has", line
    )
    line = tiny.call(finetune_home, "pose", *on(bare), "output_dir=runs/never").error
    assert re.search(r"data/without-parts has no joints3d ", line)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            "fraction=0.01",
            r"1% of the 20 labeled rows of .* leaves no row to train on: num_val_rows = 8 of them are kept for "
            r"validation; give ",
        ),
        (
            "num_samples=13",
            r"num_samples = 13: .* has 20 labeled rows, of which 8 are kept for validation; at most 12, or a "
            r"smaller num_val_rows",
        ),
        ("num_val_rows=20", r"100% of the 20 labeled rows .* leaves no row to train on"),
        ("subset=itop-1%", r"itop-1% of the 20 labeled rows .* leaves no row to train on"),
    ],
)
def test_a_share_that_leaves_nothing(ray_session, finetune_home, people, given, line):
    assert re.search(line, tiny.call(finetune_home, "pose", *on(people("sound")), given, "output_dir=runs/never").error)


def test_scenes_for_persons_and_persons_for_scenes(ray_session, finetune_home, people):
    scenes = "data.train={path: data/never-made, people: null, scenes: {count: 500}}"
    line = tiny.call(finetune_home, "pose", scenes, "output_dir=runs/never").error
    assert line.startswith("data.train.scenes: person records are needed; set data.train.scenes=null")
    assert not (finetune_home / "data" / "never-made").exists()
    line = tiny.call(
        finetune_home,
        "densepose",
        "data.train={path: data/never-made, scenes: null, people: {count: 500}}",
        "output_dir=runs/never",
    ).error
    assert line.startswith("data.train.people: scene records are needed; ")
    line = tiny.call(finetune_home, "densepose", *on(people("sound")), "output_dir=runs/never").error
    assert re.search(
        r"data.train.path: .*data/sound holds person records, scene records are needed; name another data set", line
    )


def test_data_that_are_not_there(ray_session, finetune_home):
    line = tiny.call(finetune_home, "pose", *on("data/nowhere"), "output_dir=runs/never").error
    assert "data/nowhere" in line


def png(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", image)
    assert done
    return data.tobytes()


EIGHT_BITS = png(np.full((64, 64), 200, np.uint8))
SMALL = png(np.zeros((32, 32), np.uint8))
UNSOUND = {
    # what is stored, the task that reads it, settings, what is said
    "depth of 8 bits": ("depth", EIGHT_BITS, "pose", [], r"record 'people/indoor-8-7': .*8 bits"),
    "depth of 8 bits for parsing": (
        "depth",
        EIGHT_BITS,
        "parsing-depth",
        ["task.class_weights=none"],
        r"record 'people/indoor-8-7': .*8 bits",
    ),
    "labels of another size": (
        "parts",
        SMALL,
        "parsing-rgb",
        [],
        r"record 'people/indoor-8-7': parts: the image is 32 x 32 pixels, 64 x 64",
    ),
    "labels that statistics are of": (
        "parts",
        SMALL,
        "parsing-rgb",
        ["task.class_weights=frequency"],
        r"record 'people/indoor-8-7': parts: ",
    ),
    "half a picture": ("rgb", None, "parsing-rgb", [], r"record 'people/indoor-8-7': rgb: .*"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_record_that_does_not_decode(ray_session, finetune_home, people, name):
    column, stored, task, settings, line = UNSOUND[name]

    def change(person: Person, number: int) -> Person:
        old = getattr(person, column)
        return (
            replace(person, **{column: old[: len(old) // 2] if stored is None else stored}) if number == 7 else person
        )

    data = people(f"unsound-{column}-{len(stored or b'')}", change)
    out = f"runs/unsound-{name.replace(' ', '-')}"
    given = [
        *on(data),
        *settings,
        "num_val_rows=0",
        "select=last",
        f"output_dir={out}",
        f"tracking.uri=sqlite:///{finetune_home}/mistakes.db",
    ]
    said = tiny.call(finetune_home, task, *given).error
    assert re.search(line, said)
    assert said.endswith(
        "its data set is not as `python pipelines/prepare.py` leaves one: see what its verify says, then prepare it "
        "again"
    )


def test_a_learning_rate_too_large(ray_session, finetune_home, people):
    given = [
        *on(people("sound")),
        "optim.lr=1e30",
        "optim.clip_norm=null",
        "output_dir=runs/large",
        f"tracking.uri=sqlite:///{finetune_home}/mistakes.db",
    ]
    line = tiny.call(finetune_home, "parsing-rgb", *given, "num_val_rows=0", "select=last", "train.save_every=6").error
    assert re.search(r"^(loss|grad_norm)\S* became (nan|inf) in step \d.* lower optim.lr", line)


# --- evaluate.py


def fine_tuned(folder: Path, data: str, home: Path) -> str:
    """A model folder of a fresh pose model."""
    values = yaml.safe_load((home / "pose.yaml").read_text())
    config = check(FinetuneRecipe, {**values, "init": "scratch", "task": {**values["task"], "name": "pose"}}, "tiny")
    task = make_task(config.task, Shards.open(str(home / data)).manifest)
    model = task.make_model(build_encoder(config.encoder))
    save_model(str(folder / "model"), model, task, config.encoder, training={}, card="")
    return str(folder / "model")


def test_weights_that_are_none(finetune_home, people):
    line = tiny.evaluate(finetune_home, "data", people("sound")).error
    assert re.search(
        r"weights: .*/data holds no fine-tuned model; give the folder of a finished run of `python "
        r"pipelines/finetune.py`",
        line,
    )
    line = tiny.evaluate(finetune_home, tiny.export(finetune_home / "exported"), people("sound")).error
    assert "exported holds pre-trained encoders, which predict nothing; fine-tune them with" in line


@pytest.mark.parametrize("part", ["a weight", "the format", "the version", "the task"])
def test_a_model_that_was_changed(finetune_home, people, tmp_path, part):
    model = Path(fine_tuned(tmp_path, people("sound"), finetune_home))
    facts = json.loads((model / "config.json").read_text())
    if part == "a weight":
        data = bytearray((model / "model.safetensors").read_bytes())
        data[-3] ^= 1
        (model / "model.safetensors").write_bytes(data)
    else:
        facts |= {
            "the format": {"format": "else"},
            "the version": {"format_version": 9},
            "the task": {"task": {"task": "poes"}},
        }[part]
        (model / "config.json").write_text(json.dumps(facts))
    line = tiny.evaluate(finetune_home, str(model), people("sound")).error
    expected = {
        "a weight": "model.safetensors does not match its checksum in config.json; copy it or train it again",
        "the format": "config.json is not that of a fine-tuned model: its format is 'else'; train it again",
        "the version": "has format version 9, this program reads 1",
        "the task": "is a model of the task 'poes', which this program does not know (it knows parsing-rgb, ",
    }
    assert expected[part] in line


def test_what_a_model_cannot_be_scored_on(finetune_home, people, tmp_path):
    model = fine_tuned(tmp_path, people("sound"), finetune_home)
    bare = people("without-parts", lambda person, number: replace(person, parts=None, joints3d=None))
    assert re.search(r"without-parts has no joints3d", tiny.evaluate(finetune_home, model, bare).error)
    assert "data/nowhere" in tiny.evaluate(finetune_home, model, "data/nowhere").error
    scenes = finetune_home / "data" / "called-scenes"
    shutil.copytree(finetune_home / people("sound"), scenes)
    manifest = json.loads((scenes / "manifest.json").read_text())
    (scenes / "manifest.json").write_text(json.dumps({**manifest, "kind": "scene"}))
    assert (
        "data/called-scenes holds scene records, pose is scored on person records"
        in tiny.evaluate(finetune_home, model, str(scenes)).error
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("--workers 0", "--workers 0: must be at least 1"),
        ("--piece-rows 0", "--piece-rows 0: must be at least 1"),
        ("--cpus 0", "--cpus 0: must be more than 0"),
        ("--threads 0", "--threads 0: must be at least 1"),
        ("--workers 4 --cpus 2", "train.workers = 4: 2 of 4 workers of 2 CPUs have room"),
        ("--gpu", "0 of 1 worker of 0.5 CPUs and 1 GPU have room"),
    ],
)
def test_workers_that_cannot_be(ray_session, finetune_home, people, tmp_path, given, line):
    model = fine_tuned(tmp_path, people("sound"), finetune_home)
    assert line in tiny.evaluate(finetune_home, model, people("sound"), *given.split()).error


def test_a_record_that_cannot_be_scored(ray_session, finetune_home, people, tmp_path):
    model = fine_tuned(tmp_path, people("sound"), finetune_home)
    unsound = people(
        "unsound-depth-scored", lambda person, number: replace(person, depth=EIGHT_BITS) if number == 7 else person
    )
    assert re.search(r"record 'people/indoor-8-7': .*8 bits", mistake(tiny.evaluate(finetune_home, model, unsound)))
