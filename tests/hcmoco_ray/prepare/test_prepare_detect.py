"""`prepare --detect` on pictures in which it is known where everybody's joints are."""

import json

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco_ray.commands.prepare import main
from tests.helpers import onnx_files
from tests.helpers.oriented import as_stored, tagged

WIDTH, HEIGHT = 64, 48
INPUT = (80, 60)  # 1.25 times the picture: the model is shown a picture's own pixels


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def joints_of(seed: int, low: tuple[int, int] = (2, 2), high: tuple[int, int] = (WIDTH - 2, HEIGHT - 2)) -> np.ndarray:
    """Pixel indices x, y of 7 joints, all different."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation((high[0] - low[0]) * (high[1] - low[1]))[:7]
    return np.stack(np.divmod(cells, high[1] - low[1]), 1) + low


def rows(uri) -> dict[str, Person]:
    shards = Shards.open(str(uri))
    tables = (shards.read_group(group) for group in range(len(shards.group_rows)))
    persons = (Person.from_row(row) for table in tables for row in table.to_pylist())
    return {each.id: each for each in persons}


def placed(person: Person) -> np.ndarray:
    """The visible joints in pixels of the whole picture; crops here are not resized."""
    assert person.crop[2] == person.size
    seen = person.keypoints[:, 2] > 0
    assert seen.tolist() == [True] * 7 + [False] * 10
    return person.keypoints[seen, :2] + person.crop[:2]


@pytest.mark.slow
@pytest.mark.long
def test_turned_photographs(ray_session, tmp_path, capsys):
    pictures, weights = tmp_path / "mine", onnx_files.write_heatmaps(tmp_path / "dots.onnx", INPUT)
    pictures.mkdir()
    wanted = joints_of(0)
    upright = onnx_files.picture((WIDTH, HEIGHT), [wanted])
    for orientation in range(1, 9):
        stored = np.ascontiguousarray(as_stored(upright, orientation))
        (pictures / f"{orientation}.png").write_bytes(tagged(codecs.encode_png(stored), orientation))
    (pictures / "empty.png").write_bytes(codecs.encode_png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    (pictures / "damaged.png").write_bytes(codecs.encode_png(upright)[:-30])
    out = tmp_path / "shards"
    command = ["folder", f"--path={pictures}", f"--out={out}"]
    status, _, error = run(capsys, *command)
    assert status == 2
    assert "people.jsonl does not exist" in error
    assert error.rstrip().endswith(
        "or give --detect WEIGHTS of a detector, which finds the people of all pictures in the folder"
    )
    command += [f"--detect={weights}"]
    for option, asked in (
        ("--detect-input=rgb-0-1", "give --detect-input rgb-imagenet"),
        ("--joint-set=coco-17", "say it with --joint-set coco-17 or h36m-17"),
        ("--detect-boxes=picture", "give --detect-boxes picture if"),
    ):
        status, _, error = run(capsys, *command)
        assert status == 2
        assert asked in error
        command.append(option)
    status, _, error = run(capsys, *command, "--gpus=1")
    assert status == 2
    assert error.rstrip().endswith("without --gpus the detector computes on CPUs")
    status, _, error = run(capsys, *command)
    assert status == 2
    assert "--max-broken" in error  # the damaged picture is too many
    status, output, error = run(capsys, *command, "--max-broken=0.2")
    assert status == 0, error
    assert "a joint is visible from confidence 0.3 on" in output
    assert "1 skipped: no joint that the detector found is confident enough and in the picture" in output
    found = rows(out)
    assert sorted(found) == [f"folder/{orientation}.png" for orientation in range(1, 9)]
    for person in found.values():
        assert np.array_equal(placed(person), wanted + 0.5)
    arguments = json.loads((out / "manifest.json").read_text())["provenance"]["arguments"]
    assert arguments["detect_sha256"] == onnx_files.sha256(weights)
    assert (arguments["min_confidence"], arguments["detect_boxes"]) == (0.3, "picture")
    assert arguments["joint_set"] == "coco-17"
    assert "already prepared" in run(capsys, *command)[1]
