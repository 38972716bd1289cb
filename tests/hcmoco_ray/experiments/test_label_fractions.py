"""A grid of fine-tunings: each experiment once, whatever happens in between."""

import json
import math
import shutil
import signal
import sqlite3
from types import SimpleNamespace

import pytest
import yaml

from hcmoco.export import load_export
from hcmoco.finetuning.encoder_init import weights_digest
from hcmoco.training.precision import chosen, native_bfloat16
from hcmoco_ray.commands import ablation, backbones, label_fractions
from hcmoco_ray.experiments.grid.tables import ablation as ablation_table
from hcmoco_ray.experiments.grid.tables import comparison
from hcmoco_ray.experiments.results import difference_text, mean_text
from hcmoco_ray.tracking.provenance import commit
from tests.helpers.pretrain_program import write_recipe
from tests.helpers.started import Started

PEOPLE = {"domain": "indoor", "size": 64, "seed": 1}
RECIPE = {
    "name": "tiny",
    "output_dir": "unused",
    "task": {"size": 64},
    "encoder": {"name": "test_resnet"},
    "data": {
        "train": {"path": "data/train", "people": {**PEOPLE, "count": 24}},
        "test": {"path": "data/test", "people": {**PEOPLE, "count": 6, "seed": 2}},
    },
    "steps": 2,
    "num_evals": 1,
    "num_val_rows": 4,
    "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 4, "window_steps": 2},
}
GRID = {
    "output_dir": "runs/grid",
    "baseline": "scratch",
    "inits": {"scratch": "scratch", "other": "scratch"},
    "experiments": [{"tasks": ["parsing-rgb"], "labels": {"num_samples": 5}, "seeds": [0, 1]}],
}


