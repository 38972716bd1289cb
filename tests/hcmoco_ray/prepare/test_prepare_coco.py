"""MPII, COCO and COCO-DensePose from the download's folder to shards, through the program."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.io import savemat

from hcmoco.data.schema import Scene
from hcmoco.data.shards.manifest import read_manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.verify import verify
from hcmoco.rng import make_rng
from hcmoco.storage import Folder
from hcmoco_ray.commands.prepare import main
from tests.helpers import coco_files, mpii_files
from tests.helpers import finetune_program as tiny
from tests.helpers.chart_symmetry import people_symmetry, write_symmetry
from tests.helpers.mutations import damage

WRITERS = {
    "mpii": mpii_files.write_mpii,
    "coco": coco_files.write_keypoints,
    "densepose-coco": coco_files.write_densepose,
}
RECORDS = {"mpii": 3, "coco": 5, "densepose-coco": 4}  # all that the download lists, read or skipped


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """Each data set as its release lays it out."""
    root = tmp_path_factory.mktemp("downloads für alle")
    for name, write in WRITERS.items():
        write(root / name)
    return root


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


@pytest.mark.parametrize("name", WRITERS)
def test_from_the_download_to_verified_shards(ray_session, downloads, tmp_path, capsys, name):
    status, out, err = run(capsys, name, f"--source={downloads / name}", "--check")
    assert (status, err) == (0, "")
    assert "nothing is missing" in out
    status, out, err = run(capsys, name, f"--source={downloads / name}", f"--out={tmp_path / 'shards'}")
    assert status == 0, err
    manifest = read_manifest(Folder(str(tmp_path / "shards")))
    skipped = {"mpii": 0, "coco": 2, "densepose-coco": 1}[name]
    assert (manifest.rows, manifest.rejected, sum(manifest.skipped.values())) == (3, 0, skipped)
    assert manifest.kind == ("scene" if name == "densepose-coco" else "person")
    assert manifest.license
    assert manifest.page.startswith("http")
    assert verify(str(tmp_path / "shards")) == []
    assert run(capsys, "verify", tmp_path / "shards")[0] == 0


@pytest.mark.parametrize("name", WRITERS)
def test_the_check_lists_what_is_missing(downloads, capsys, name, tmp_path):
    WRITERS[name](tmp_path)
    pictures = sorted((tmp_path / "images").rglob("0*.jpg" if name == "mpii" else "COCO*.jpg"))
    pictures[0].unlink()
    status, out, err = run(capsys, name, f"--source={tmp_path}", "--check")
    assert status == 2
    assert f"{pictures[0]}: does not exist" in out
    assert "1 of what is needed is missing" in err
    status, out, err = run(capsys, name, f"--source={tmp_path / 'elsewhere'}", "--check")
    assert status == 2
    assert re.search(r"elsewhere/ann.*json: does not exist", out)


def test_scenes_come_back_from_the_shards(ray_session, downloads, tmp_path, capsys):
    arguments = [f"--source={downloads / 'densepose-coco'}", "--split=test", f"--out={tmp_path / 'minival'}"]
    assert run(capsys, "densepose-coco", *arguments)[0] == 0
    shards = Shards.open(str(tmp_path / "minival"))
    scenes = {
        row["id"]: Scene.from_row(row)
        for group in range(len(shards.group_rows))
        for row in shards.read_group(group).to_pylist()
    }
    assert set(scenes) == {"densepose-coco/4", "densepose-coco/5"}
    assert sorted(each.crowd for each in scenes["densepose-coco/5"].instances) == [False, False, True]
    assert scenes["densepose-coco/4"].instances[0].dp_points.shape[1] == 5


def test_annotation_files_may_be_named(ray_session, downloads, tmp_path, capsys):
    named = "[annotations/densepose_coco_2014_train.json, annotations/densepose_coco_2014_minival.json]"
    arguments = [f"--source={downloads / 'densepose-coco'}", f"--annotations={named}", f"--out={tmp_path / 'mixed'}"]
    status, out, err = run(capsys, "densepose-coco", *arguments)
    assert status == 0, err
    assert "4 rows" in out


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_downloads_are_read_or_refused(ray_session, tmp_path, capsys, name):
    """Four kinds of damage, each through the program: rows, rejected and skipped records are all that
    there are, unless an annotation file itself is damaged, or the program says in a line why it reads nothing.
    """
    for number in range(4):
        source, out = tmp_path / f"{number}" / "download", tmp_path / f"{number}" / "shards"
        WRITERS[name](source)
        what = damage(source, make_rng(0, f"prepare {name}", number))
        print(what)  # shown where the time limit ends it
        status, _, err = run(capsys, name, f"--source={source}", f"--out={out}", "--max-broken=1")
        if status == 0:
            manifest = read_manifest(Folder(str(out)))
            total = manifest.rows + manifest.rejected + sum(manifest.skipped.values())
            assert ".json" in what or total == RECORDS[name], what
            assert all(len(each.reason.split()) > 1 for each in manifest.rejected_examples), what
            assert verify(str(out)) == [], what
        else:
            assert status == 2, what
            *_, last = err.strip().splitlines()
            assert last.startswith("error: "), what
            assert Path(source).name in last or name in last, (what, last)


def write_charts(folder: Path) -> None:
    """DensePose's evaluation data as they are published, but of the synthetic people's surface, on which the scenes'
    points are.
    """
    from hcmoco.tasks.densepose.metric.people_surface import people_geodesics

    surface = people_geodesics()
    count = int(surface.reference.max()) + 1
    names = dict(zip(("Part_ID_subdiv", "U_subdiv", "V_subdiv"), np.hsplit(surface.iuv, 3), strict=True))
    folder.mkdir()
    # Distances are given, so that no place in space is needed.
    nowhere = {"vertex": np.zeros((3, len(surface.iuv))), "faces": np.ones((3, 1))}
    savemat(folder / "SMPL_subdiv.mat", {**names, **nowhere})
    savemat(folder / "SMPL_SUBDIV_TRANSFORM.mat", {"index": surface.reference[:, None] + 1.0})
    everyone = np.arange(count)
    rows = [surface.pairs(np.full(count, each), everyone) for each in everyone]
    packed = np.concatenate([row[:number] for number, row in enumerate(rows)])[:, None].astype(np.float32)
    (folder / "Pdist_matrix.pkl").write_bytes(pickle.dumps({"Pdist_matrix": packed}, 2))
    write_symmetry(folder, people_symmetry)


@pytest.mark.long
@pytest.mark.slow
def test_the_published_recipe_trains_and_is_scored_on_them(ray_session, downloads, tmp_path, monkeypatch, capsys):
    """The recipe as it is but for sizes: fine-tuned on train and valminusminival, scored on minival, and scored again
    by evaluate.
    """
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    source = f"--source={downloads / 'densepose-coco'}"
    assert run(capsys, "densepose-coco", source, "--out=data/densepose-coco-train")[0] == 0
    assert run(capsys, "densepose-coco", source, "--split=test", "--out=data/densepose-coco-minival")[0] == 0
    write_charts(tmp_path / "densepose-eval")
    small = {f"task.{key}": value for key, value in tiny.DENSEPOSE.items()} | {
        "encoder.name": "test_resnet",
        "encoder.fusion": "nearest",
        "steps": 4,
    }
    small |= {f"train.{key}": value for key, value in tiny.RECIPES["densepose"]["train"].items()} | {
        "train.workers": 1,
        "train.gpu": False,
    }
    small |= {"train.cpus_per_worker": 1, "train.threads_per_worker": 1, "num_evals": 1, "num_val_rows": 1}
    small |= {"task.charts": str(tmp_path / "densepose-eval")}
    overrides = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...').strip()}"
        for key, value in small.items()
    ]
    done = tiny.call(
        tmp_path, "densepose", "--recipe", "paper-w18", "init=scratch", "output_dir=runs/paper", *overrides, bare=True
    )
    assert done.status == 0, done.err
    results = tiny.results(tmp_path / "runs" / "paper")
    assert results["test"]["rows"] == 2
    assert {"gps_ap", "gpsm_ap", "mask_ap", "box_ap"} <= set(results["test"]["metrics"])
    again = tiny.evaluate(tmp_path, "runs/paper", "data/densepose-coco-minival")
    assert again.status == 0, again.err
    assert tiny.results(again.folder)["metrics"] == results["test"]["metrics"]
