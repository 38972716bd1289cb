import cv2
import numpy as np
import pytest
import torch

from hcmoco.data import codecs
from hcmoco.synthetic.body.mesh import BODY, load_asset
from hcmoco.synthetic.body.surface_labels import surface_labels
from hcmoco.tasks.densepose.targets import (
    CROWD,
    MASK_SIDE,
    PERSON,
    foreground_in,
    places_in,
    read_instances,
    scene_targets,
    to_truth,
)
from tests.helpers.pasted_scenes import pasted_scene


def _person(box, mask=None, points=None, crowd=False):
    points = None if points is None else np.asarray(points, np.float32).reshape(-1, 5)
    return {"box": np.asarray(box, np.float32), "mask": mask, "dp_points": points, "crowd": crowd}


def test_instances_come_back_as_they_were_written():
    mask = np.zeros((30, 40), bool)
    mask[3:20, 5:9] = True
    points = [[6.5, 4.5, 3, 0.25, 0.5], [7.5, 9.5, 24, 1, 0]]
    png = codecs.encode_labels(mask * np.uint8(255))
    row = {
        "width": 40, "height": 30,
        "instances": [
            {"box": [5, 3, 9, 20], "mask": png, "dp_points": np.ravel(points).tolist(), "crowd": False},
            {"box": [0, 0, 40, 30], "mask": None, "dp_points": None, "crowd": True},
        ],
    }  # fmt: skip
    person, crowd = read_instances(row)
    np.testing.assert_array_equal(person["mask"], mask)
    np.testing.assert_array_equal(person["dp_points"], np.float32(points))
    assert person["box"].tolist() == [5, 3, 9, 20]
    assert crowd["mask"] is None
    assert crowd["dp_points"] is None
    assert crowd["crowd"]
    assert read_instances({"width": 4, "height": 4}) == []
    with pytest.raises(ValueError, match="a mask is 40 x 30 pixels, the image 41 x 30"):
        read_instances({**row, "width": 41})


def test_targets_scale_with_the_image_and_leave_out_what_is_no_person():
    people = [
        _person([10, 20, 50, 100], points=[[12, 30, 1, 0.2, 0.4], [40, 90, 0, 0, 0]]),
        _person([60, 20, 60.5, 90]),
        _person([0, 0, 30, 30], mask=np.ones((120, 120), bool), points=[[1, 1, 1, 0, 0]], crowd=True),
    ]
    targets = scene_targets(people, (0.5, 2.0))
    np.testing.assert_allclose(targets.boxes, [[5, 40, 25, 200], [0, 0, 15, 60]])
    assert targets.labels.tolist() == [PERSON, CROWD]
    np.testing.assert_allclose(targets.points[0, 0], [6, 60, 1, 0.2, 0.4])
    assert targets.has_point.tolist() == [[True, False], [False, False]]
    assert targets.has_mask.tolist() == [False, False]


def test_mask_over_its_box_is_the_mask_under_the_grid():
    mask = np.zeros((60, 60), bool)
    cv2.circle(canvas := mask.astype(np.uint8), (30, 34), 15, 1, -1)
    mask = canvas.astype(bool)
    targets = scene_targets([_person([10, 12, 50, 56], mask)])
    for row, column in ((0, 0), (56, 56), (20, 80), (111, 111), (70, 5)):
        x, y = 10 + (column + 0.5) / MASK_SIDE * 40, 12 + (row + 0.5) / MASK_SIDE * 44
        assert targets.masks[0, row, column] == mask[int(y), int(x)]


def test_two_mirrors_are_none_and_one_moves_everything_together():
    people = read_instances(pasted_scene(1))
    plain = scene_targets(people)
    flipped = scene_targets(people, flip_width=192)
    np.testing.assert_allclose(flipped.boxes[:, 0] + plain.boxes[:, 2], 192)
    np.testing.assert_allclose(flipped.points[..., 0] + plain.points[..., 0], 192)
    np.testing.assert_array_equal(flipped.points[..., [1, 4]], plain.points[..., [1, 4]])
    np.testing.assert_array_equal(flipped.masks, plain.masks[:, :, ::-1])
    again = [
        {**person, "box": box, "dp_points": points}
        for person, box, points in zip(people, flipped.boxes, flipped.points, strict=True)
    ]  # fmt: skip
    twice = scene_targets([{**each, "mask": None} for each in again], flip_width=192)
    np.testing.assert_allclose(twice.points, plain.points, atol=1e-5)


