"""A folder with its SQLite store that is moved or copied keeps its artifacts beside the store."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from hcmoco_ray.tracking.client import Tracker, open_writer, start_run
from hcmoco_ray.tracking.config import TrackingConfig
from tests.helpers import pretrain_program


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
    from mlflow import MlflowClient

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
