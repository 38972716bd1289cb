"""Sweeps through the program itself: what they leave, and what kills and mistakes change."""

import json
import signal

import psutil
import pytest
import yaml

from tests.helpers import sweep_program
from tests.helpers.started import Started
from tests.helpers.waiting import CEILING, wait_until

SWEPT = {
    "space": {"objective.lambda_d": {"loguniform": [0.1, 10]}, "optim.lr": {"choice": [0.004, 1.0e30]}},
    "seed": 1,
    "registered_model": {"name": "tiny-encoders"},
}
PBT = {"method": "pbt", "population": {"every": 2, "quantile": 0.5, "resample": 0}, "num_trials": 4}


@pytest.fixture(scope="module")
def home(ray_session, tmp_path_factory):
    """HCMOCO_HOME of these tests; the first sweep makes the people."""
    home = tmp_path_factory.mktemp("sweeps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCMOCO_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def swept(home):
    """A sweep of which one trial fails: with a learning rate of 1e30 nothing stays finite."""
    done = sweep_program.call(home, SWEPT)
    assert done.status == 0, done
    return done


def test_every_trial_has_its_end(swept):
    records = swept.records
    assert sorted(records) == [0, 1, 2]
    failed = [each for each in records.values() if each["values"]["optim.lr"] > 1]
    fine = [each for each in records.values() if each["values"]["optim.lr"] < 1]
    assert failed, "choose another seed"
    assert fine, "choose another seed"
    for each in failed:
        assert each["status"].startswith("failed: ")
        assert each["score"] is None
        assert "\n" not in each["status"]
        assert "lower optim.lr" in each["status"]
    for each in fine:
        assert (each["status"], each["steps"]) == ("done", 6)
        assert each["score"] == each["metrics"]["dense_different_crops/mean"]
        assert [step for step, _ in each["reports"]] == [2, 4]
        assert [start["step"] for start in each["starts"]] == [0]
    assert not any((swept.folder / "work").iterdir())
    assert not (swept.folder / "ray").exists()
    assert f"{len(failed)} of 3 trials failed" in swept.out


def test_the_best_trial_is_a_recipe_that_pretrain_takes(swept):
    from hcmoco.config import load_recipe
    from hcmoco_ray import config as run_config
    from hcmoco_ray.config import PretrainRecipe

    best = max((each for each in swept.records.values() if each["score"] is not None), key=lambda each: each["score"])
    config = run_config.load(PretrainRecipe, str(swept.folder / "best.yaml"), [])
    assert config.objective.lambda_d == best["values"]["objective.lambda_d"]
    assert config.optim.lr == best["values"]["optim.lr"]
    assert load_recipe(swept.folder / "best.yaml")["output_dir"] == "runs/tiny-best"
    assert (
        (swept.folder / "table.md")
        .read_text()
        .splitlines()[2]
        .startswith(f"| {best['number']:04d} | {best['score']:.2f} |")
    )
    assert (swept.folder / "response.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_trial_s_encoders_are_registered_under_the_alias(swept):
    from mlflow import MlflowClient

    from hcmoco.export import load_export

    fine = [each for each in swept.records.values() if each["score"] is not None]
    best = max(fine, key=lambda each: each["score"])
    folder = swept.folder / "exports" / f"{best['number']:04d}"
    assert [each.name for each in (swept.folder / "exports").iterdir()] == [folder.name]  # beaten trials leave none
    export = load_export(folder)
    assert (export.training["score"], export.training["trial"]) == (best["score"], best["number"])

    client = MlflowClient(f"sqlite:///{swept.folder / 'mlflow.db'}")
    version = client.get_model_version_by_alias("tiny-encoders", "best")
    run = client.get_run(version.run_id)
    assert run.data.tags["hcmoco.trial"] == f"{best['number']:04d}"
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.source_run_id, model.artifact_location) == (version.run_id, version.source)
    assert model.tags["hcmoco.uri"] == str(folder)
    measured = {each.key: (each.value, each.dataset_name) for each in model.metrics}
    assert measured["score"] == (best["score"], "held-out")
    for name, value in best["metrics"].items():
        assert measured[f"after-stage-2/{name}"] == (value, "held-out")
    assert f"model   models:/tiny-encoders@best (version {version.version}: trial {folder.name}" in swept.out
    assert len(client.search_model_versions("name = 'tiny-encoders'")) == 1


def test_trials_are_nested_runs(swept):
    runs = sweep_program.runs(swept.folder)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["hcmoco.trial"]: run for run in runs if run is not parent}
    assert sorted(children) == ["0000", "0001", "0002"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    for number, record in swept.records.items():
        run = children[f"{number:04d}"]
        assert float(run.data.params["objective.lambda_d"]) == record["values"]["objective.lambda_d"]
        assert run.info.status == ("FINISHED" if record["status"] == "done" else "FAILED")
        if record["status"] == "done":
            assert run.data.metrics["score"] == record["score"]
            assert [step for step, _ in sweep_program.points(swept.folder, run.info.run_id, "train/loss")] == list(
                range(1, 7)
            )


def test_the_same_command_again_repeats_nothing(swept, home):
    before = {path: path.stat().st_mtime_ns for path in (swept.folder / "trials").iterdir()}
    again = sweep_program.call(home, SWEPT, "train.precision=auto")  # which the sweep has decided when it began
    assert again.status == 0, again
    assert "3 trials of 6 steps in float32, 3 finished, 0 to resume, 0 new" in again.out
    assert {path: path.stat().st_mtime_ns for path in (swept.folder / "trials").iterdir()} == before
    assert len(sweep_program.runs(swept.folder)) == 4
    other = sweep_program.call(home, {**SWEPT, "seed": 0})
    assert other.status == 2
    assert "another config: sweep.seed was 1, now 0" in other.err


def test_a_tracking_run_that_a_kill_left_open_is_closed(swept, home):
    """Killed right after a trial's record was written: its run in the store has no end yet."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{swept.folder / 'mlflow.db'}")
    for run in sweep_program.runs(swept.folder):
        client.update_run(run.info.run_id, status="RUNNING")
    assert sweep_program.call(home, SWEPT).status == 0
    expected = {
        f"{number:04d}": "FAILED" if each["score"] is None else "FINISHED" for number, each in swept.records.items()
    }
    ended = {run.data.tags.get("hcmoco.trial"): run.info.status for run in sweep_program.runs(swept.folder)}
    assert ended == {**expected, None: "FINISHED"}


@pytest.mark.parametrize(
    ("over", "arguments", "message"),
    [
        ({"space": {"objective.lambda_x": {"uniform": [0, 1]}}}, (), "unknown key 'objective.lambda_x'"),
        (
            {"space": {"objective.tau_g": {"uniform": [0, 1]}}},
            (),
            "space.objective.tau_g: objective.tau_g = 0.0: ",
        ),
        ({"space": {"output_dir": {"choice": ["a"]}}}, (), "space.output_dir: all trials of a sweep share output_dir"),
        (
            {"space": {"model.joint_set": {"choice": ["mpii-16"]}}},
            (),
            "; what can vary: seed, objective.*, optim.*, stages.*, model.* but",
        ),
        ({"space": {"train.workers": {"choice": [1]}}}, (), "all trials have the same workers: set train.workers in"),
        ({"fixed": {"train": {"lanes": 2, "workers": [1, 2]}}}, (), "different numbers of workers cannot be compared"),
        (
            {"fixed": {"train": {"lanes": 8, "workers": 8}}},
            (),
            "a trial has 8 workers, each of which asks for 1 CPU of one node; the 1 node of the cluster "
            "can hold 4 of them; lower train.workers, --cpus or --gpus, or add nodes",
        ),
        ({"fixed": {"train": {"lanes": 2, "workers": 2}}}, ("--gpus=0.5",), "need whole GPUs"),
        ({"space": {"optim.name": {"choice": ["sgd"]}}, **PBT}, (), "pbt changes values during the training"),
        ({"method": "pbt"}, (), "needs population"),
        ({"method": "asha"}, (), "needs early_stopping"),
        ({"method": "asha", "early_stopping": {"first": 6}}, (), "compared after 6 steps"),
        (
            {"score": {"probe": "dense/mean"}},
            (),
            "score.probe = 'dense/mean' is not a metric of the probe; allowed are retrieval_same_crop/",
        ),
        ({"score": {"finetune": {"task": "parsing", "labels": {}}}}, (), "'parsing' is not a task"),
        (
            {},
            ("--cpus", "99"),
            "a trial asks for 99 CPUs of one node; no node of the cluster has more than 4 CPUs and 0 GPUs",
        ),
        ({}, ("--gpus=1",), "lower --cpus or --gpus"),
        ({}, ("--threads=0",), "--threads 0: must be more than 0"),
        ({}, ("optim.lr=-1",), "sweep.yaml: optim.lr = -1: "),
        ({"trial": 3}, (), "unknown key 'trial'"),
    ],
)
def test_a_mistake_is_one_line(swept, home, over, arguments, message):
    done = sweep_program.call(home, {"output_dir": "runs/mistake", **over}, *arguments)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (done.folder / "sweep.json").exists()


@pytest.mark.long
@pytest.mark.slow
def test_early_stopping_ends_trials(swept, home):
    stopping = {
        "method": "asha",
        "early_stopping": {"first": 2, "factor": 2},
        "num_trials": 6,
        "output_dir": "runs/asha",
    }
    done = sweep_program.call(home, {**stopping, "space": {"optim.lr": {"loguniform": [1e-8, 0.01]}}})
    assert done.status == 0, done
    records = done.records
    assert len(records) == 6
    stopped = [each for each in records.values() if each["status"] == "stopped"]
    assert stopped
    assert all(each["steps"] in (2, 4) for each in stopped)
    assert any(each["status"] == "done" for each in records.values())
    assert {run.info.status for run in sweep_program.runs(done.folder)} == {"FINISHED"}
    assert "hcmoco.stopped" in {tag for run in sweep_program.runs(done.folder) for tag in run.data.tags}


@pytest.mark.slow
def test_a_trial_that_fails_before_its_first_report_ends_alone(home):
    """Where trials are compared, too: nothing of it is there to compare."""
    over = {"method": "asha", "early_stopping": {"first": 2, "factor": 2}, "num_trials": 1}
    done = sweep_program.call(home, {**over, "space": {"optim.lr": {"choice": [1.0e30]}}, "output_dir": "runs/fails"})
    assert done.status == 1, done
    (trial,) = done.records.values()
    assert trial["reports"] == []
    assert "lower optim.lr" in trial["status"]
    assert "1 of 1 trials failed" in done.out


@pytest.mark.long
@pytest.mark.slow
def test_a_population_exchanges_states_and_says_so(swept, home):
    # At the lowest rates nothing is learned: such a trial resumes from another's state.
    space = {"optim.lr": {"loguniform": [1e-7, 0.01]}, "objective.lambda_d": {"uniform": [0.5, 2]}}
    done = sweep_program.call(
        home, {**PBT, "space": space, "output_dir": "runs/pbt", "fixed": {"stages": {"stage2_steps": 10}}}
    )
    assert done.status == 0, done
    records = done.records
    assert {each["status"] for each in records.values()} == {"done"}
    moved = [each for each in records.values() if each["generation"]]
    assert moved, "no trial resumed from another's state"
    for each in records.values():
        schedule = each["schedule"]
        assert schedule[-1]["values"] == each["values"]
        assert [entry["step"] for entry in schedule] == sorted(entry["step"] for entry in schedule)
        assert 1e-7 <= each["values"]["optim.lr"] <= 0.01
    for each in moved:
        donor = each["schedule"][-1]["from"]
        assert donor != each["number"]
        # Perturbed from the donor's values of that time.
        was, now = each["schedule"][-2]["values"]["optim.lr"], each["values"]["optim.lr"]
        assert any(abs(now - factor * was) < 1e-3 * was for factor in (0.8, 1.2)) or now in (1e-7, 0.01)


@pytest.mark.slow
def test_a_fine_tuning_is_the_score(swept, home):
    people = {"domain": "indoor", "size": 64}
    data = {
        "train": {"path": "data/train", "people": {**people, "count": 16}},
        "test": {"path": "data/test", "people": {**people, "count": 4, "seed": 2}},
    }
    task = {
        "name": "t",
        "output_dir": "x",
        "task": {"size": 64},
        "data": data,
        "steps": 2,
        "num_evals": 1,
        "num_val_rows": 4,
    }
    (home / "task.yaml").write_text(
        yaml.safe_dump(
            {**task, "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 4, "window_steps": 2}}
        )
    )
    score = {"finetune": {"task": "parsing-rgb", "recipe": str(home / "task.yaml"), "labels": {"num_samples": 5}}}
    done = sweep_program.call(
        home, {"score": score, "num_trials": 2, "output_dir": "runs/scored", "method": "optuna", "num_random_trials": 1}
    )
    assert done.status == 0, done
    for each in done.records.values():
        cell = each["finetuning"]
        assert each["score"] == 100 * cell["test"]["metrics"]["mIoU"]
        assert cell["labels"]["rows"] == 5
        assert "stage 2, 6 steps" in cell["init"]["text"]
        assert cell["init"]["digest"]
    assert len({each["finetuning"]["init"]["digest"] for each in done.records.values()}) == 2
    assert "parsing-rgb (num_samples 5) mIoU" in done.out


@pytest.mark.slow
def test_held_out_people_who_are_trained_on_are_told_of_once(swept, home):
    held_out = ("data.held_out.path=data/./indoor/", "data.held_out.people=null")
    done = sweep_program.call(home, {"num_trials": 2, "output_dir": "runs/known"}, *held_out)
    assert done.status == 0, done
    (line,) = (line for line in done.out.splitlines() if line.startswith("warning:"))
    assert line.startswith("warning: data.held_out is the same data as data.sources.indoor: the scores say how well it")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("method", ["optuna", "pbt"])
def test_a_killed_sweep_goes_on(tmp_path, method):
    """Driver and Ray are killed; finished trials stay, the others resume from their state in their own tracking run."""
    over = {
        "fixed": {"stages": {"stage2_steps": 10}},
        "num_trials": 4,
        "space": {"optim.lr": {"loguniform": [0.001, 0.01]}},
    }
    over |= (
        {"method": "optuna", "num_random_trials": 2}
        if method == "optuna"
        else {**PBT, "population": {"every": 4, "quantile": 0.25}}
    )
    folder = tmp_path / "runs" / "sweep"

    def under_way() -> bool:
        over = {path.stem for path in folder.glob("trials/*.json")}
        reports = [
            len(_progress(path)["reports"])
            for path in folder.glob("work/*/progress.json")
            if path.parent.name not in over
        ]
        return bool(over) and any(count >= 2 for count in reports)

    process = sweep_program.start(tmp_path, over)
    wait_until(under_way, process, pause=0.02)
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()
    finished = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("trials/*.json")}
    half = {path.parent.name: _progress(path) for path in folder.glob("work/*/progress.json")}
    half = {name: each for name, each in half.items() if name not in {path.stem for path in finished}}

    process = sweep_program.start(tmp_path, over)
    out, err = process.communicate(timeout=CEILING)
    assert process.returncode == 0, err
    assert f"{len(finished)} finished" in out
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished} == finished
    records = {path.stem: json.loads(path.read_text()) for path in folder.glob("trials/*.json")}
    assert len(records) == 4
    for name, before in half.items():
        after = records[name]
        assert after["starts"][: len(before["starts"])] == before["starts"]
        assert after["reports"][: len(before["reports"])] == before["reports"]
        if len(before["reports"]) >= 2:
            assert after["starts"][len(before["starts"])]["step"] >= before["reports"][-2][0]
    runs = sweep_program.runs(folder)
    assert len(runs) == 5
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if trial := run.data.tags.get("hcmoco.trial"):
            assert [step for step, _ in sweep_program.points(folder, run.info.run_id, "train/loss")] == list(
                range(1, records[trial]["steps"] + 1)
            )


def _progress(path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:  # just deleted: it is over
        return {"reports": [], "starts": []}


@pytest.mark.long
@pytest.mark.slow
def test_a_signal_ends_the_trials_and_the_next_start_goes_on_with_them(tmp_path):
    path = sweep_program.write(tmp_path, {"num_trials": 2, "fixed": {"stages": {"stage1_steps": 5000}}})
    program = Started("tuning/sweep.py", "--sweep", str(path), HCMOCO_HOME=str(tmp_path))
    folder = tmp_path / sweep_program.SWEEP["output_dir"]
    program.until(lambda: any(_progress(each)["reports"] for each in folder.glob("work/*/progress.json")))
    status, said = program.stop(signal.SIGTERM)
    assert status == 143
    assert said.endswith("\nstopped; the same command resumes from what is saved\n")
    assert {run.info.status for run in sweep_program.runs(folder)} == {"KILLED"}
    assert list(folder.glob("work/*/values.json"))
