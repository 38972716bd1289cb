"""Two detectors that are fitted to synthetic people find the joints of others, through the program.

The two fits take about 17 minutes of one core.
"""

import pytest

from hcmoco_ray.commands.prepare import main
from tests.helpers import fitted_detectors

SCORED = 100  # pictures, of two people each
FIRST = 1_000_000


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    fitted_detectors.main(folder)
    return folder


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("heatmaps.onnx", ["--detect-input=rgb-0-1", "--joint-set=coco-17"]),
        ("keypoint-rcnn.pth", ["--detect-size=96,192"]),
    ],
)
def test_joints_of_people_that_it_has_not_seen(ray_session, weights, tmp_path, name, options):
    truth = fitted_detectors.write_unseen(tmp_path, FIRST, SCORED)
    if name.endswith(".pth"):
        (tmp_path / "people.jsonl").unlink()  # it finds both people of each picture itself
    out = tmp_path / "shards"
    command = ["folder", f"--path={tmp_path}", f"--detect={weights / name}", "--min-confidence=0", *options]
    assert main([*command, f"--out={out}"]) == 0
    assert fitted_detectors.share_placed(str(out), truth) >= 0.8
