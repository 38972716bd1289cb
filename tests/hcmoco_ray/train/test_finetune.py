"""Fine-tuning and evaluation from the command line: each task to the end, again, from each init, and scored again."""

import re
import subprocess
import sys

import pytest
import torch
import yaml

from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import weights_digest
from hcmoco.finetuning.saved_model import load_model
from hcmoco.license_terms import SYNTHETIC
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco_ray.config import FinetuneRecipe, load
from tests.helpers import finetune_program as tiny
from tests.helpers.pretrain_program import PROGRESS, ROOT, logged, newest, numbers, tracked, tree
from tests.helpers.tolerances import assert_figures_close

QUIET = rf"{PROGRESS}|scoring|$"
PERSON_TASKS = ("parsing-rgb", "parsing-depth", "pose")
MAIN = {"parsing-rgb": "mIoU", "parsing-depth": "mIoU", "pose": "acc_10cm", "densepose": "gps_ap"}


@pytest.fixture(scope="module")
def done(ray_session, finetune_home):
    """Makes each task's tiny fine-tuning once."""
    made = {}

    def get(task: str):
        if task not in made:
            made[task] = tiny.call(finetune_home, task)
        return made[task]

    return get


@pytest.mark.parametrize("task", [*PERSON_TASKS, pytest.param("densepose", marks=pytest.mark.slow)])
def test_a_task_from_labels_to_results(done, task):
    run = done(task)
    assert run.status == 0, run
    assert [line for line in run.err.splitlines() if not re.match(QUIET, line)] == []
    config = tiny.RECIPES[task]
    rows = {"densepose": (11, 3, 5)}.get(task, (32, 8, 11))
    assert f"labels: 100%, {rows[0]} rows (" in run.out
    assert f"{rows[1]} rows select the model, {rows[2]} rows test" in run.out

    results, main = tiny.results(run.folder), MAIN[task]
    assert (results["task"], results["primary_metric"], results["seed"], results["steps"]) == (task, main, 5, 6)
    assert (results["labels"]["rows"], results["test"]["rows"], results["labels"]["text"]) == (rows[0], rows[2], "100%")
    assert [step for step, _ in results["evals"]] == [2, 4, 6]
    scores = {step: figures[main] for step, figures in results["evals"]}
    assert scores[results["selected_step"]] == max(scores.values())
    assert results["selected_step"] == min(step for step, score in scores.items() if score == max(scores.values()))
    assert f"{100 * results['test']['metrics'][main]:.2f} %" in run.out

    state, saved = newest(run.folder), load_model(str(run.folder))
    assert tiny.same(saved.model().state_dict(), state.best)
    assert saved.training["labels"] == results["labels"]
    table = (run.folder / "table.md").read_text()
    assert all(f"| {name} | " in table for name in results["test"]["metrics"])
    assert table.strip().endswith(f"{rows[2]} rows.")
    card = (run.folder / "model" / "README.md").read_text()
    assert table.strip() in card
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert (run.folder / "pictures" / "test.png").read_bytes()[:4] == b"\x89PNG"
    kept = FinetuneRecipe.model_validate(yaml.safe_load((run.folder / "config.yaml").read_text()))
    assert (kept.task.name, kept.train.batch_size_per_lane) == (task, config["train"]["batch_size_per_lane"])