def test_mirror_of_the_charts_is_that_of_the_body():
    """A place and its mirror image on the template have labels that the flip exchanges."""
    asset = load_asset()
    on_body = np.flatnonzero(asset.vertex_kind == BODY)
    names = list(asset.group_names)
    other = [
        names.index(name[:-1] + {"L": "R", "R": "L"}[name[-1]]) if name[-2:] in (".L", ".R") else k
        for k, name in enumerate(names)
    ]
    points, groups = asset.template[on_body], asset.label_groups[on_body]
    # Off the limits of charts and groups, where a rounding decides.
    top = np.sort(groups, axis=1)
    clear = (top[:, -1] - top[:, -2] > 0.05) & (np.abs(points[:, 0]) > 0.002)
    points, groups = points[clear], groups[clear]
    islands = np.full((len(points), 2), 0.25)
    _, here = surface_labels(asset, points, groups, islands)
    _, there = surface_labels(asset, points * np.float32([-1, 1, 1]), groups[:, other], islands)
    person = _person([0, 0, 10, 10], points=np.column_stack([np.full((len(here), 2), 5.0), here]))
    flipped = scene_targets([person], flip_width=10.0).points[0]
    same_chart = flipped[:, 2] == there[:, 0]
    assert same_chart.mean() > 0.99
    off = np.abs(flipped[same_chart, 3:] - there[same_chart, 1:])
    # The template's limbs are not quite of one length.
    assert (off < 1e-3).mean() > 0.95
    assert off.max() < 0.05


def test_a_point_lands_where_the_head_reads_it_and_back():
    roi = torch.tensor([[10.0, 20.0, 50.0, 100.0]])
    xy = torch.tensor([[[10.0, 20.0], [50.0, 100.0], [30.0, 40.0], [70.0, 40.0]]])
    places = places_in(roi, xy)
    torch.testing.assert_close(places, torch.tensor([[[0, 0], [1, 1], [0.5, 0.25], [1.5, 0.25]]]))
    torch.testing.assert_close(roi[:, None, :2] + places * torch.tensor([40.0, 80.0]), xy)


def test_foreground_of_a_region_is_the_mask_at_its_cells():
    rng = np.random.default_rng(0)
    mask = cv2.resize(rng.integers(0, 2, (6, 5)).astype(np.uint8), (50, 60), interpolation=cv2.INTER_NEAREST) > 0
    box, roi, side = [4.0, 6.0, 44.0, 56.0], [0.0, 10.0, 38.0, 58.0], 14
    targets = to_truth([scene_targets([_person(box, mask)])], torch.device("cpu"))
    found = foreground_in(torch.tensor([roi]), targets.boxes[0], targets.masks, side)[0].numpy()
    wrong = 0
    for row in range(side):
        for column in range(side):
            x = roi[0] + (column + 0.5) / side * (roi[2] - roi[0])
            y = roi[1] + (row + 0.5) / side * (roi[3] - roi[1])
            inside = box[0] <= x <= box[2] and box[1] <= y <= box[3]
            wrong += found[row, column] != (inside and mask[int(y), int(x)])
    # One step of the stored mask, a third of a pixel, may go either way.
    assert wrong <= 0.03 * side * side


def test_truth_of_a_batch_keeps_images_apart():
    first, second, empty = (
        scene_targets(read_instances(row)) for row in (pasted_scene(1), pasted_scene(2, points=30), {})
    )
    truth = to_truth([first, empty, second], torch.device("cpu"))
    assert [len(each) for each in truth.boxes] == [2, 0, 1]
    assert truth.first == [0, 2, 2]
    np.testing.assert_array_equal(truth.points[2, :30].numpy(), second.points[0])
    assert truth.has_point.sum(1).tolist() == [100, 100, 30]
    assert [set(each) for each in truth.for_torchvision()] == [{"boxes", "labels"}] * 3
