import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from hcmoco.tasks.densepose.config import DensePoseConfig
from hcmoco.tasks.densepose.detector import inside_crowd, make_boxes, make_proposals

CROWD = [0.0, 0.0, 60.0, 60.0]
PERSON = [80.0, 40.0, 120.0, 150.0]


def test_inside_a_crowd_is_more_than_half_of_the_box():
    boxes = torch.tensor([[10.0, 10, 20, 20], [55, 0, 65, 10], [54, 0, 64, 10], [70, 70, 90, 90], [0, 0, 60, 60]])
    found = inside_crowd(boxes, torch.tensor([CROWD, [200.0, 200, 300, 300]]))
    assert found.tolist() == [True, False, True, False, True]
    assert inside_crowd(boxes, torch.zeros(0, 4)).tolist() == [False] * 5


def _targets():
    return [{"boxes": torch.tensor([CROWD, PERSON]), "labels": torch.tensor([-1, 1])}]


def test_anchors_of_a_crowd_are_left_out():
    network = make_proposals(DensePoseConfig())
    anchors = torch.tensor([[5.0, 5, 30, 40], PERSON, [130.0, 100, 180, 180], CROWD, [82.0, 45, 118, 140]])
    labels, boxes = network.assign_targets_to_anchors([anchors], _targets())
    assert labels[0].tolist() == [-1, 1, 0, -1, 1]
    assert boxes[0][1].tolist() == PERSON


def test_proposals_of_a_crowd_are_left_out_and_matches_count_all_instances():
    heads = make_boxes(DensePoseConfig())
    proposals = torch.tensor([[5.0, 5, 30, 40], [82.0, 45, 118, 140], [130.0, 100, 180, 180], CROWD])
    matched, labels = heads.assign_targets_to_proposals(
        [proposals], [_targets()[0]["boxes"]], [_targets()[0]["labels"]]
    )
    assert labels[0].tolist() == [-1, 1, 0, -1]
    assert matched[0][1] == 1


@pytest.mark.parametrize("labels", [[], [-1]])
def test_images_without_people_are_all_background(labels):
    boxes = torch.tensor([CROWD][: len(labels)]).reshape(-1, 4)
    targets = [{"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}]
    torch.manual_seed(0)
    chosen, _, kinds, _ = make_boxes(DensePoseConfig()).select_training_samples(
        [torch.tensor([PERSON, [5.0, 5, 30, 40]])], targets
    )
    assert kinds[0].tolist() == [0] * len(chosen[0])
    assert PERSON in chosen[0].tolist()
    assert ([5.0, 5, 30, 40] in chosen[0].tolist()) == (not labels)


def test_anchors_stay_exact_whatever_the_maps_precision():
    config = DensePoseConfig(anchor_sizes=((16.0,), (32.0,), (64.0,), (112.0,), (160.0,)))
    anchors = make_proposals(config).anchor_generator
    images = ImageList(torch.zeros(1, 3, 576, 320), [(576, 320)])
    maps = [torch.zeros(1, 4, 576 // stride, 320 // stride) for stride in (4, 8, 16, 32, 64)]
    plain, half = anchors(images, maps)[0], anchors(images, [each.bfloat16() for each in maps])[0]
    assert half.dtype == torch.float32
    assert torch.equal(plain, half)
    assert len(plain) == 3 * sum(each.shape[2] * each.shape[3] for each in maps)
    # The first anchors of the second cell of p1, and of p5's second row, are moved by one stride.
    assert torch.equal(plain[3:6] - plain[:3], torch.tensor([4.0, 0, 4, 0]).expand(3, 4))
    start = len(plain) - 3 * 9 * 5
    assert torch.equal(
        plain[start + 15 : start + 18] - plain[start : start + 3], torch.tensor([0.0, 64, 0, 64]).expand(3, 4)
    )
