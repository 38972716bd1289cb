"""The two parsing data sets from the downloaded files to a scored model: what is missing, shards, a short run of the
published recipe.
"""

import json
import re
import shutil

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.body_parts import IGNORE
from hcmoco.data.shards.reader import Shards
from hcmoco.rng import make_rng
from hcmoco_ray.commands.prepare import main
from tests.helpers import finetune_program as tiny
from tests.helpers.h36m_files import make_clip, write_h36m, write_video
from tests.helpers.mutations import damage
from tests.helpers.ntu_parsing_files import frame_name, write_ntu_parsing

SMALL = [
    *("init=scratch", "task.size=64", "epochs=1", "min_steps=2", "num_evals=1", "num_val_rows=2", "eval_batch_size=2"),
    *("train.lanes=2", "train.batch_size_per_lane=2", "train.workers=1", "train.gpu=false", "train.save_every=2"),
    *("train.cpus_per_worker=1", "train.threads_per_worker=1"),
]


@pytest.fixture(scope="module")
def ntu_source(tmp_path_factory):
    root = tmp_path_factory.mktemp("download") / "parsing 4K"
    return root, write_ntu_parsing(root, train=10, val=2)


@pytest.fixture(scope="module")
def h36m_source(tmp_path_factory):
    root = tmp_path_factory.mktemp("download") / "Human 3.6M"
    return root, write_h36m(root, frames=130)


def run(capsys, *arguments):
    """Exit status, stdout and stderr of one call of the program."""
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def rows_of(uri):
    shards = Shards.open(str(uri))
    return [row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()]


def fine_tuned(home, task, train, test):
    """The published recipe, its encoder included, on small pictures for two steps; scored at its own 1000 x 1000
    pixels.
    """
    data = [f"data.train.path={train}", f"data.test.path={test}", "output_dir=runs/short"]
    done = tiny.call(home, task, "--recipe", "paper-w18", *data, *SMALL, bare=True)
    assert done.status == 0, done
    return tiny.results(home / "runs" / "short")


def test_lost_videos_stop_as_lost_records_do(ray_session, h36m_source, tmp_path, capsys):
    """One of two videos is gone, and with it half of the frames, however few records its loss counts as."""
    root = tmp_path / "Human 3.6M"
    shutil.copytree(h36m_source[0], root)
    next((root / "S1" / "Videos").glob("*.mp4")).write_bytes(b"")
    command = ["h36m-parsing", "--source", root, "--subjects", "S1", "--out", tmp_path / "out"]
    status, _, err = run(capsys, *command, "--max-broken", 0.3)
    assert status == 2
    assert re.search(r"error: 1 of the 2 videos of h36m-parsing are rejected so far, --max-broken 0.3 allows 0", err)
    assert run(capsys, *command, "--max-broken", 0.5)[0] == 0
    assert "One of the videos that does not open counts as one record." in (tmp_path / "out" / "README.md").read_text()


def test_ntu_parsing_from_files_to_shards(ray_session, ntu_source, tmp_path, capsys):
    root, frames = ntu_source
    for split, count in (("train", 10), ("val", 2)):
        command = ["ntu-parsing", "--source", root, "--split", split]
        status, out, err = run(capsys, *command, "--check")
        assert (status, err) == (0, "")
        assert (
            f"ntu-parsing: {count} lines of the list, {count} RGB pictures, {count} depth pictures, {count} label "
            "pictures" in out
        )
        assert "nothing is missing" in out
        status, out, err = run(capsys, *command, "--out", tmp_path / split)
        assert status == 0, err
        assert f"prepared, {count} rows in" in out
        assert run(capsys, "verify", tmp_path / split)[0] == 0
    rows = rows_of(tmp_path / "train")
    assert {row["id"] for row in rows} == {f"ntu-parsing/{name}" for name in list(frames)[:10]}
    top = (512 - 424) // 2
    for row in rows:
        parts, depth = codecs.decode_labels(row["parts"]), codecs.decode_depth(row["depth"], "png16")
        frame = frames[row["id"].partition("/")[2]]
        assert np.array_equal(parts[top:-top], frame.parts)
        assert np.array_equal(depth[top:-top], frame.depth)
        assert (parts[:top] == IGNORE).all()
    manifest = Shards.open(str(tmp_path / "train")).manifest
    assert "ROSE Lab" in manifest.license
    assert manifest.modalities["parts"] == manifest.modalities["depth"] == 10
    assert "research" in (tmp_path / "train" / "README.md").read_text()


@pytest.mark.long
@pytest.mark.slow
def test_ntu_parsing_is_trained_on_and_scored(ray_session, ntu_source, tmp_path, capsys):
    root, frames = ntu_source
    for split in ("train", "val"):
        assert run(capsys, "ntu-parsing", "--source", root, "--split", split, "--out", tmp_path / split)[0] == 0
    results = fine_tuned(tmp_path, "parsing-depth", tmp_path / "train", tmp_path / "val")
    assert (results["labels"]["rows"], results["test"]["rows"]) == (8, 2)
    # What pads the pictures is not scored: the shares of the classes are those of the pictures, resampled.
    shares = {name: share for name, _, _, share in results["per_class"]["rows"]}
    scored = [frames[name].parts for name in list(frames)[10:]]
    assert shares["background"] == pytest.approx(np.mean([(parts == 0).mean() for parts in scored]), abs=2e-3)


