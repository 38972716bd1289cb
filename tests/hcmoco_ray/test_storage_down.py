"""What every program says, in one line and before it starts a cluster, when its store does not serve."""

import copy
import io
import socket
from contextlib import redirect_stderr, redirect_stdout

import pytest
import yaml

from hcmoco.errors import StorageError, UserError
from hcmoco.storage import Folder, join
from hcmoco_ray.cluster.entrypoint import find_line, find_user_error, main_wrapper
from hcmoco_ray.commands import evaluate, finetune, label_fractions, predict, prepare, pretrain, report, sweep
from hcmoco_ray.commands import versatility as versatility_program
from tests.helpers import finetune_program, pretrain_program, sweep_program


def said(main, *arguments: str) -> str:
    """The one line of an error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    assert status == 2, (out.getvalue(), err.getvalue())
    assert out.getvalue() == ""
    (line,) = err.getvalue().splitlines()
    return line


@pytest.fixture(scope="module")
def down() -> str:
    """A folder of a server that does not run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"s3://bucket/folder?endpoint_override=127.0.0.1:{free.getsockname()[1]}&scheme=http"


@pytest.fixture
def no_cluster(monkeypatch):
    """To join a cluster is an error of its own."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """Writes a recipe whose data lie in `tmp_path`."""
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db"}

    def write(values: dict, **over) -> str:
        path = tmp_path / f"{len(list(tmp_path.glob('*.yaml')))}.yaml"
        path.write_text(yaml.safe_dump({**copy.deepcopy(values), **over}))
        return str(path)

    write.tracking = tracking
    return write


def test_prepare(down, no_cluster, s3_environment):
    line = said(prepare.main, "people", "--out", down, "--count", "4")
    assert line.startswith(f"error: storage {down}: 127.0.0.1:")
    assert "does not answer" in line


def test_verify_does_not_advise_to_prepare_again(down, s3_environment):
    for uri in (down, join(down, "deeper")):
        line = said(prepare.main, "verify", uri)
        assert line.startswith(f"error: storage {uri}: 127.0.0.1:")
        assert "prepare" not in line


def test_pretrain(down, s3, no_cluster, recipes):
    recipe = recipes(pretrain_program.RECIPE, tracking=recipes.tracking)
    assert "does not answer" in said(pretrain.main, "--recipe", recipe, f"output_dir={down}")
    # The output is fine, one of the data sets is not.
    out = s3.uri("bucket/pretrain-down")
    line = said(pretrain.main, "--recipe", recipe, f"output_dir={out}", f"data.sources.wild.path={down}")
    assert line.startswith(f"error: storage {down}: 127.0.0.1:")
    missing = s3.uri("no-such-bucket/run")
    line = said(pretrain.main, "--recipe", recipe, f"output_dir={missing}")
    assert line.startswith(f"error: storage {missing}: the bucket no-such-bucket does not exist")
    assert Folder(out).sizes() == {}


def test_finetune(down, no_cluster, recipes, tmp_path):
    recipe = recipes({"name": "tiny", **finetune_program.RECIPES["parsing-rgb"]}, tracking=recipes.tracking)
    arguments = ["parsing-rgb", "--recipe", recipe]
    assert "does not answer" in said(finetune.main, *arguments, "init=scratch", f"output_dir={down}")
    for init in (down, join(down, "weights.pth")):
        line = said(finetune.main, *arguments, f"init={init}", f"output_dir={tmp_path}/run")
        assert line.startswith(f"error: storage {init}: 127.0.0.1:")


def test_evaluate_and_predict(down, no_cluster, s3_environment, tmp_path):
    assert "does not answer" in said(evaluate.main, down, "--data", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    arguments = [str(tmp_path), "--weights", down, "--out", str(tmp_path / "out")]
    assert "does not answer" in said(predict.main, *arguments)


def test_report(down, s3_environment):
    assert "does not answer" in said(report.main, down)
    assert "does not answer" in said(report.main, "results/people-cpu", "--out", down)


def test_sweep(down, no_cluster, recipes):
    recipe = recipes(sweep_program.RECIPE, tracking=recipes.tracking)
    path = recipes(sweep_program.SWEEP, recipe=recipe, output_dir=down)
    assert "does not answer" in said(sweep.main, "--sweep", path)


@pytest.mark.parametrize("key", ["output_dir", "results"])
def test_grids(down, no_cluster, recipes, tmp_path, key):
    recipe = recipes({"name": "tiny", **finetune_program.RECIPES["parsing-rgb"]})
    places = {"output_dir": str(tmp_path / "grid"), "results": str(tmp_path / "results"), key: down}
    grid = {
        "recipe": recipe,
        "baseline": "scratch",
        "inits": {"scratch": "scratch"},
        "tracking": recipes.tracking,
        "experiments": [{"tasks": ["parsing-rgb"], "labels": {"fraction": 1.0}, "seeds": [0]}],
    }
    assert "does not answer" in said(label_fractions.main, "--grid", recipes({**grid, **places}))
    overrides = [f"{name}={place}" for name, place in places.items()]
    overrides.append(f"tracking.uri={recipes.tracking['uri']}")
    assert "does not answer" in said(versatility_program.main, "init=scratch", *overrides)


@pytest.mark.parametrize("error", [StorageError("storage x: gone"), UserError("a mistake")])
def test_the_line_is_found_behind_other_errors(error, capsys):
    @main_wrapper
    def main() -> int:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("of a library") from cause

    assert main() == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_mistake_comes_before_a_store_and_only_a_mistake_ends_a_run_at_once():
    store, both = StorageError("gone"), StorageError("gone")
    both.__cause__ = UserError("a mistake")
    assert find_user_error(store) is None
    assert find_line(store) is store
    assert find_line(both) is both.__cause__
