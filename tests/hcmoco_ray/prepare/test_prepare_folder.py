"""From one's own pictures with LIP's parts and 3D joints to fine-tuned models, through the programs."""

import json

import pytest

from hcmoco.data.label_maps import label_map
from hcmoco.data.shards.manifest import read_manifest
from hcmoco.storage import Folder
from hcmoco_ray.commands.prepare import main
from tests.helpers import finetune_program as tiny
from tests.helpers import own_people

PEOPLE = 12
OPTIONS = ("--label-map=lip", "--joint-set-3d=kinect-25", "--joint-unit-3d=cm")
OVERFIT = (
    "num_val_rows=0",
    "select=last",
    "num_evals=1",
    "train.save_every=1000",
    "train.log_every=50",
    "train.batch_size_per_lane=6",
    "optim.lr=0.005",
)
STILL = (
    *(f"task.augment.{name}=0" for name in ("flip_probability", "shift", "rotation")),
    *(f"task.augment.{name}=0" for name in ("brightness", "contrast", "saturation")),
    "task.augment.scale=[1,1]",
)


@pytest.fixture(scope="module")
def home(ray_session, tmp_path_factory):
    """A home with the recipes, and one's own people in data/own."""
    home = tmp_path_factory.mktemp("own")
    own_people.write(home / "pictures", PEOPLE, "cm")
    tiny.write_recipes(home)
    assert main(["folder", f"--path={home / 'pictures'}", *OPTIONS, f"--out={home / 'data' / 'own'}"]) == 0
    return home


def data(home):
    own = home / "data" / "own"
    return [f"data.{part}.{key}" for part in ("train", "test") for key in (f"path={own}", "people=null")]


def test_the_manifest_says_what_the_numbers_mean(home, capsys):
    manifest = read_manifest(Folder(str(home / "data" / "own")))
    assert (manifest.label_map, manifest.joints3d, manifest.rows) == ("lip", "kinect-25", PEOPLE)
    assert manifest.modalities["joints3d"] == manifest.modalities["parts"] == PEOPLE
    card = (home / "data" / "own" / "README.md").read_text()
    assert "| label map of parts | lip |" in card
    assert "| 3D joint set | kinect-25 |" in card


@pytest.mark.slow
def test_parsing_learns_the_parts_of_ones_own_label_map(home):
    done = tiny.call(home, "parsing-rgb", *data(home), *OVERFIT, *STILL, "task.class_weights=frequency", "steps=250")
    assert done.status == 0, done
    results = tiny.results(done.folder)
    scores = {row[0]: row[1] for row in results["per_class"]["rows"]}
    assert tuple(scores) == label_map("lip").parts
    assert results["test"]["metrics"]["mIoU_present"] > 0.6, results["test"]["metrics"]
    again = tiny.evaluate(home, "runs/parsing-rgb", str(home / "data" / "own"), "--threads", "1")
    assert again.status == 0, again
    assert tiny.results(again.folder)["metrics"] == pytest.approx(results["test"]["metrics"], abs=1e-6)
    facts = json.loads((done.folder / "model" / "config.json").read_text())
    assert facts["about"]["label_map"] == "lip"


@pytest.mark.slow
def test_pose_learns_ones_own_3d_joints(home):
    done = tiny.call(home, "pose", *data(home), *OVERFIT, "task.joints=kinect-25", "task.jitter=0", "steps=150")
    assert done.status == 0, done
    metrics = tiny.results(done.folder)["test"]["metrics"]
    assert metrics["acc_10cm"] > 0.6, metrics
