"""Folders of runs that are moved or copied: with an SQLite store inside, and with a store that they share."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from hcmoco.config import build
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.tracking.client import Tracker, open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig
from hcmoco_ray.train import run_dir
from tests.helpers import pretrain_program
from tests.helpers.mlflow_server import MlflowServer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def continued(out: Path, run_id: str | None = None, text: str = "first", config=None) -> Tracker:
    """A run, or more of it, that has written one artifact."""
    _artifact_repos_cache.clear()  # by the run's id: programs that go on with a run are other processes
    tracker = start_run(open_writer(config or TrackingConfig(), out, actor=False), run_id=run_id)
    tracker.text("notes/note.txt", text)
    tracker.finish()
    return tracker


@pytest.fixture
def original(tmp_path) -> tuple[Path, str]:
    """A folder whose name MLflow might take for a URI's, and the id of its run."""
    out = tmp_path / "a run, 100 %"
    return out, continued(out).run_id


def test_a_copy_leaves_the_original_alone(tmp_path, original):
    out, run_id = original
    shutil.copytree(out, tmp_path / "copy")
    before = contents(out)
    tracker = continued(tmp_path / "copy", run_id, "second")
    assert contents(out) == before
    note = tmp_path / "copy" / "mlartifacts" / run_id / "artifacts" / "notes" / "note.txt"
    assert note.read_text() == "second"
    assert continued(tmp_path / "copy").run_id != run_id  # a new run, in the same experiment
    assert contents(out) == before
    _artifact_repos_cache.clear()
    local = tracker.writer.client.download_artifacts(run_id, "notes/note.txt", str(tmp_path))
    assert Path(local).read_text() == "second"


def test_the_old_place_of_a_moved_folder_is_not_needed(tmp_path, original):
    out, run_id = original
    out.rename(tmp_path / "moved")
    out.write_text("no folder can be made here")
    continued(tmp_path / "moved", run_id, "second")
    assert next((tmp_path / "moved").rglob("note.txt")).read_text() == "second"
    (tmp_path / "moved").rename(tmp_path / "moved again")
    continued(tmp_path / "moved again", run_id, "third")
    assert next((tmp_path / "moved again").rglob("note.txt")).read_text() == "third"


def test_a_store_of_an_earlier_version_is_known_by_the_artifacts_that_came_along(tmp_path, original):
    out, run_id = original
    with sqlite3.connect(out / "mlflow.db") as store:
        store.execute("DELETE FROM experiment_tags WHERE key = 'hcmoco.artifacts'")
    store.close()
    shutil.copytree(out, tmp_path / "copy")
    before = contents(out)
    continued(tmp_path / "copy", run_id, "second")
    assert contents(out) == before


def test_a_place_that_somebody_chose_stays(tmp_path):
    chosen = tmp_path / "big disk" / "mlartifacts"
    uri = f"sqlite:///{tmp_path / 'own.db'}"
    MlflowClient(uri).create_experiment("theirs", artifact_location=str(chosen))
    tracker = continued(tmp_path, config=TrackingConfig(uri=uri, experiment="theirs"))
    continued(tmp_path, tracker.run_id, config=TrackingConfig(uri=uri, experiment="theirs"))
    assert (chosen / tracker.run_id / "artifacts" / "notes" / "note.txt").exists()


@pytest.mark.slow
def test_a_run_goes_on_in_a_copy_and_in_another_place(ray_session, tiny_home):
    out, copy, moved = (tiny_home / "runs" / name for name in ("original", "copy", "moved"))
    with pretrain_program.interrupted_at(out / "states" / "step-00000002" / "COMPLETE"):
        assert pretrain_program.call(tiny_home, "output_dir=runs/original").status == 130
    shutil.copytree(out, copy)
    before = contents(out)
    done = pretrain_program.call(tiny_home, "output_dir=runs/copy")
    assert done.status == 0, done
    assert "resuming from step" in done.out
    assert contents(out) == before
    [run] = pretrain_program.tracked(copy)
    assert {"config.yaml", "table.md", "export/config.json"} <= run["artifacts"]
    assert (copy / "mlartifacts" / run["id"] / "artifacts" / "table.md").is_file()

    out.rename(moved)
    out.write_text("no folder can be made here")
    for _ in range(2):  # resumed, then reported
        done = pretrain_program.call(tiny_home, "output_dir=runs/moved")
        assert done.status == 0, done
    assert f"{moved} is finished" in done.out
    [same] = pretrain_program.tracked(moved)
    assert same["status"] == "FINISHED"
    assert {"config.yaml", "table.md", "export/config.json"} <= same["artifacts"]
    assert str(out) + "/" not in (moved / "config.yaml").read_text()


