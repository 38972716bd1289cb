"""ITOP from the downloaded files to a scored model: what is missing, shards, the published subsets, a short run of the
published recipe.
"""

import json
import re
import shutil

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.shards.manifest import read_manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.label_subset import LabelsConfig, split
from hcmoco.rng import make_rng
from hcmoco.storage import Folder
from hcmoco_ray.commands.prepare import main
from tests.helpers import finetune_program as tiny
from tests.helpers.itop_files import frames, write_boxes, write_split
from tests.helpers.mutations import damage

TRAIN, TEST = 33, 6
SMALL = [
    *("init=scratch", "task.size=64", "epochs=1", "min_steps=2", "num_evals=1", "num_val_rows=4", "eval_batch_size=2"),
    *("train.lanes=2", "train.batch_size_per_lane=2", "train.workers=1", "train.gpu=false", "train.save_every=2"),
    *("train.cpus_per_worker=1", "train.threads_per_worker=1"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("download") / "ITOP side view"
    write_split(root, "train", frames(TRAIN, 3))
    write_split(root, "test", frames(TEST, 4))
    write_boxes(root, frames(TEST, 4).boxes)
    return root


@pytest.fixture(scope="module")
def shards(ray_session, source, tmp_path_factory):
    """Both splits, prepared."""
    home = tmp_path_factory.mktemp("shards")
    for name in ("train", "test"):
        assert main(["itop", "--source", str(source), "--split", name, "--out", str(home / name)]) == 0
    return home


def run(capsys, *arguments):
    """Exit status, stdout and stderr of one call of the program."""
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def rows_of(uri):
    opened = Shards.open(str(uri))
    return [row for group in range(len(opened.group_rows)) for row in opened.read_group(group).to_pylist()]


def test_from_files_to_shards(ray_session, source, shards, capsys):
    for name, content in (("train", frames(TRAIN, 3)), ("test", frames(TEST, 4))):
        status, out, err = run(capsys, "itop", "--source", source, "--split", name, "--check")
        assert (status, err) == (0, "")
        assert "nothing is missing" in out
        assert f"{int(content.valid.sum())} of {len(content.ids)} frames are valid" in out
        assert run(capsys, "verify", shards / name)[0] == 0
        manifest = read_manifest(Folder(str(shards / name)))
        assert (manifest.joints, manifest.joints3d, manifest.depth_codec, manifest.size) == (
            "itop-15",
            "itop-15",
            "zstd-delta",
            320,
        )
        assert manifest.rows == manifest.modalities["depth"] == manifest.modalities["joints3d"] == content.valid.sum()
        assert manifest.skipped == {
            "not approved by its annotators (is_valid = 0)": len(content.ids) - content.valid.sum()
        }
        assert "CC BY" in manifest.license
        rows = {row["id"]: row for row in rows_of(shards / name)}
        for number, at in enumerate(np.flatnonzero(content.valid)):
            row = rows[f"itop/{name}-{number + 1:05d}/{content.ids[at].decode()}"]
            depth = codecs.decode_depth(row["depth"], manifest.depth_codec, 320)[40:-40]
            assert np.array_equal(depth, np.rint(1000 * content.depth[at].astype(np.float64)).astype(np.uint16))
            assert np.array_equal(
                np.reshape(row["joints3d"], (15, 3)), content.world[at].astype(np.float32) * (1, -1, 1)
            )
            if name == "test":
                assert np.allclose(row["box"], content.boxes[number] + (0, 40, 0, 40))


def test_published_subsets_are_every_tenth_valid_frame(shards):
    """Whatever the order in which rows are stored."""
    opened = Shards.open(str(shards / "train"))
    chosen, _ = split(opened, LabelsConfig(subset="itop-10%"), ("depth", "joints3d"), seed=0)
    ids = sorted(row["id"] for row in chosen.rows(("id",)))
    assert [id.partition("/")[2].partition("/")[0] for id in ids] == ["train-00001", "train-00011"]


def test_what_is_missing_is_listed(source, tmp_path, capsys):
    root = tmp_path / "half"
    root.mkdir()
    shutil.copy(source / "ITOP_side_test_labels.h5", root)
    (root / "ITOP_side_test_depth_map.h5.gz").write_bytes(b"\x1f\x8b")
    status, out, err = run(capsys, "itop", "--source", root, "--split", "test", "--check")
    assert status == 2
    assert f"gunzip -k '{root / 'ITOP_side_test_depth_map.h5.gz'}'" in out
    assert f"{root / 'itop_side_bndbox_test.mat'}: does not exist" in out
    assert "2 of what is needed" in err
    status, _, err = run(capsys, "itop", "--source", root, "--split", "test", "--out", tmp_path / "out")
    assert status == 2
    assert "gunzip" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.slow
def test_it_is_trained_on_and_scored(shards, tmp_path):
    data = [
        f"data.train.path={shards / 'train'}",
        f"data.test.path={shards / 'test'}",
        "output_dir=runs/short",
        "subset=itop-10%",
    ]
    done = tiny.call(tmp_path, "pose", "--recipe", "paper-w18", *data, *SMALL, bare=True)
    assert done.status == 0, done
    results = tiny.results(done.folder)
    assert (results["labels"]["rows"], results["labels"]["text"], results["test"]["rows"]) == (2, "itop-10%", 4)
    again = tiny.evaluate(tmp_path, "runs/short", str(shards / "test"), "--piece-rows", "2", "--threads", "1")
    assert again.status == 0, again
    assert tiny.results(again.folder)["metrics"] == results["test"]["metrics"]
    assert cv2.imread(str(done.folder / "pictures" / "test.png")).std() > 0


@pytest.mark.parametrize("number", range(4))
def test_damaged_downloads_end_in_shards_or_in_one_line(ray_session, tmp_path, capsys, number):
    root, out = tmp_path / "a download", tmp_path / "out"
    content = frames(TEST, 4)
    write_split(root, "test", content, chunks=(1, 240, 320), compression="gzip")
    write_boxes(root, content.boxes)
    what = damage(root, make_rng(0, "prepare itop", number))
    print(what)  # shown where the time limit ends it
    status, _, err = run(capsys, "itop", "--source", root, "--split", "test", "--out", out, "--max-broken", 1)
    if status == 0:
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["rows"] + manifest["rejected"] + sum(manifest["skipped"].values()) == TEST, what
        assert run(capsys, "verify", out)[0] == 0, what
    else:
        assert status == 2, what
        assert re.fullmatch(r"error: .+", err.strip().splitlines()[-1]), what
