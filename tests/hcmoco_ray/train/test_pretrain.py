"""Pre-training from the command line: both stages on one worker, to the end, again, and stopped in the middle."""

import re
import subprocess
import sys

import torch
import yaml

from hcmoco.export import load_export
from hcmoco.license_terms import SYNTHETIC
from hcmoco.pretraining.probes.result import ProbeResult
from hcmoco_ray.config import PretrainRecipe, as_yaml, load
from tests.helpers.pretrain_program import (
    PROGRESS,
    ROOT,
    call,
    differences,
    interrupted_at,
    logged,
    newest,
    numbers,
    tracked,
    tree,
)

STEPS = [1, 2, 3, 4, 5, 6]


def test_it_says_what_it_does_and_nothing_else(finished):
    assert finished.status == 0
    assert [line for line in finished.err.splitlines() if not re.match(PROGRESS, line)] == []
    lines = finished.out.splitlines()
    assert len(lines) <= 95
    for line in (
        "stages: {stage1_steps: 3, stage2_steps: 3}",
        "a step: 8 rows in 2 lanes; batch norm and in-batch negatives see 8 of them",
        "  indoor: 48 people (48 with rgb, 48 with depth, 48 with keypoints), 6.0 a step, 0.8 passes",
        "  wild: 24 people (24 with rgb, 0 with depth, 24 with keypoints), 2.0 a step, 0.5 passes",
        "on 8 held-out people",
        f"encoders        {finished.folder}/export (its README.md shows how to load them)",
        f"run             mlflow ui --backend-store-uri sqlite:///{finished.folder}/mlflow.db",
    ):
        assert line in lines
    table = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("retrieval_", "dense_", "joint/"))}
    assert len(table) == 8
    assert table["retrieval_different_crops/mean"][2] == "12.5"  # of 8 people, blindly
    assert table["dense_same_crop/mean"][3] == "100.0"  # position alone


def test_the_export_is_the_state(finished):
    state = newest(finished.folder)
    assert (state.step, state.stage) == (6, 2)
    export = load_export(finished.folder / "export")
    for modality in ("rgb", "depth"):
        for name, value in export.encoder(modality).trunk.state_dict().items():
            assert torch.equal(value, state.model[f"{modality}.trunk.{name}"])
    for name, value in export.skeleton_encoder().state_dict().items():
        assert torch.equal(value, state.model[f"keypoints.{name}"])
    assert (export.training["steps"], export.training["stage"], export.training["seed"]) == (6, 2, 3)
    assert export.training["probes"]["after stage 2"] == state.history["after stage 2"]["metrics"]
    assert export.training["terms"] == [{"name": "people", "terms": SYNTHETIC, "page": ""}]
    assert export.training["depth_masking"] == "masked"  # of indoor; wild has no depth
    card = (finished.folder / "export" / "README.md").read_text()
    assert "It was trained on depth that is masked to the person. A background has to be removed first" in card
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "synthetic people alone" in card


def test_one_mlflow_run_holds_it_all(finished):
    (run,) = tracked(finished.folder)
    assert run["status"] == "FINISHED"
    assert run["id"] == newest(finished.folder).tracking_run
    assert run["params"]["optim.lr"] == "0.004"
    assert run["params"]["data.sources.wild.people.count"] == "24"
    metrics = run["metrics"]
    first = [
        "train/loss",
        "train/level/g",
        "train/loss/g/rgb-depth",
        "train/num_anchors/g/rgb-depth",
        "train/rows/g/rgb-depth/indoor",
        "train/grad_norm",
        "train/lr",
        "perf/data_wait_share",
    ]
    for name in first:
        assert [step for step, _ in metrics[name]] == STEPS, name
    for name in ("train/level/d", "train/level/s", "train/loss/d/rgb-depth"):
        assert [step for step, _ in metrics[name]] == [4, 5, 6], name
    assert [value for _, value in metrics["train/stage"]] == [1, 1, 1, 2, 2, 2]
    assert all(
        value == 6 for _, value in metrics["train/num_anchors/g/rgb-depth"]
    )  # rows with depth: the people of "indoor"
    assert all(value == 0 for _, value in metrics["train/rows/g/rgb-depth/wild"])
    assert metrics["train/epochs/indoor"][-1] == (6, 0.75)
    assert [step for step, _ in metrics["probe/joint/rgb_to_rgb"]] == [2, 4]
    assert [step for step, _ in metrics["after-stage-1/joint/rgb_to_rgb"]] == [3]
    assert [step for step, _ in metrics["after-stage-2/joint/rgb_to_rgb"]] == [6]
    wanted = {"config.yaml", "table.md", "export/README.md", "export/config.json", "export/place.txt"}
    assert wanted | {f"pictures/features-after-stage-{stage}.png" for stage in (1, 2)} <= run["artifacts"]


