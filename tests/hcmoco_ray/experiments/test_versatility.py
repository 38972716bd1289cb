"""The versatility program on tiny people: nine co-trainings, each once, and the paper's tables over them."""

import json
from types import SimpleNamespace

import cv2
import pytest
import yaml

from hcmoco.export import export_encoders
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from hcmoco_ray.commands import versatility
from hcmoco_ray.commands.prepare import main as prepare
from hcmoco_ray.experiments.versatility.experiments import tables

ENCODER = {"name": "test_resnet"}
RECIPE = {
    "name": "tiny",
    "output_dir": "runs/versatility",
    "results": "tables",
    "init": "runs/start",
    "data": {
        "unlabeled": {"path": "data/unlabelled", "people": {"size": 64, "count": 12, "seed": 1}},
        "labeled": {"path": "data/labelled", "people": {"size": 64, "count": 8, "seed": 5}},
        "test": {"path": "data/test", "people": {"size": 64, "count": 5, "seed": 4}},
    },
    "augment": {"size": 64},
    "model": {"rgb": ENCODER, "depth": ENCODER, "skeleton": {"width": 16, "num_blocks": 1}, "embedding": 16},
    "objective": {"num_anchors": 12, "num_negatives": 0},
    "steps": 2,
    "optim": {"name": "adamw", "lr": 0.002},
    "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 4, "window_steps": 2},
}


