"""Keypoints of every tool through the program, into shards and back."""

import json

import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.verify import verify
from hcmoco_ray.commands.prepare import main
from tests.helpers import keypoint_files as files
from tests.helpers.keypoint_files import WRITTEN, assert_are
from tests.helpers.readers import write_folder

NAMES = ("openpose body-25", "alphapose", "crowdpose", "mmpose", "mediapipe", "yolo labels", "azure kinect")


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def persons_of(shards: Shards) -> dict[str, Person]:
    rows = (row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist())
    return {row["id"]: Person.from_row(row) for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_from_a_tools_files_to_shards(ray_session, tmp_path, capsys, name):
    written, taken, out = WRITTEN[name], files.shots(), tmp_path / "shards"
    images, path = files.write_pictures(tmp_path, taken), written.write(tmp_path, taken)
    asked = [f"--{key.replace('_', '-')}={value}" for key, value in written.ask(tmp_path).items()]
    command = ["keypoints", f"--images={images}", f"--keypoints={path}", f"--depth={tmp_path / 'depth'}", *asked]
    status, shown, err = run(capsys, *command, "--check")
    assert (status, err) == (0, "")
    assert "3 people, 2 pictures, 2 depth pictures" in shown
    assert "nothing is missing" in shown
    status, shown, err = run(capsys, *command, f"--out={out}")
    assert status == 0, err
    assert f"format {written.format}, joints {written.joints} (recognized)" in shown
    assert "1 skipped: " in shown
    assert verify(str(out)) == []
    shards = Shards.open(str(out))
    assert shards.manifest.joints == written.joints
    assert_are(persons_of(shards), taken, written.joints)
    used = shards.manifest.provenance.arguments
    assert (used["format"], used["joints"]) == (written.format, written.joints)
    assert f"from confidence {used['min_confidence']:g} on" in shown
    assert f"from score {used['min_score']:g} on" in shown
    # The same command again does nothing, and another threshold is another data set.
    assert "already prepared" in run(capsys, *command, f"--out={out}")[1]
    status, _, err = run(capsys, *command, f"--out={out}", "--min-confidence=0.123")
    assert status == 2
    assert f"with min_confidence = {used['min_confidence']}, not 0.123 as requested" in err


def test_a_refusal_is_one_line_and_its_advice_helps(ray_session, tmp_path, capsys):
    taken, out = files.shots(), tmp_path / "shards"
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken)
    command = ["keypoints", f"--images={images}", f"--keypoints={path}", f"--out={out}"]
    status, _, err = run(capsys, *command)
    assert status == 2
    assert err.strip().endswith("say which: --joints coco-17 or h36m-17")
    entries = json.loads(path.read_text())
    for entry in entries:
        entry["keypoints"] = [value * (1 if k % 3 < 2 else 100) for k, value in enumerate(entry["keypoints"])]
    path.write_text(json.dumps(entries))
    status, _, err = run(capsys, *command, "--joints=coco-17")
    assert status == 2
    assert err.strip().endswith("they are percent: give --full-confidence 100")
    assert not out.exists() or not list(out.iterdir())
    status, _, err = run(capsys, *command, "--joints=coco-17", "--full-confidence=100")
    assert status == 0, err
    assert_are(persons_of(Shards.open(str(out))), taken, "coco-17")


def test_a_folder_that_was_prepared_before_these_options_is_still_the_same(ray_session, tmp_path, capsys):
    write_folder(tmp_path / "mine")
    command = ["folder", f"--path={tmp_path / 'mine'}", "--label-map=human3.6m", f"--out={tmp_path / 'shards'}"]
    assert run(capsys, *command)[0] == 0
    manifest = tmp_path / "shards" / "manifest.json"
    content = json.loads(manifest.read_text())
    for key in ("min_confidence", "full_confidence", "coordinates", "axes", "keypoint_size"):
        assert content["provenance"]["arguments"].pop(key) is None
    manifest.write_text(json.dumps(content))
    assert "already prepared" in run(capsys, *command)[1]
