"""Trials of several workers: the training of `pretrain.py`, and nothing held when they have ended, however they do."""

import contextlib
import io
import json

import psutil
import pytest
import yaml

from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import weights_digest
from tests.helpers import pretrain_program, sweep_program
from tests.helpers.waiting import CEILING, wait_until

PEOPLE = {"domain": "indoor", "size": 64}
TASK = {
    "name": "task",
    "output_dir": "runs/task",
    "task": {"size": 64},
    "encoder": {"name": "test_resnet"},
    "data": {
        "train": {"path": "data/train", "people": {**PEOPLE, "count": 16}},
        "test": {"path": "data/test", "people": {**PEOPLE, "count": 5, "seed": 2}},
    },
    "steps": 2,
    "num_evals": 1,
    "num_val_rows": 4,
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 2,
        "window_steps": 2,
        "workers": 2,
        "save_every": 1,
    },
}
TWO = {"train": {"lanes": 2, "batch_size_per_lane": 2, "workers": 2}}


@pytest.fixture(scope="module")
def home(ray_session, tmp_path_factory):
    home = tmp_path_factory.mktemp("workers")
    (home / "task.yaml").write_text(yaml.safe_dump(TASK))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCMOCO_HOME", str(home))
        yield home


def scored(home) -> dict:
    """A sweep of trials of two workers, which are scored by a fine-tuning of two workers."""
    labels = {"task": "parsing-rgb", "recipe": str(home / "task.yaml"), "labels": {"num_samples": 8}}
    return {"fixed": TWO, "num_trials": 1, "score": {"finetune": labels}}


@pytest.fixture(scope="module")
def swept(home):
    done = sweep_program.call(home, scored(home))
    assert done.status == 0, done
    return done


def assert_nothing_is_held() -> None:
    """No placement group is left, and every CPU is free; the driver of the sweep, this process, lives on."""
    import ray
    from ray.util import placement_group_table

    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], pause=0.1)
    assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}


@pytest.mark.long
@pytest.mark.slow
def test_a_trial_of_two_workers_is_the_training_of_pretrain(home, swept):
    """`best.yaml` is the trial's recipe: bit for bit the same weights, losses and probes."""
    (trial,) = swept.records.values()
    trained = pretrain_program.call(home, recipe=str(swept.folder / "best.yaml"))
    assert trained.status == 0, trained
    assert "in 2 lanes; batch norm and in-batch negatives see 2 of them" in trained.out
    weights = load_export(trained.folder.parent / "tiny-best/export").encoder("rgb")
    assert trial["finetuning"]["init"]["digest"] == weights_digest(weights)
    state = pretrain_program.newest(trained.folder.parent / "tiny-best")
    assert trial["metrics"] == state.history["after stage 2"]["metrics"]
    (run,) = [run for run in sweep_program.runs(swept.folder) if "hcmoco.trial" in run.data.tags]
    assert run.data.params["train.workers"] == "2"
    expected = pretrain_program.numbers(trained.folder.parent / "tiny-best")
    for name in ("train/loss", "train/level/d", "probe/dense_different_crops/mean"):
        assert sweep_program.points(swept.folder, run.info.run_id, name) == expected[name]
    assert_nothing_is_held()


@pytest.mark.long
@pytest.mark.slow
def test_its_fine_tuning_of_two_workers_is_that_of_finetune(home, swept):
    from hcmoco_ray.commands import finetune

    (trial,) = swept.records.values()
    assert pretrain_program.call(home, recipe=str(swept.folder / "best.yaml")).status == 0
    command = ["parsing-rgb", "--recipe", str(home / "task.yaml"), "init=runs/tiny-best", "num_samples=8", "seed=0"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert finetune.main(command) == 0
    results = json.loads((home / "runs/task/results.json").read_text())
    assert trial["finetuning"]["test"] == results["test"]
    assert trial["finetuning"]["evals"] == results["evals"]


@pytest.mark.long
@pytest.mark.slow
def test_twenty_trials_give_back_all_that_they_held(home):
    """Two at a time; some are stopped early, and some fail: with a learning rate of 1e30 nothing stays finite."""
    over = {
        "fixed": TWO,
        "num_trials": 20,
        "method": "asha",
        "early_stopping": {"first": 2, "factor": 2},
        "space": {"optim.lr": {"choice": [1e-8, 1e-5, 0.004, 0.01, 1.0e30]}},
        "output_dir": "runs/twenty",
    }
    done = sweep_program.call(home, over)
    assert done.status == 0, done
    assert "2 at a time with 2 workers each" in done.out
    statuses = [each["status"].partition(":")[0] for each in done.records.values()]
    assert len(statuses) == 20
    assert set(statuses) == {"done", "stopped", "failed"}, statuses
    assert all("lower optim.lr" in each["status"] for each in done.records.values() if each["score"] is None)
    assert_nothing_is_held()


@pytest.mark.long
@pytest.mark.slow
def test_a_lost_worker_starts_its_trial_again(home, swept, tmp_path):
    """The other worker is killed after the first state: the trial goes on from there, to the same result."""
    process = sweep_program.start(tmp_path, {**scored(home), "fixed": {**TWO, "max_restarts": 1}})
    work = tmp_path / "runs/sweep/work/0000"
    wait_until(lambda: list(work.glob("states-0/*/COMPLETE")), process, pause=0.01)
    (worker,) = [each for each in psutil.Process(process.pid).children(recursive=True) if _is_worker(each)]
    worker.kill()
    _, said = process.communicate(timeout=CEILING)
    assert process.returncode == 0, said
    after = json.loads((tmp_path / "runs/sweep/trials/0000.json").read_text())
    (before,) = swept.records.values()
    assert len(after["starts"]) == 2
    assert after["starts"][1]["step"] > 0
    for key in ("score", "metrics", "reports"):
        assert after[key] == before[key]
    assert after["finetuning"]["init"]["digest"] == before["finetuning"]["init"]["digest"]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == ["ray::_Worker.run"]
    except (psutil.Error, IndexError):
        return False