@pytest.fixture
def home(ray_session, tmp_path, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def go(home, over=None, *arguments: str, program=label_fractions) -> int:
    (home / "grid.yaml").write_text(yaml.safe_dump({**GRID, "recipe": str(home / "tiny.yaml"), **(over or {})}))
    return program.main(["--grid", str(home / "grid.yaml"), *arguments])


def index(home, program="label_fractions") -> dict:
    return json.loads((home / f"runs/grid/{program}.json").read_text())


def test_each_cell_is_done_once(home, capsys):
    assert go(home, None, "--plan") == 0
    assert "4 experiments, 0 done, 4 to do" in capsys.readouterr().out
    assert not (home / "data").exists(), "a plan makes nothing"
    assert not (home / "runs").exists()
    assert not (home / "runs/grid/label_fractions.md").exists()
    assert go(home) == 0
    assert "| parsing-rgb | 5 samples (5) | mIoU | 2 |" in capsys.readouterr().out
    files = sorted((home / "runs/grid/experiments").iterdir())
    assert [each.name.rpartition("_")[0] for each in files] == [
        f"parsing-rgb_{init}_5-samples_seed{seed}" for init in ("other", "scratch") for seed in (0, 1)
    ]
    files_and_index = [*files, home / "runs/grid/label_fractions.json"]
    before = {each: each.stat().st_mtime_ns for each in files_and_index}
    results = [json.loads(each.read_text()) for each in files]
    # "other" is scratch under another name: the same seed gives the same figures, another seed others.
    assert results[0]["test"] == results[2]["test"]
    assert results[0]["labels"]["digest"] != results[1]["labels"]["digest"]
    assert not list((home / "runs/grid/work").iterdir())
    assert {(result["precision"], result["commit"]) for result in results} == {("float32", commit())}
    assert [(each["init"], each["seed"], each["status"], each["result"]) for each in index(home)["experiments"]] == [
        (init, seed, "done", f"experiments/{file.name}")
        for seed in (0, 1)
        for init, file in (("other", files[seed]), ("scratch", files[2 + seed]))
    ]

    assert go(home) == 0
    assert "4 done, 0 to do" in capsys.readouterr().out
    for precision in ("bfloat16", "auto"):  # an experiment is done in whichever it was computed
        assert go(home, None, f"train.precision={precision}") == 0
        assert "4 done, 0 to do" in capsys.readouterr().out
    assert {each: each.stat().st_mtime_ns for each in files_and_index} == before

    # Version 0.1 wrote to another folder, with other keys: its results count, and are moved.
    earlier = json.loads(files[0].read_text())
    earlier["main"], earlier["validations"] = earlier.pop("primary_metric"), earlier.pop("evals")
    earlier["test"]["figures"] = earlier["test"].pop("metrics")
    earlier["start"], earlier["init"] = earlier["init"], earlier["init"].pop("name")
    (home / "runs/grid/cells").mkdir()
    (home / "runs/grid/cells" / files[0].name).write_text(json.dumps(earlier))
    files[0].unlink()
    assert go(home) == 0
    assert "4 done, 0 to do" in capsys.readouterr().out
    assert json.loads(files[0].read_text()) == results[0]
    before[files[0]] = files[0].stat().st_mtime_ns

    files[1].unlink()
    assert go(home) == 0
    assert "3 done, 1 to do" in capsys.readouterr().out
    assert json.loads(files[1].read_text())["test"] == results[1]["test"]
    assert all(each.stat().st_mtime_ns == time for each, time in before.items() if each != files[1])


@pytest.mark.slow
@pytest.mark.long
def test_a_block_of_experiments_has_an_encoder_of_its_own(home, capsys):
    """And a pre-training of the same name as another grid's has another record in one folder of results."""
    block = {**GRID["experiments"][0], "seeds": [0]}
    assert go(home, {"experiments": [block], "inits": {"scratch": "scratch"}}) == 0
    other = {**block, "overrides": ["encoder.name=resnet18"]}
    (home / "pretraining").mkdir()
    pretraining = {
        "pretrain": str(write_recipe(home / "pretraining")),
        "overrides": ["model.rgb.name=resnet18", "model.depth.name=resnet18"],
        "output_dir": "runs/other",
    }
    inits = {"scratch": "scratch", "hcmoco": pretraining}
    over = {"experiments": [other], "inits": inits, "record_suffix": "other"}
    assert go(home, over, program=backbones) == 0
    assert "2 experiments, 0 done, 2 to do" in capsys.readouterr().out
    assert [path.name for path in (home / "runs/grid/pretrainings").iterdir()] == ["hcmoco-other.json"]
    (plain,), others = (
        [json.loads((home / "runs/grid" / each["result"]).read_text()) for each in index(home, program)["experiments"]]
        for program in ("label_fractions", "backbones")
    )
    larger = {each["init"]["name"]: each for each in others}
    assert larger.keys() == {"scratch", "hcmoco"}
    assert plain["key"] != larger["scratch"]["key"], "the encoder is another one"
    record = json.loads((home / "runs/grid/pretrainings/hcmoco-other.json").read_text())
    assert larger["hcmoco"]["init"]["digest"] == record["digests"]["rgb"] != larger["scratch"]["init"]["digest"]
    assert go(home, over, program=backbones) == 0
    assert "2 done, 0 to do" in capsys.readouterr().out


def test_a_cell_that_fails_does_not_stop_the_others(home, capsys):
    experiments = [
        {"tasks": ["parsing-rgb"], "labels": labels, "seeds": [0]}
        for labels in ({"num_samples": 5}, {"num_samples": 500})
    ]
    assert go(home, {"experiments": experiments, "inits": {"scratch": "scratch"}}, "train.precision=auto") == 1
    out = capsys.readouterr().out
    assert "failed: parsing-rgb_scratch_500-samples_seed0" in out
    assert "at most 20" in out
    assert "1 of 2" in out
    good, bad = index(home)["experiments"]
    assert (good["status"], bad["result"]) == ("done", None)
    assert json.loads((home / "runs/grid" / good["result"]).read_text())["precision"] == chosen(
        [native_bfloat16("cpu")]
    )
    assert bad["status"].startswith("failed: ")
    assert "at most 20" in bad["status"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"baseline": "nobody"}, "baseline = 'nobody' is not among its inits"),
        ({"experiments": [{**GRID["experiments"][0], "tasks": ["parsing"]}]}, "'parsing' is not a task"),
        ({"inits": {"scratch": "scratch", "gone": "nowhere/at/all"}}, "nowhere/at/all do not exist"),
        ({"seeds": 3}, "unknown key 'seeds'"),
        ({"cells": GRID["experiments"]}, "'cells' is now called 'experiments'"),
        ({"out": "here"}, "'out' is now called 'output_dir'"),
        ({"experiments": [*GRID["experiments"], *GRID["experiments"]]}, "appears twice"),
        ({"experiments": [{**GRID["experiments"][0], "seeds": [0, 0]}]}, "0 appears twice"),
        ({"experiments": [{**GRID["experiments"][0], "seeds": [-1]}]}, "experiments.0.seeds.0 = -1"),
        ({"experiments": [{**GRID["experiments"][0], "labels": {}}]}, "experiments.0.labels"),
        ({"inits": {"scratch": "scratch", "..": "scratch"}}, "inits: '..' names files"),
        ({"seconds": {"walking": 3}}, "seconds: numbers above 0 for pretrain"),
    ],
)
def test_a_mistake_is_one_line(home, capsys, over, message):
    assert go(home, over) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--cpus=0", "--cpus 0: must be"),
        ("--cpus=64", "a grid experiment asks for 64 CPUs of one node; no node of the cluster"),
        ("--gpus=-1", "--gpus -1: must be"),
        ("--seeds=0", "--seeds 0: must be at least 1"),
        ("seed=3", "seed=3: the grid says what"),
    ],
)
def test_a_mistaken_argument_is_one_line(home, capsys, argument, message):
    assert go(home, None, argument) == 2
    assert message in capsys.readouterr().err