def recipe(store: str | None, out: Path) -> PretrainRecipe:
    values = {**pretrain_program.RECIPE, "output_dir": str(out), "tracking": {"uri": store} if store else {}}
    return build(PretrainRecipe, values, "recipe")


def begun(config: PretrainRecipe):
    """The writer of a store that several folders share, and the run that the folder of `config` has there."""
    writer = open_writer(config.tracking, config.output_dir, actor=False)
    tracker = start_run(writer, tags={run_dir.OUT: config.output_dir})
    run_dir.save_config(config, tracker)
    return writer, tracker.run_id


def test_a_copy_has_a_run_of_its_own_in_a_store_that_it_shares(tmp_path, capsys):
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    out, copy = tmp_path / "original", tmp_path / "copy"
    writer, run_id = begun(recipe(store, out))
    shutil.copytree(out, copy)
    assert run_dir.saved_run_id(recipe(store, copy), None, recipe(store, out)) == run_id
    assert run_dir.own_run_id(writer, recipe(store, copy), run_id) is None
    assert capsys.readouterr().out.startswith(f"{copy} is a copy of {out}, which has the tracking run {run_id}: ")
    assert run_dir.own_run_id(writer, recipe(store, out), run_id) == run_id
    assert run_dir.own_run_id(writer, recipe(store, copy), None) is None
    (tmp_path / "other name").symlink_to(out)
    assert run_dir.own_run_id(writer, recipe(store, tmp_path / "other name"), run_id) == run_id
    assert not capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "run.json"]

    out.rename(tmp_path / "moved")
    assert run_dir.own_run_id(writer, recipe(store, tmp_path / "moved"), run_id) == run_id
    assert f"was begun for {out}, where it is not found any more: it continues here" in capsys.readouterr().out
    begun(recipe(store, out))  # the old place has another run by now
    assert run_dir.own_run_id(writer, recipe(store, tmp_path / "moved"), run_id) == run_id


def test_a_store_that_came_along_is_the_copys_own(tmp_path, capsys):
    out, copy = tmp_path / "original", tmp_path / "copy"
    _, run_id = begun(recipe(None, out))
    shutil.copytree(out, copy)
    writer = open_writer(TrackingConfig(), copy, actor=False)
    assert run_dir.own_run_id(writer, recipe(None, copy), run_id) == run_id
    assert not capsys.readouterr().out


@pytest.mark.long
@pytest.mark.slow
def test_a_run_with_a_server_is_copied_and_moved(ray_session, tiny_home, tmp_path):
    out, copy, moved = (tiny_home / "runs" / f"served {name}" for name in ("original", "copy", "moved"))
    with MlflowServer(tmp_path) as server:

        def call(folder: Path) -> str:
            done = pretrain_program.call(tiny_home, f"output_dir='runs/{folder.name}'", f"tracking.uri={server.uri}")
            assert done.status == 0, done
            return done.out

        def run_of(folder: Path) -> str:
            noted = json.loads((folder / "run.json").read_text())["run_id"]
            assert noted == pretrain_program.newest(folder).tracking_run
            return noted

        with pretrain_program.interrupted_at(out / "states" / "step-00000002" / "COMPLETE"):
            arguments = f"output_dir='runs/{out.name}'", f"tracking.uri={server.uri}"
            assert pretrain_program.call(tiny_home, *arguments).status == 130
        first = run_of(out)
        shutil.copytree(out, copy)
        assert f"{copy} is a copy of {out}, which has the tracking run {first}: " in call(copy)
        assert run_of(copy) != first
        assert "tracking run" not in call(out)
        assert run_of(out) == first
        for folder in (copy, out):  # each has its own by now
            (folder / "FINISHED").unlink()
            before = run_of(folder)
            assert "tracking run" not in call(folder)
            assert run_of(folder) == before
        out.rename(moved)
        assert f"the tracking run {first} was begun for {out}" in call(moved)
        assert run_of(moved) == first

        client = MlflowClient(server.uri)
        runs = client.search_runs([client.get_experiment_by_name("hcmoco").experiment_id])
        assert {each.info.run_id: each.data.tags["hcmoco.out"] for each in runs} == {
            first: str(moved),
            run_of(copy): str(copy),
        }
        for run, begins in ((first, 1), (run_of(copy), 3)):
            assert [point.step for point in client.get_metric_history(run, "train/loss")] == list(range(begins, 7))
