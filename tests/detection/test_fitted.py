"""A detector that is fitted to synthetic people finds the joints of others, through the program."""

import pytest

from hcmoco_ray.commands.prepare import main
from tests.helpers import fitted_heatmaps, fitted_people
from tests.helpers.fitted_people import People

FIRST, COUNT = 1_000_000, 200  # of the people who are scored


@pytest.mark.slow
@pytest.mark.long
def test_a_heatmap_network_finds_the_joints_of_people_that_it_has_not_seen(ray_session, tmp_path, one_thread):
    weights = fitted_heatmaps.write_heatmaps(tmp_path)
    pictures, out = tmp_path / "pictures", tmp_path / "shards"
    truth = fitted_people.write_unseen(pictures, People(FIRST, COUNT), beside=(2,))
    fitted_people.write_boxes(pictures, truth)
    command = ["folder", f"--path={pictures}", f"--detect={weights}", "--detect-input=rgb-0-1", "--joint-set=coco-17"]
    assert main([*command, f"--out={out}"]) == 0
    assert fitted_people.score(str(out), truth, pictures).joints >= 0.8