def test_the_export_is_a_logged_model_measured_on_the_held_out_people(finished):
    run, (model,) = logged(finished.folder)
    inputs = {each.dataset.name: {tag.key: tag.value for tag in each.tags} for each in run.inputs.dataset_inputs}
    assert {name: tags["mlflow.data.context"] for name, tags in inputs.items()} == {
        "indoor": "train",
        "wild": "train",
        "held-out": "test",
    }
    assert (model.model_type, model.status, model.params["steps"]) == ("encoders", "READY", "6")
    assert model.tags["hcmoco.uri"] == str(finished.folder / "export")
    assert model.tags["hcmoco.license"] == "apache-2.0"
    result = ProbeResult.from_json(newest(finished.folder).history["after stage 2"])
    measured = {each.key: (each.value, each.dataset_name) for each in model.metrics}
    assert measured.keys() == result.flat("after-stage-2/").keys()
    for name, value in result.metrics.items():
        assert measured[f"after-stage-2/{name}"] == (value, "held-out")


def test_the_full_table_and_the_config_lie_beside(finished):
    table = (finished.folder / "table.md").read_text()
    history = newest(finished.folder).history
    assert all(f"| {name} " in table for name in history["after stage 1"]["metrics"])
    config = PretrainRecipe.model_validate(yaml.safe_load((finished.folder / "config.yaml").read_text()))
    assert config == load(PretrainRecipe, str(finished.folder.parents[1] / "tiny.yaml"), []).with_settled_fusions()[0]


def test_once_finished_the_same_command_only_reports(finished, tiny_home):
    before = tree(finished.folder)
    again = call(tiny_home)
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines()[0] == f"{finished.folder} is finished"
    assert again.out[again.out.index("on 8 held-out") :] == finished.out[finished.out.index("on 8 held-out") :]
    assert tree(finished.folder) == before


def test_stopped_and_started_again_nothing_is_different(finished, tiny_home):
    out = tiny_home / "runs" / "stopped"
    with interrupted_at(out / "states" / "step-00000002" / "COMPLETE"):
        stopped = call(tiny_home, "output_dir=runs/stopped", "train.num_checkpoints=9")
    assert stopped.status == 130
    assert "stopped; the same command resumes from what is saved" in stopped.err
    assert 2 <= newest(out).step < 6
    (run,) = tracked(out)
    assert run["status"] == "KILLED"
    assert not (out / "export").exists()

    again = call(tiny_home, "output_dir=runs/stopped")
    assert again.status == 0
    assert re.search(r"^resuming from step \d of 6$", again.out, re.MULTILINE)
    assert differences(newest(out), newest(finished.folder)) == []
    assert numbers(out) == numbers(finished.folder)
    assert tracked(out)[0]["id"] == run["id"]
    exported = [(folder / "export" / "rgb.safetensors").read_bytes() for folder in (out, finished.folder)]
    assert exported[0] == exported[1]


def test_stopped_before_the_first_state_it_is_still_one_run(finished, tiny_home):
    out = tiny_home / "runs" / "early"
    with interrupted_at(out / "run.json"):
        assert call(tiny_home, "output_dir=runs/early").status == 130
    assert call(tiny_home, "output_dir=runs/early").status == 0
    assert differences(newest(out), newest(finished.folder)) == []
    assert numbers(out) == numbers(finished.folder)


def test_stopped_between_the_last_step_and_the_export(finished, tiny_home):
    out = tiny_home / "runs" / "late"
    with interrupted_at(out / "states" / "step-00000006" / "COMPLETE"):
        first = call(tiny_home, "output_dir=runs/late")
    again = call(tiny_home, "output_dir=runs/late")
    assert (again.status, first.status) in [(0, 130), (0, 0)]
    assert load_export(out / "export").training == {**load_export(finished.folder / "export").training}
    assert numbers(out) == numbers(finished.folder)


def test_pixels_decoded_by_tasks_are_the_same(finished, tiny_home):
    assert call(tiny_home, "output_dir=runs/tasks", "ingest.decode=tasks", "train.window_steps=2").status == 0
    assert differences(newest(tiny_home / "runs" / "tasks"), newest(finished.folder)) == []


def test_only_one_stage(finished, tiny_home):
    assert (
        call(
            tiny_home, "output_dir=runs/sample", "stages={stage1_steps: 2, stage2_steps: 0}", "data.held_out=null"
        ).status
        == 0
    )
    state = newest(tiny_home / "runs" / "sample")
    assert (state.step, state.stage, state.history) == (2, 1, {})
    full = call(tiny_home, "output_dir=runs/full", "stages={stage1_steps: 0, stage2_steps: 2}")
    assert full.status == 0
    state = newest(tiny_home / "runs" / "full")
    assert (state.step, state.stage, list(state.history)) == (2, 2, ["after stage 2"])
    assert "after stage 1" not in full.out


def test_help_does_not_wait_for_pytorch_or_ray():
    code = """
import sys
from hcmoco_ray.commands.pretrain import main
try:
    main(["--help"])
finally:
    print([name for name in ("ray", "torch", "timm", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "ray job submit --working-dir . -- python pipelines/pretrain.py" in done.stdout
    assert "a recipe in recipes/ (as-released, " in done.stdout
    assert "optim.lr=0.002" in done.stdout


def test_the_printed_config_is_the_config():
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        config = load(PretrainRecipe, path.stem, ["tracking.run_name='a: b, {c}'"])
        assert PretrainRecipe.model_validate(yaml.safe_load(as_yaml(config))) == config