@pytest.mark.parametrize("task", PERSON_TASKS)
def test_one_mlflow_run_holds_it_all(done, task):
    folder, results = done(task).folder, tiny.results(done(task).folder)
    (run,) = tracked(folder)
    assert (run["status"], run["id"]) == ("FINISHED", newest(folder).tracking_run)
    assert (run["params"]["task.name"], run["params"]["init"], run["params"]["optim.lr"]) == (task, "scratch", "0.002")
    metrics = run["metrics"]
    assert [step for step, _ in metrics["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert metrics["train/epochs/labeled"][-1] == (6, 36 / 32)
    for name, value in results["test"]["metrics"].items():
        assert metrics[f"test/{name}"] == [(6, value)]
        assert metrics[f"val/{name}"] == [(step, figures[name]) for step, figures in results["evals"]]
    assert run["artifacts"] >= {"config.yaml", "table.md", "pictures/test.png", "model/place.txt"}
    tags = tiny.tags(folder)
    assert tags["hcmoco.labels"] == f"100%, 32 rows, {results['labels']['digest']}"
    assert tags["hcmoco.start"] == "scratch: weights drawn from the seed"
    assert tags["hcmoco.task"] == task


@pytest.mark.parametrize("task", PERSON_TASKS)
def test_the_model_is_logged_with_its_test_and_predicts(done, task):
    import mlflow

    folder = done(task).folder
    run, (model,) = logged(folder)
    inputs = [each.dataset.name for each in run.inputs.dataset_inputs]
    assert (inputs, model.model_type, model.status) == (["people", "people-test"], task, "READY")
    measured = {each.key: (each.value, each.dataset_name) for each in model.metrics}
    expected = tiny.results(folder)["test"]["metrics"]
    assert measured == {f"test/{name}": (value, "people-test") for name, value in expected.items()}
    loaded = mlflow.pyfunc.load_model(model.artifact_location)
    (row,) = loaded.predict(loaded.input_example).to_dict("records")
    assert (row["error"], len(row["people"])) == (None, 1)


def test_once_finished_the_same_command_only_reports(done, finetune_home):
    first = done("pose")
    before = tree(first.folder)
    again = tiny.call(finetune_home, "pose")
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines()[0] == f"{first.folder} is finished"
    assert again.out[again.out.index("\npose with") :] == first.out[first.out.index("\npose with") :]
    assert tree(first.folder) == before


@pytest.mark.parametrize(
    ("name", "how"), [("model/model.safetensors", "changed"), ("results.json", "cut"), ("pictures/test.png", "gone")]
)
def test_what_was_changed_since_is_written_again(done, finetune_home, name, how):
    first = done("parsing-rgb")
    path = first.folder / name
    left = (
        "results.json",
        "table.md",
        "pictures/test.png",
        "model/model.safetensors",
        "model/config.json",
        "model/README.md",
    )
    before, data = {each: (first.folder / each).read_bytes() for each in left}, path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:100] if how == "cut" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    again = tiny.call(finetune_home, "parsing-rgb")
    assert again.status == 0, again
    assert {each: (first.folder / each).read_bytes() for each in left} == before


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=0.5", "optim.lr was 0.002, now 0.5; take the same config again, or another folder with output_dir="),
        ("num_samples=9", "num_samples was None, now 9"),
        ("task.depth_scale=20", "task.depth_scale was 50.0, now 20.0"),
        ("data.train.path=data/people-test data.train.people=null num_val_rows=3", "num_val_rows was 8, now 3"),
        ("data.train.path=data/people-test data.train.people=null", "chosen_on was "),
    ],
)
def test_another_config_into_the_same_folder_is_refused(done, finetune_home, override, line):
    folder = done("pose").folder
    before = tree(folder)
    assert (
        f"{folder} holds a run with another config: {line}" in tiny.call(finetune_home, "pose", *override.split()).error
    )
    assert {name: file for name, file in tree(folder).items() if "mlflow" not in name} == {
        name: file for name, file in before.items() if "mlflow" not in name
    }


def test_another_start_into_the_same_folder_is_refused(done, finetune_home):
    folder = done("pose").folder
    weights = tiny.export(finetune_home / "another", seed=1)
    line = tiny.call(finetune_home, "pose", f"init={weights}").error
    assert f"{folder} holds a run with another config: start was '', now '" in line


