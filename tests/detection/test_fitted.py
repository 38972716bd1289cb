"""Networks that are fitted to synthetic people find the joints and the masks of others, through the program."""

import numpy as np
import pytest

from hcmoco_ray.commands.prepare import main
from tests.helpers import fitted_heatmaps, fitted_people, fitted_rcnn
from tests.helpers.fitted_people import SIDE, People

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(7200),  # the fit alone takes 10 minutes of one core, and three times that elsewhere
]

FIRST, COUNT = 1_000_000, 200  # of the people who are scored
EXIF = (1, 2, 3, 4, 5, 6, 7, 8)


def test_a_heatmap_network_finds_the_joints_of_people_that_it_has_not_seen(ray_session, tmp_path, one_thread):
    weights = fitted_heatmaps.write_heatmaps(tmp_path)
    pictures, out = tmp_path / "pictures", tmp_path / "shards"
    truth = fitted_people.write_unseen(pictures, People(FIRST, COUNT), beside=(2,))
    fitted_people.write_boxes(pictures, truth)
    command = ["folder", f"--path={pictures}", f"--detect={weights}", "--detect-input=rgb-0-1", "--joint-set=coco-17"]
    assert main([*command, f"--out={out}"]) == 0
    assert fitted_people.score(str(out), truth, pictures).joints >= 0.8


@pytest.fixture(scope="module")
def rcnn(tmp_path_factory):
    """Weights of a Keypoint R-CNN and of a Mask R-CNN."""
    return fitted_rcnn.write_rcnn(tmp_path_factory.mktemp("weights"))


def test_a_keypoint_rcnn_finds_people_that_it_has_not_seen_and_their_joints(ray_session, tmp_path, one_thread, rcnn):
    """One to three people in a picture of twice the pixels that the network sees, stored in all eight orientations."""
    pictures, out = tmp_path / "pictures", tmp_path / "shards"
    truth = fitted_people.write_unseen(pictures, People(FIRST, COUNT, 2 * SIDE), (1, 2, 3), EXIF)
    detector = [f"--detect={rcnn[0]}", f"--detect-size={SIDE},{3 * SIDE}", "--min-confidence=0"]
    assert main(["folder", f"--path={pictures}", *detector, f"--out={out}"]) == 0
    scored = fitted_people.score(str(out), truth, pictures)
    assert scored.joints >= 0.8
    assert scored.missing <= 0.05 * COUNT
    assert scored.extra <= 0.2 * COUNT


def test_a_mask_rcnn_keeps_the_depth_of_people_that_it_has_not_seen(ray_session, tmp_path, one_thread, rcnn):
    """The people are found by the Keypoint R-CNN, and their background is removed by the Mask R-CNN."""
    pictures, out = tmp_path / "pictures", tmp_path / "shards"
    truth = fitted_people.write_unseen(pictures, People(FIRST, COUNT), (1, 2), EXIF, depth=True)
    detector = [f"--detect={rcnn[0]}", f"--detect-size={SIDE},{3 * SIDE}", "--min-confidence=0"]
    segmenter = [f"--segment={rcnn[1]}", f"--segment-side={SIDE}"]
    assert main(["folder", f"--path={pictures}", *detector, *segmenter, f"--out={out}"]) == 0
    overlaps = fitted_people.score(str(out), truth, pictures).overlaps
    assert np.median(overlaps) >= 0.7
