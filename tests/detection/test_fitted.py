"""A detector that is fitted to synthetic people finds the joints of others, through the program."""

import pytest

from hcmoco_ray.commands.prepare import main
from tests.helpers import fitted_detectors

SCORED = 100  # pictures, of two people each
FIRST = 1_000_000


@pytest.mark.slow
@pytest.mark.long
def test_joints_of_people_that_it_has_not_seen(ray_session, tmp_path, one_thread):
    weights = fitted_detectors.write_heatmaps(tmp_path)
    pictures, out = tmp_path / "pictures", tmp_path / "shards"
    pictures.mkdir()
    truth = fitted_detectors.write_unseen(pictures, FIRST, SCORED)
    command = ["folder", f"--path={pictures}", f"--detect={weights}", "--detect-input=rgb-0-1", "--joint-set=coco-17"]
    assert main([*command, f"--out={out}"]) == 0
    assert fitted_detectors.share_placed(str(out), truth) >= 0.8