def test_a_record_that_is_none_is_one_line(home, pretrained, capsys):
    (home / "runs/grid/pretrainings").mkdir(parents=True)
    for text in ("{", "[]", "{}"):
        (home / "runs/grid/pretrainings/cmc.json").write_text(text)
        assert go(home, {**pretrained, "inits": {"cmc": pretrained["inits"]["cmc"]}}, "--plan") == 2
        error = capsys.readouterr().err
        assert "pretrainings/cmc.json is not the record of a pre-training; delete it" in error
        assert len(error.splitlines()) == 1


def test_other_seeds_than_the_grids(home, capsys):
    assert go(home, {"inits": {"scratch": "scratch"}}, "--seeds", "3", "--plan") == 0
    assert "3 experiments, 0 done, 3 to do" in capsys.readouterr().out


def test_a_cell_that_is_no_result_is_one_line(home, capsys):
    one = {
        "inits": {"scratch": "scratch"},
        "experiments": [{"tasks": ["parsing-rgb"], "labels": {"num_samples": 5}, "seeds": [0]}],
    }
    assert go(home, one) == 0
    (file,) = (home / "runs/grid/experiments").iterdir()
    good = json.loads(file.read_text())
    file.write_text("{}")
    assert go(home, one) == 2
    error = capsys.readouterr().err
    assert f"{file} is not an experiment's result; delete it" in error
    assert len(error.splitlines()) == 1
    file.write_text(json.dumps({**good, "key": "0" * 64}))
    assert go(home, one, "--plan") == 2
    assert (
        f"{file} is another experiment's result: its key is 0000000000, not {good['key'][:10]}; delete it"
        in capsys.readouterr().err
    )