@pytest.mark.parametrize("place", ["run", "file", pytest.param("export", marks=pytest.mark.slow)])
def test_it_starts_from_the_weights_that_it_is_given(ray_session, finetune_home, place):
    """The encoder stands still, so that what it began with is what it ends with."""
    folder = tiny.export(finetune_home / "runs" / "pretrained" / "export", seed=3) if place == "run" else ""
    folder = folder or tiny.export(finetune_home / f"given-{place}", seed=3)
    init = {"run": "runs/pretrained", "export": "given-export", "file": "given-file/depth.safetensors"}[place]
    out = f"runs/from-{place}"
    run = tiny.call(
        finetune_home,
        "parsing-depth",
        f"init={init}",
        f"output_dir={out}",
        "encoder_lr=0",
        "steps=1",
        "num_val_rows=0",
        "select=last",
    )
    assert run.status == 0, run
    given = load_export(folder).encoder("depth")
    model = load_model(str(run.folder)).model()
    parameters = dict(given.trunk.named_parameters())
    assert parameters
    for name, value in model.encoder.trunk.named_parameters():
        assert torch.equal(value, parameters[name]), name
    results = tiny.results(run.folder)
    assert results["init"]["digest"] == weights_digest(given)
    assert tiny.tags(run.folder)["hcmoco.start"].endswith(results["init"]["digest"])
    expected = "weights file: " if place == "file" else f"depth encoder of {folder} (stage 2, 7 steps)"
    assert results["init"]["text"].startswith(expected)
    assert load_model(str(run.folder)).training["terms"] == [
        {"name": "people", "terms": SYNTHETIC, "page": ""},
        tiny.OTHERS,
    ]
    card = (run.folder / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    assert "| clips | by agreement alone |" in card


@pytest.mark.slow
def test_imagenet_weights_from_a_file(ray_session, finetune_home):
    encoder = build_encoder(EncoderConfig(name="test_resnet"))
    torch.save(encoder.trunk.state_dict(), finetune_home / "imagenet.pth")
    given = [
        "init=imagenet",
        "imagenet_weights=imagenet.pth",
        "output_dir=runs/imagenet",
        "steps=1",
        "num_val_rows=0",
        "select=last",
    ]
    run = tiny.call(finetune_home, "parsing-rgb", *given)
    assert run.status == 0, run
    start = tiny.results(run.folder)["init"]
    assert start["text"].startswith("ImageNet: ")
    assert start["digest"] == weights_digest(encoder)


@pytest.mark.parametrize(
    "task",
    ["pose", "parsing-depth", *(pytest.param(task, marks=pytest.mark.slow) for task in ("parsing-rgb", "densepose"))],
)
def test_evaluating_the_model_gives_the_same_figures(done, finetune_home, task):
    """With the pieces and the thread of the run that made it: the same bits."""
    results = tiny.results(done(task).folder)
    data = tiny.RECIPES[task]["data"]["test"]["path"]
    again = tiny.evaluate(finetune_home, f"runs/{task}", data, "--piece-rows", "3", "--threads", "1")
    assert again.status == 0, again
    found = tiny.results(again.folder)
    assert f"results   {again.folder}/results.json" in again.out
    assert found["metrics"] == results["test"]["metrics"]
    assert found["per_class"] == results["per_class"]
    assert found["data"]["digest"] == results["test"]["digest"]
    assert found["weights"]["training"]["selected_step"] == results["selected_step"]
    assert (again.folder / "table.md").read_text() == (done(task).folder / "table.md").read_text()
    assert (again.folder / "sheet.png").read_bytes() == (done(task).folder / "pictures" / "test.png").read_bytes()


def test_other_pieces_and_threads_give_the_same_figures_to_rounding(done, finetune_home):
    results = tiny.results(done("pose").folder)
    data = tiny.PEOPLE["test"]["path"]
    how = ["--piece-rows", "5", "--threads", "2", "--out", "evaluated-otherwise"]
    again = tiny.evaluate(finetune_home, "runs/pose", data, *how)
    assert again.status == 0, again
    found = tiny.results(again.folder)
    columns = results["per_class"]["columns"]
    before, after = (
        [dict(zip(columns, row, strict=True)) for row in each["per_class"]["rows"]] for each in (results, found)
    )
    annotated = [joint["annotated"] for joint in before]
    assert_figures_close(found["metrics"], results["test"]["metrics"], {"acc_10cm": sum(annotated)})
    for one, other, count in zip(before, after, annotated, strict=True):
        assert one.pop("joint") == other.pop("joint")
        assert one["annotated"] == other["annotated"]
        assert_figures_close(other, one, {"acc_10cm": count})
    assert found["data"]["digest"] == results["test"]["digest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "pieces"),
    [
        pytest.param("pose", 3, marks=pytest.mark.long),
        pytest.param("parsing-rgb", 11, marks=pytest.mark.long),
        pytest.param("densepose", 2, marks=pytest.mark.long),
    ],
)
def test_evaluation_by_several_workers_gives_the_same_figures(done, finetune_home, task, pieces):
    """The same pieces and threads give the same bits. Pieces of 11 rows are a single piece, so a worker has none."""
    data = tiny.RECIPES[task]["data"]["test"]["path"]
    assert done(task).status == 0
    found = []
    for workers in (1, 2):
        how = ["--piece-rows", str(pieces), "--workers", str(workers), "--out", f"evaluated-{task}-{workers}"]
        run = tiny.evaluate(finetune_home, f"runs/{task}", data, *how)
        assert run.status == 0, run
        found.append(tiny.results(run.folder))
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["per_class"] == found[1]["per_class"]
    assert found[0]["data"] == found[1]["data"]


def test_the_model_of_the_last_step(ray_session, finetune_home, done):
    run = tiny.call(finetune_home, "pose", "select=last", "output_dir=runs/last")
    assert run.status == 0, run
    assert tiny.results(run.folder)["selected_step"] == 6
    assert tiny.same(load_model(str(run.folder)).model().state_dict(), newest(run.folder).model)
    # Choosing otherwise trains no differently.
    assert tiny.same(newest(run.folder).model, newest(done("pose").folder).model)


def test_the_model_chosen_on_the_test_rows(ray_session, finetune_home):
    run = tiny.call(
        finetune_home, "pose", "select=test", "num_val_rows=0", "num_samples=7", "output_dir=runs/chosen-on-test"
    )
    assert run.status == 0, run
    assert "select=test: the model is selected on the test rows, as the paper does" in run.out
    results = tiny.results(run.folder)
    assert results["labels"]["text"] == "7 samples"
    assert dict(results["evals"])[results["selected_step"]] == results["test"]["metrics"]


def test_passes_instead_of_steps_and_bfloat16(ray_session, finetune_home):
    run = tiny.call(
        finetune_home,
        "parsing-rgb",
        "steps=null",
        "epochs=0.5",
        "num_samples=13",
        "train.precision=bfloat16",
        "output_dir=runs/passes",
        "num_evals=1",
    )
    assert run.status == 0, run
    assert "2 steps of 6 rows: 0.9 passes" in run.out  # 13 rows / 2 / 6, rounded up
    assert newest(run.folder).step == 2
    assert all(value.dtype == torch.float32 for value in newest(run.folder).model.values() if value.is_floating_point())


def test_one_row_in_a_step(ray_session, finetune_home):
    given = [
        "train.lanes=1",
        "train.batch_size_per_lane=1",
        "num_samples=1",
        "num_val_rows=1",
        "steps=2",
        "num_evals=1",
        "output_dir=runs/one-row",
    ]
    run = tiny.call(finetune_home, "parsing-rgb", *given)
    assert run.status == 0, run
    assert numbers(run.folder)["train/epochs/labeled"][-1] == (2, 2)


def test_help_does_not_wait_for_pytorch_or_ray():
    code = """
import importlib, sys
for name in ("finetune", "evaluate"):
    try:
        importlib.import_module(f"hcmoco_ray.commands.{name}").main(["--help"])
    except SystemExit as done:
        assert done.code == 0
print([name for name in ("ray", "torch", "timm", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "parsing-rgb, parsing-depth, pose, densepose" in done.stdout


def test_options_and_overrides_in_any_order(capsys):
    from hcmoco_ray.commands.finetune import main

    for given in (
        "pose --recipe people-cpu init=a seed=-7",
        "--recipe people-cpu pose init=a seed=-7",
        "pose init=a --recipe people-cpu seed=-7",
    ):
        assert main(given.split()) == 2
        assert capsys.readouterr().err.startswith("error: recipe pose/people-cpu: seed = -7: ")


def test_every_recipe_is_a_config():
    found = [path for task in MAIN for path in sorted((ROOT / "recipes" / task).glob("*.yaml"))]
    assert {path.parent.name for path in found} == set(MAIN)
    for path in found:
        config = load(FinetuneRecipe, str(path), ["init=scratch", f"task.name={path.parent.name}"])
        assert config.task.name == path.parent.name
