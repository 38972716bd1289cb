"""The programs with everything on a real S3 server whose endpoint is in the URIs: data, states, exports, results."""

import copy
import io
import json
import uuid
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
import yaml

from hcmoco.export import load_export
from hcmoco.storage import Folder, join
from hcmoco.training.checkpoint import States
from hcmoco_ray.commands import evaluate, finetune, label_fractions, prepare, pretrain, report, sweep
from tests.helpers import finetune_program, pretrain_program, sweep_program

pytestmark = pytest.mark.slow

_SHORT = {"stage1_steps": 1, "stage2_steps": 1}


def call(main, *arguments: str) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def ended(main, *arguments: str) -> str:
    done = call(main, *arguments)
    assert done.status == 0, done
    return done.out


class Place:
    """A folder of the server, and the recipes of programs that keep everything in it."""

    def __init__(self, server, home):
        self.root, self.home = server.uri(f"bucket/{uuid.uuid4().hex}"), home
        self.tracking = {"uri": f"sqlite:///{home}/mlflow.db"}

    def uri(self, *names: str) -> str:
        return join(self.root, *names)

    def write(self, name: str, values: dict) -> str:
        path = self.home / name
        path.write_text(yaml.safe_dump(self._moved(copy.deepcopy(values)), sort_keys=False))
        return str(path)

    def _moved(self, values):
        if not isinstance(values, dict):
            return values
        return {
            key: self.uri(value) if key in ("path", "output_dir") and "://" not in value else self._moved(value)
            for key, value in values.items()
        }


@pytest.fixture(scope="module")
def place(ray_session, s3, tmp_path_factory):
    return Place(s3, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def recipe(place):
    values = {**pretrain_program.RECIPE, "stages": _SHORT, "tracking": place.tracking}
    values["train"] = {**values["train"], "save_every": 1}
    return place.write("tiny.yaml", {**values, "probe": {**values["probe"], "every": 0}})


@pytest.fixture(scope="module")
def pretrained(place, recipe):
    """The URI of a finished pre-training of one worker, and what it printed."""
    return place.uri("runs/tiny"), ended(pretrain.main, "--recipe", recipe)


def test_prepare_and_verify(place):
    uri = place.uri("data/some people")
    arguments = ["people", "--out", uri, "--count", "24", "--size", "64"]
    assert f"{uri}: prepared, 24 rows" in ended(prepare.main, *arguments)
    assert f"{uri}: already prepared" in ended(prepare.main, *arguments)
    assert "whole, 24 rows" in ended(prepare.main, "verify", uri)
    assert set(Folder(uri).sizes()) == {"part-00000.parquet", "README.md", "manifest.json"}
    data = bytearray(Folder(uri).read("part-00000.parquet"))
    data[len(data) // 2] ^= 1
    Folder(uri).write("part-00000.parquet", bytes(data))
    damaged = call(prepare.main, "verify", uri)
    assert damaged.status == 2
    assert "SHA-256 differs" in damaged.err


def test_a_run_leaves_everything_in_its_folder(pretrained):
    uri, out = pretrained
    assert Folder(uri).folders() == ["export", "states"]
    assert set(Folder(uri).sizes()) == {"config.yaml", "run.json", "table.md", "FINISHED"}
    assert Folder(join(uri, "states")).folders() == ["step-00000001", "step-00000002"]
    assert join(uri, "export") in out
    assert load_export(join(uri, "export")).training["steps"] == 2


def test_a_run_resumes_to_the_same_bits(pretrained, recipe, one_thread):
    uri, _ = pretrained
    states = States(join(uri, "states"))
    before = states.newest()
    folder = Folder(uri)
    folder.delete("FINISHED")
    folder.delete_folder("states/step-00000002")
    folder.delete_folder("export")
    assert "resuming from step 1 of 2" in ended(pretrain.main, "--recipe", recipe)
    assert pretrain_program.differences(before, states.newest()) == []
    assert load_export(join(uri, "export")).training["steps"] == 2


@pytest.mark.long
def test_two_workers(place, recipe, pretrained):
    uri = place.uri("runs/two")
    ended(pretrain.main, "--recipe", recipe, "train.workers=2", f"output_dir={uri}")
    assert States(join(uri, "states")).newest_step == 2


def _finetune_recipe(place) -> str:
    values = {**finetune_program.RECIPES["parsing-rgb"], "steps": 2, "num_evals": 1, "tracking": place.tracking}
    return place.write("finetune.yaml", {"name": "tiny", **values})


def test_finetune_from_the_export_and_evaluate(place, pretrained):
    uri, weights = pretrained[0], place.uri("runs/parsing")
    arguments = ["parsing-rgb", "--recipe", _finetune_recipe(place), f"init={uri}", f"output_dir={weights}"]
    out = ended(finetune.main, *arguments)
    assert f"rgb encoder of {join(uri, 'export')}" in out
    results = json.loads(Folder(weights).read("results.json"))
    data = place.uri("data/people-test")
    ended(evaluate.main, weights, "--data", data)
    scored = json.loads(Folder(weights).read("model/evaluations/people-test/results.json"))
    assert scored["metrics"] == pytest.approx(results["test"]["metrics"], nan_ok=True)
    again = ended(finetune.main, *arguments)
    assert f"{weights} is finished" in again


@pytest.mark.long
def test_a_grid_and_its_report(place, pretrained):
    grid = {
        "recipe": _finetune_recipe(place),
        "output_dir": "grid",
        "tracking": place.tracking,
        "baseline": "scratch",
        "inits": {"scratch": "scratch", "pretrained": pretrained[0]},
        "experiments": [{"tasks": ["parsing-rgb"], "labels": {"fraction": 1.0}, "seeds": [0]}],
    }
    out, uri = ended(label_fractions.main, "--grid", place.write("grid.yaml", grid)), place.uri("grid")
    assert f"results {join(uri, 'experiments')} (2 of 2)" in out
    index = json.loads(Folder(uri).read("label_fractions.json"))
    assert [line["status"] for line in index["experiments"]] == ["done", "done"]
    assert Folder(join(uri, "work")).folders() == []
    ended(report.main, uri)
    assert b"</html>" in Folder(uri).read("index.html")


@pytest.mark.long
def test_a_sweep(place):
    sources = {"sources": {"indoor": {**sweep_program.RECIPE["data"]["sources"]["indoor"], "path": "data/swept"}}}
    held_out = {"held_out": {**sweep_program.RECIPE["data"]["held_out"], "path": "data/swept-held-out"}}
    values = {**sweep_program.RECIPE, "data": {**sources, **held_out}, "stages": _SHORT, "tracking": place.tracking}
    values["recipe"] = place.write("swept.yaml", values)
    path = place.write("sweep.yaml", {**sweep_program.SWEEP, "num_trials": 2, "recipe": values["recipe"]})
    out, uri = ended(sweep.main, "--sweep", path), place.uri("runs/sweep")
    assert sorted(Folder(uri).sizes("trials")) == ["0000.json", "0001.json"]
    assert Folder(join(uri, "work")).folders() == []
    best = join(uri, "best.yaml")
    assert best in out
    # What the sweep prints is a command that runs.
    ended(pretrain.main, "--recipe", best, f"output_dir={place.uri('runs/best')}")
