"""NTU RGB+D from the download to a pre-training, through the programs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import read_manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.verify import verify
from hcmoco.rng import make_rng
from hcmoco.storage import Folder
from hcmoco_ray.commands.prepare import main, parser
from hcmoco_ray.prepare.reader import from_arguments
from hcmoco_ray.prepare.request import REQUEST, WORK, request_of
from tests.helpers import mpii_files, ntu_files, pretrain_program
from tests.helpers.mutations import damage

CLIPS = [
    *(ntu_files.Clip(f"S001C00{camera}P00{k}R001A001", frames=20, person=k) for camera in (1, 2) for k in (1, 2, 3)),
    ntu_files.Clip("S018C001P041R001A061", frames=30, person=4, bodies={10: 2, 20: 0}),
    ntu_files.Clip("S001C001P001R001A055", frames=10, person=5),
]
ROWS, LEFT_OUT = 13, 3


@pytest.fixture(scope="module")
def download(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("my downloads") / "NTU RGB+D"
    ntu_files.write(root, CLIPS, width=480)
    return root


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_from_the_download_to_verified_shards(ray_session, download, tmp_path, capsys):
    status, out, err = run(capsys, "ntu", "--source", download, "--check")
    assert (status, err) == (0, "")
    assert "ntu: 7 clips, 7 RGB videos, 7 skeleton files, 15 depth pictures to be read" in out
    assert "nothing is missing" in out

    command = ["ntu", "--source", download, "--out", tmp_path / "ntu"]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert f"prepared, {ROWS} rows" in out
    manifest = read_manifest(Folder(str(tmp_path / "ntu")))
    assert (manifest.rows, manifest.rejected, manifest.joints, manifest.joints3d) == (ROWS, 0, "kinect-25", "kinect-25")
    assert manifest.skipped == {"more than one body": 1, "no body": 1, "the clip's action is one of two people": 1}
    assert sorted(manifest.calibrations) == ["S001C001", "S001C002", "S018C001"]
    assert all(each["median_px"] < 0.05 and not each["refused"] for each in manifest.calibrations.values())
    assert "agreement" in manifest.license
    card = (tmp_path / "ntu" / "README.md").read_text()
    assert "S018C001" in card
    assert "median_px" in card
    assert verify(str(tmp_path / "ntu"), sample=ROWS) == []
    assert "already prepared" in run(capsys, *command)[1]

    shards = Shards.open(str(tmp_path / "ntu"))
    persons = [
        Person.from_row(row) for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()
    ]
    by_tag = {clip.tag: clip for clip in CLIPS}
    for person in persons:
        tag, _, number = person.id.removeprefix("ntu/").partition("F")
        seen = ntu_files.truth(by_tag[tag], int(number))
        zoom = person.size / person.crop[2]
        assert np.allclose(person.keypoints[:, :2] / zoom + person.crop[:2], seen.keypoints[:, :2], atol=0.01)

    part = tmp_path / "part"
    assert (
        run(
            capsys,
            "ntu",
            "--source",
            download,
            "--out",
            part,
            "--dataset",
            "60",
            "--performers",
            "[1, 2]",
            "--split",
            "val",
        )[0]
        == 0
    )
    manifest = read_manifest(Folder(str(part)))
    assert (manifest.splits, manifest.skipped) == ({"val": 8}, {"the clip's action is one of two people": 1})


def test_what_a_killed_run_measured_is_not_measured_again(ray_session, download, tmp_path, capsys):
    command = ["ntu", "--source", str(download), "--setups", "1"]
    assert run(capsys, *command, "--out", tmp_path / "whole")[0] == 0
    measured = read_manifest(Folder(str(tmp_path / "whole"))).calibrations

    again = Folder(str(tmp_path / "again"))
    source = from_arguments("ntu", parser().parse_args([*command, "--out", again.uri]))
    again.write(REQUEST, json.dumps(request_of(source, len(source.items()))).encode())
    again.write(
        f"{WORK}/calibration-S001C001.json", json.dumps({**measured["S001C001"], "by": "the killed run"}).encode()
    )
    again.write(f"{WORK}/calibration-S001C002.json", b'{"cut')
    assert run(capsys, *command, "--out", again.uri)[0] == 0
    manifest = read_manifest(again)
    assert manifest.calibrations == {**measured, "S001C001": {**measured["S001C001"], "by": "the killed run"}}
    assert manifest.content == read_manifest(Folder(str(tmp_path / "whole"))).content


def test_what_was_mended_is_measured_and_read_again(ray_session, download, tmp_path, capsys):
    root = tmp_path / "NTU"
    shutil.copytree(download, root)
    skeletons = sorted((root / "nturgb+d_skeletons").glob("S001*A001.skeleton"))
    whole = [each.read_bytes() for each in skeletons]
    for each in skeletons[:4]:
        each.write_bytes(b"moved")
    command = ["ntu", "--source", root, "--out", tmp_path / "shards"]
    status, _, err = run(capsys, *command)
    assert status == 2
    assert "are rejected so far" in err
    for each, data in zip(skeletons, whole, strict=True):
        each.write_bytes(data)
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert f"prepared, {ROWS} rows" in out
    assert " 0 rejected" in out
    assert not any(each["refused"] for each in read_manifest(Folder(str(tmp_path / "shards"))).calibrations.values())


def test_the_check_lists_what_is_missing(download, tmp_path, capsys):
    root = tmp_path / "NTU"
    ntu_files.write(root, CLIPS[:1], width=240)
    (root / "nturgb+d_depth_masked" / CLIPS[0].tag / "MDepth-00000020.png").unlink()
    status, out, err = run(capsys, "ntu", "--source", root, "--check")
    assert status == 2
    assert "MDepth-00000020.png: does not exist" in out
    assert err.startswith("error: ntu: 1 of what is needed is missing")
    assert run(capsys, "ntu", "--source", tmp_path / "nowhere", "--check")[0] == 2


def test_damaged_downloads_are_read_or_refused(ray_session, tmp_path, capsys):
    """Four kinds of damage, each through the program: rows, rejected and skipped records are all that
    there are.
    """
    clips = [ntu_files.Clip(f"S001C001P00{k}R001A001", frames=10, person=k) for k in (1, 2, 3)]
    seen = set()
    for number in range(4):
        source, out = tmp_path / f"{number}" / "download", tmp_path / f"{number}" / "shards"
        ntu_files.write(source, clips, width=240)
        what = damage(source, make_rng(0, "prepare ntu", number))
        print(what)  # shown where the time limit ends it
        status, _, err = run(capsys, "ntu", "--source", source, "--out", out, "--max-broken", "1")
        assert status == 0, f"{what}: {err}"
        manifest = read_manifest(Folder(str(out)))
        assert manifest.rows + manifest.rejected + sum(manifest.skipped.values()) >= len(clips), what
        assert manifest.rows >= len(clips) - 1, what
        assert all(len(each.reason.split()) > 1 for each in manifest.rejected_examples), what
        assert verify(str(out), sample=3) == [], what
        seen.add(manifest.rejected)
    assert seen == {0, 1}


@pytest.mark.slow
def test_the_recipe_of_the_paper_trains_on_them_and_mpii(ray_session, download, tmp_path, monkeypatch, capsys):
    """The recipe as it is but for sizes."""
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    mpii_files.write_mpii(tmp_path / "mpii")
    assert run(capsys, "mpii", "--source", tmp_path / "mpii", "--out", "data/mpii-train")[0] == 0
    assert run(capsys, "ntu", "--source", download, "--out", "data/ntu60-train", "--dataset", "60")[0] == 0
    encoders = [
        f"model.{each}.{what}"
        for each in ("rgb", "depth")
        for what in ("name=test_resnet", "fusion=null", "init=scratch")
    ]
    small = (
        "output_dir=runs/paper augment.size=64 model.skeleton.width=16 model.skeleton.num_blocks=1 model.embedding=16 "
        "objective.num_negatives=8 objective.num_anchors=12 stages.stage1_steps=3 stages.stage2_steps=3 "
        "train.lanes=2 train.batch_size_per_lane=4 "
        "train.window_steps=2 train.workers=1 "
        "train.gpu=false train.cpus_per_worker=1 train.threads_per_worker=1 train.save_every=3 train.log_every=1"
    )
    done = pretrain_program.call(tmp_path, *encoders, *small.split(), recipe="paper-w18")
    assert done.status == 0, done.err
    (tracked,) = pretrain_program.tracked(done.folder)
    assert tracked["status"] == "FINISHED"
    rows = {
        name.removeprefix("train/rows/"): points[-1][1]
        for name, points in tracked["metrics"].items()
        if name.startswith("train/rows/")
    }
    assert [rows[f"d/rgb-depth/{source}"] for source in ("ntu", "mpii")] == [4, 0]
    assert [rows[f"s/rgb-keypoints/{source}"] for source in ("ntu", "mpii")] == [4, 4]
    assert all(np.isfinite(value) for _, value in tracked["metrics"]["train/loss"])