def test_without_a_weight_file_imagenet_is_not_run_and_says_so(home, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    one = {"inits": {"scratch": "scratch", "imagenet": "imagenet"}}
    # A backbone for which weights are published, and nowhere to get them from.
    assert go(home, one, "--plan", "encoder.name=resnet10t", f"encoder.args={{cache_dir: {home / 'empty'}}}") == 0
    out = capsys.readouterr().out
    assert "2 to do, 2 not run: no weight file" in out
    assert "| not run: no weight file |" in out


# --- starts that are pre-trained first

PRETRAINING = {
    "name": "tiny-pretraining",
    "output_dir": "unused",
    "data": {"sources": {"indoor": {"path": "data/train", "people": {**PEOPLE, "count": 24}}}},
    "augment": {"size": 64},
    "model": {
        "rgb": {"name": "test_resnet"},
        "depth": {"name": "test_resnet"},
        "skeleton": {"width": 16, "num_blocks": 1},
        "embedding": 16,
    },
    "objective": {"num_negatives": 0, "num_anchors": 12},
    "stages": {"stage1_steps": 1, "stage2_steps": 2},
    "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 4, "window_steps": 3},
    "probe": {"every": 0},
}


@pytest.fixture
def pretrained(home):
    (home / "pretraining.yaml").write_text(yaml.safe_dump(PRETRAINING))

    def init(name: str, *overrides: str) -> dict:
        return {"pretrain": str(home / "pretraining.yaml"), "overrides": list(overrides), "output_dir": f"runs/{name}"}

    inits = {
        "cmc": init("cmc", "objective.method=cmc"),
        "hcmoco": init("hcmoco"),
        "broken": init("broken", "optim.lr=1.0e+30"),
    }
    return {
        "baseline": "cmc",
        "inits": inits,
        "experiments": [{"tasks": ["parsing-rgb"], "labels": {"num_samples": 5}, "seeds": [0]}],
    }


@pytest.mark.slow
def test_what_a_cell_starts_from_is_pre_trained_first_and_once(home, pretrained, capsys):
    over = {**pretrained, "inits": {name: pretrained["inits"][name] for name in ("cmc", "hcmoco")}}
    assert go(home, over, "--plan") == 0
    said = capsys.readouterr().out
    assert "2 pre-trainings to do, one after another: cmc, hcmoco" in said
    assert "2 experiments, 0 done, 2 to do" in said
    assert not (home / "runs/cmc").exists()

    assert go(home, over) == 0
    records = {name: json.loads((home / f"runs/grid/pretrainings/{name}.json").read_text()) for name in over["inits"]}
    for name, record in records.items():
        export = load_export(home / f"runs/{name}/export")
        assert record["digests"] == {
            modality: weights_digest(export.encoder(modality)) for modality in ("rgb", "depth")
        }
        assert (record["steps"], record["precision"]) == (3, "float32")
        assert record["seconds"] > 0
    assert records["cmc"]["digests"] != records["hcmoco"]["digests"]
    experiments = [json.loads(each.read_text()) for each in sorted((home / "runs/grid/experiments").iterdir())]
    assert [each["init"]["digest"] for each in experiments] == [
        records[name]["digests"]["rgb"] for name in ("cmc", "hcmoco")
    ]
    assert all(str(home) not in json.dumps(each) for each in experiments), (
        "a file that is shared names no path of this machine"
    )
    capsys.readouterr()

    # The same grid in another program: nothing is left to do, and it has a table of its own.
    assert go(home, over, program=ablation) == 0
    said = capsys.readouterr().out
    assert "2 done, 0 to do" in said
    assert "| sample level |" in said
    assert "| + sparse |" in said
    assert [each["status"] for each in index(home, "ablation")["experiments"]] == ["done", "done"]

    # Who has the small files alone has nothing to do either, until an experiment is missing: then its weights are made
    # again.
    shutil.rmtree(home / "runs/cmc")
    shutil.rmtree(home / "runs/hcmoco")
    assert go(home, over) == 0
    assert "2 done, 0 to do" in capsys.readouterr().out
    assert not (home / "runs/cmc").exists()
    (gone,) = (home / "runs/grid/experiments").glob("*_hcmoco_*")
    before = json.loads(gone.read_text())
    gone.unlink()
    assert go(home, over) == 0
    assert "1 pre-trainings to do, one after another: hcmoco" in capsys.readouterr().out
    again = json.loads(gone.read_text())
    assert (again["test"], again["init"]) == (before["test"], before["init"])
    assert not (home / "runs/cmc").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_pre_training_that_fails_does_not_stop_the_others(home, pretrained, capsys):
    over = {**pretrained, "inits": {name: pretrained["inits"][name] for name in ("broken", "cmc")}}
    assert go(home, over) == 1
    assert "failed: broken: " in capsys.readouterr().out
    broken, cmc = index(home)["experiments"]
    assert broken["status"].startswith("failed: pre-training: ")
    assert "became nan in step 2" in broken["status"]
    assert cmc["status"] == "done"


@pytest.mark.slow
@pytest.mark.long
def test_another_run_in_the_folder_of_a_pre_training_is_refused(home, pretrained, capsys):
    one = {**pretrained, "inits": {"cmc": pretrained["inits"]["cmc"]}}
    assert go(home, one) == 0
    other = {**one, "inits": {"cmc": {**one["inits"]["cmc"], "overrides": ["objective.method=mmv"]}}}
    assert go(home, other) == 2
    assert "objective.method was 'cmc', now 'mmv'" in capsys.readouterr().err


# --- tables


def made_up(scores: dict[tuple, float]) -> tuple[list, dict]:
    """Experiments and results of (task, labels, init, seed) -> figure."""
    experiments = [
        SimpleNamespace(
            task=task,
            init=init,
            labels=labels,
            refused="",
            name=f"{task}{labels}{init}{seed}",
            config=SimpleNamespace(seed=seed),
        )
        for task, labels, init, seed in scores
    ]
    results = {
        experiment.name: {"primary_metric": "m", "labels": {"rows": 9}, "test": {"metrics": {"m": value}}}
        for experiment, value in zip(experiments, scores.values(), strict=True)
    }
    return experiments, results


def test_the_table_pairs_seeds():
    scores = {
        ("t", "10%", name[0], int(name[1])): v
        for name, v in {"a0": 0.10, "a1": 0.30, "b0": 0.15, "b1": 0.45, "b2": 0.90}.items()
    }
    row = comparison(*made_up(scores), "a").splitlines()[-1]
    # 5 and 15 points over the two seeds that both have.
    assert row == f"| t | 10% (9) | m | 3 | 20.0 ± {math.sqrt(200):.1f} | 50.0 ± 37.7 | +10.0 ± 5.0 |"
    assert (mean_text([]), mean_text([3.0]), difference_text([]), difference_text([-2.0])) == ("-", "3.0", "-", "-2.0")
    assert (mean_text([1.0, math.nan]), difference_text([math.nan])) == ("-", "-")


def test_the_ablation_has_a_row_per_objective():
    scores = {
        ("t", "10%", "cmc", 0): 0.1,
        ("t", "10%", "soft", 0): 0.2,
        ("t", "10%", "soft", 1): 0.4,
        ("u", "17 samples", "cmc", 0): 0.5,
    }
    assert ablation_table(*made_up(scores), ablation.TITLES).splitlines() == [
        "| objective | t 10% m | u 17 samples m |",
        "|---|--:|--:|",
        "| sample level | 10.0 | 50.0 |",
        "| + soft dense | 30.0 ± 14.1 | - |",
    ]


@pytest.mark.long
@pytest.mark.slow
def test_a_signal_ends_the_cells(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, "steps": 5000}))
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**GRID, "recipe": str(tmp_path / "tiny.yaml")}))
    program = Started("tuning/label_fractions.py", "--grid", str(tmp_path / "grid.yaml"), HCMOCO_HOME=str(tmp_path))
    program.until(lambda: any(tmp_path.glob("runs/grid/work/*/states")))
    status, said = program.stop(signal.SIGTERM)
    assert status == 143
    assert said.endswith("\nstopped; the same command resumes from what is saved\n")
    store = sqlite3.connect(tmp_path / "runs/grid/mlflow.db")
    assert store.execute("select status from runs").fetchall() == [("KILLED",)]
    store.close()