@pytest.fixture
def home(ray_session, tmp_path, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    encoder = EncoderConfig(name="test_resnet")
    model = ModelConfig(rgb=encoder, depth=encoder, skeleton=SkeletonConfig(width=16, num_blocks=1), embedding=16)
    export_encoders(HCMoCo(model, seed=3), tmp_path / "runs/start/export", training={"stage": 1, "steps": 7})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def go(home, *arguments: str) -> int:
    return versatility.main(["--recipe", str(home / "tiny.yaml"), *arguments])


def test_each_co_training_is_done_once(home, capsys):
    one = ("experiments=[rgb-to-depth]", "methods=[none, hcmoco]")
    assert go(home, *one, "--plan") == 0
    assert "2 co-trainings, 0 done, 2 to do" in capsys.readouterr().out
    assert not (home / "data").exists(), "a plan makes nothing"
    assert go(home, *one) == 0
    assert "| HCMoCo | 1 | " in capsys.readouterr().out
    files = sorted((home / "tables/versatility").glob("*.json"))
    assert [each.name.rpartition("_")[0] for each in files] == ["rgb-to-depth_hcmoco_seed0", "rgb-to-depth_none_seed0"]
    results = [json.loads(each.read_text()) for each in files]
    for result in results:
        assert (result["experiment"], result["steps"], result["primary_metric"], result["labels"]["rows"]) == (
            "rgb-to-depth",
            2,
            "depth/mIoU",
            8,
        )
        assert result["init"]["text"] == "encoders of runs/start/export (stage 1, 7 steps)", (
            "no disk of anybody's in it"
        )
        assert result["test"]["rows"] == 5
        assert result["precision"] == "float32"
        assert {"key", "hcmoco", "torch", "commit", "seconds", "evals", "seed", "method"} <= result.keys()
    assert results[0]["init"] == results[1]["init"]
    sheet = cv2.imread(str(home / "tables/versatility/rgb-to-depth.png"))
    assert sheet.shape[1] == 2 * 6 * 192 + 12
    index = json.loads((home / "tables/versatility.json").read_text())
    assert [(each["method"], each["status"], each["result"]) for each in index["experiments"]] == [
        (method, "done", f"versatility/{file.name}") for method, file in (("none", files[1]), ("hcmoco", files[0]))
    ]
    assert not list((home / "runs/versatility/work").iterdir())

    before = {each: each.stat().st_mtime_ns for each in files}
    assert go(home, *one, "train.precision=bfloat16") == 0
    assert "2 done, 0 to do" in capsys.readouterr().out, "a co-training is done in whichever precision it was computed"
    files[1].unlink()
    assert go(home, *one) == 0
    assert "1 done, 1 to do" in capsys.readouterr().out
    assert json.loads(files[1].read_text())["test"] == results[1]["test"]
    assert files[0].stat().st_mtime_ns == before[files[0]]


@pytest.mark.slow
def test_all_nine(home, capsys):
    assert go(home) == 0
    out = capsys.readouterr().out
    assert "9 co-trainings, 0 done, 9 to do" in out
    assert len(list((home / "tables/versatility").glob("*.json"))) == 9
    assert len(list((home / "tables/versatility").glob("*.png"))) == 3
    rows = [
        line
        for line in (home / "tables/versatility.md").read_text().splitlines()
        if line.startswith(("| No", "| CMC", "| HC"))
    ]
    assert [line.count("|") for line in rows] == [9] * 3 + [12] * 3
    assert "-" not in "".join(rows).split()


def test_what_fails_does_not_stop_the_others(home, capsys):
    assert go(home, "experiments=[rgb-to-depth]", "methods=[none, cmc]", "objective.tau_g=1e-38", "optim.lr=1e-30") == 1
    out = capsys.readouterr().out
    assert "failed: rgb-to-depth_cmc_seed0" in out
    index = json.loads((home / "tables/versatility.json").read_text())
    statuses = [each["status"] for each in index["experiments"]]
    assert statuses[0] == "done"
    assert statuses[1].startswith("failed: ")
    assert "in step 1; the largest term there is loss/g/" in statuses[1]
    assert "\n" not in statuses[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=3"], "seed=3: every co-training has its own; set seeds=[...]"),
        (["--cpus=0"], "--cpus 0: must be"),
        (["--seeds=0"], "--seeds 0: must be at least 1"),
        (["init=runs/nobody"], "runs/nobody is neither an export nor a finished run"),
        (["model.rgb.name=hrnet_w18_small"], "set model.rgb.name=test_resnet"),
        (["methods=[simclr]"], "methods.0 = 'simclr'"),
        (["init=null"], "key 'init' is missing"),
    ],
)
def test_a_mistake_is_one_line(home, capsys, arguments, message):
    assert go(home, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_tables_are_the_papers():
    def experiment(kind, method, seed):
        config = SimpleNamespace(experiment=kind, method=method, seed=seed)
        return SimpleNamespace(config=config, name=f"{kind}/{method}/{seed}")

    experiments = [
        experiment(kind, method, seed)
        for kind in ("rgb-to-depth", "missing-modality")
        for method in ("none", "hcmoco")
        for seed in (0, 1)
    ]
    results = {}
    for number, each in enumerate(experiments[:-1]):
        figures = {
            f"{which}/{name}": 0.01 * (number + 10 * place)
            for place, which in enumerate(("rgb", "depth", "fused"))
            for name in ("mIoU", "mAcc", "aAcc")
        }
        results[each.name] = {"test": {"metrics": figures}}
    lines = tables(experiments, results).splitlines()
    assert [line for line in lines if line.startswith("| ")] == [
        "| Method | seeds | RGB -> Depth: mIoU | RGB -> Depth: mAcc | RGB -> Depth: aAcc |",
        "| No Contrastive | 2 | 10.5 ± 0.7 | 10.5 ± 0.7 | 10.5 ± 0.7 |",
        "| HCMoCo | 2 | 12.5 ± 0.7 | 12.5 ± 0.7 | 12.5 ± 0.7 |",
        "| Method | seeds | "
        + " | ".join(
            f"{title}: {name}" for title in ("Only RGB", "Only Depth", "Both") for name in ("mIoU", "mAcc", "aAcc")
        )
        + " |",
        "| No Contrastive | 2 |" + " 4.5 ± 0.7 |" * 3 + " 14.5 ± 0.7 |" * 3 + " 24.5 ± 0.7 |" * 3,
        "| HCMoCo | 1 |" + " 6.0 |" * 3 + " 16.0 |" * 3 + " 26.0 |" * 3,
    ]


@pytest.mark.slow
@pytest.mark.long
def test_a_test_on_what_is_trained_on_is_told_once(home, capsys):
    given = [f"--{name}={value}" for name, value in RECIPE["data"]["labeled"]["people"].items()]
    assert prepare(["people", "--out", str(home / "data/labelled"), *given]) == 0
    known = ("data.test.path=data/labelled/", "data.test.people=null")
    assert go(home, "experiments=[rgb-to-depth]", "methods=[none, hcmoco]", "steps=1", *known) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:"))
    assert line.startswith(
        "warning: data.test is the same data as data.labeled: the scores say how well it is remembered"
    )