def test_h36m_parsing_from_files_to_shards(ray_session, h36m_source, tmp_path, capsys):
    root, clips = h36m_source
    for split, subject in (("train", "S1"), ("test", "S9")):
        command = ["h36m-parsing", "--source", root, "--split", split, "--subjects", subject]
        status, out, err = run(capsys, *command, "--check")
        assert (status, err) == (0, "")
        assert "h36m-parsing: 2 videos, 2 label tracks" in out
        status, out, err = run(capsys, *command, "--out", tmp_path / split)
        assert status == 0, err
        assert "prepared, 12 rows in" in out
        assert run(capsys, "verify", tmp_path / split)[0] == 0
    rows = rows_of(tmp_path / "train")
    assert len({row["id"] for row in rows}) == 12
    for row in rows:
        _, subject, stem, number = row["id"].split("/")
        clip = clips[f"{subject}/{stem}"]
        left = (clip.parts.shape[1] - clip.parts.shape[2]) // 2
        assert np.array_equal(
            codecs.decode_labels(row["parts"])[:, left : left + clip.parts.shape[2]], clip.parts[int(number)]
        )
        assert row["keypoints"] is None
    manifest = Shards.open(str(tmp_path / "train")).manifest
    assert (manifest.joints, manifest.modalities["rgb"]) == ("", 12)
    assert "Human3.6M licence" in manifest.license


@pytest.mark.slow
def test_h36m_parsing_is_trained_on_and_scored(ray_session, h36m_source, tmp_path, capsys):
    for split, subject in (("train", "S1"), ("test", "S9")):
        command = [
            "h36m-parsing",
            "--source",
            h36m_source[0],
            "--split",
            split,
            "--subjects",
            subject,
            "--out",
            tmp_path / split,
        ]
        assert run(capsys, *command)[0] == 0
    results = fine_tuned(tmp_path, "parsing-rgb", tmp_path / "train", tmp_path / "test")
    assert (results["labels"]["rows"], results["test"]["rows"]) == (10, 12)


def test_what_is_missing_is_listed_and_then_set_aside(ray_session, ntu_source, tmp_path, capsys):
    root = tmp_path / "parsing"
    shutil.copytree(ntu_source[0], root)
    gone = root / "depth" / f"MDepth-{frame_name(3)}.png"
    gone.unlink()
    status, out, err = run(capsys, "ntu-parsing", "--source", root, "--check")
    assert status == 2
    assert f"  {gone}: does not exist" in out.splitlines()
    assert "1 of what is needed is missing" in err
    status, out, err = run(capsys, "ntu-parsing", "--source", root, "--out", tmp_path / "out", "--max-broken", 0.2)
    assert status == 0, err
    assert "9 rows" in out
    assert f"MDepth-{frame_name(3)}.png' does not exist" in out


def test_frames_beyond_the_labels_are_counted_as_left_out(ray_session, tmp_path, capsys):
    write_video(tmp_path / "h36m", "S1", "Eating.1", make_clip(3, 120, 48), label_frames=60)
    status, out, _ = run(
        capsys, "h36m-parsing", "--source", tmp_path / "h36m", "--subjects", "S1", "--out", tmp_path / "out"
    )
    assert status == 0
    assert "2 skipped: the labels end before the video does" in out
    manifest = Shards.open(str(tmp_path / "out")).manifest
    assert (manifest.rows, manifest.skipped) == (3, {"the labels end before the video does": 2})


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("dataset", ["ntu-parsing", "h36m-parsing"])
def test_damaged_downloads_end_in_shards_or_in_one_line(
    ray_session, ntu_source, h36m_source, tmp_path, capsys, dataset, number
):
    source, arguments, records = {
        "ntu-parsing": (ntu_source[0], [], 10),
        "h36m-parsing": (h36m_source[0], ["--subjects", "S1"], 12),
    }[dataset]
    root = tmp_path / "download"
    shutil.copytree(source, root)
    what = damage(root, make_rng(0, f"prepare {dataset}", number))
    status, _, err = run(capsys, dataset, "--source", root, *arguments, "--out", tmp_path / "out", "--max-broken", 1)
    assert "Traceback" not in err, what
    if status == 0:
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        # A video that does not open is one record, whatever it held.
        assert manifest["rows"] + manifest["rejected"] <= records, what
        assert manifest["rejected"] or manifest["rows"] == records or dataset == "ntu-parsing", what
        assert run(capsys, "verify", tmp_path / "out")[0] == 0, what
    else:
        assert status == 2, what
        assert re.fullmatch(r"error: .+", err.strip().splitlines()[-1]), what
