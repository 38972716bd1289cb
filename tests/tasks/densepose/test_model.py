import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.normalization import normalize_rgb
from hcmoco.tasks.densepose import DensePose, DensePoseConfig
from hcmoco.tasks.densepose.decode import pixel_frame
from hcmoco.tasks.densepose.heads import ChartHead
from hcmoco.tasks.densepose.model import DensePoseRCNN, to_stored
from hcmoco.tasks.densepose.sheet import HEADS, PANEL, draw_sheet, paste
from tests.helpers.pasted_scenes import about, pasted_scene

CPU = torch.device("cpu")
TERMS = ["objectness", "proposal", "class", "box", "coarse", "part", "uv"]
SMALL = {"pyramid_channels": 16, "box_width": 32, "chart_width": 16, "chart_depth": 1}
PUBLISHED = {
    "short_sides": (640, 672, 704, 736, 768, 800), "test_short_side": 800, "long_side": 1333, "pyramid_channels": 256,
    "anchor_sizes": ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), "anchor_samples": 256,
    "proposals_per_level": 2000,
    "proposals": 1000, "proposals_per_level_test": 1000, "proposals_test": 1000, "box_samples": 512, "box_width": 1024,
    "detections": 100, "anchor_ratios": (0.5, 1.0, 2.0), "uv_weight": 0.02,
    "chart_depth": 8, "chart_width": 512, "chart_norm": "none", "chart_cells": 28, "chart_samples": 128,
}  # fmt: skip


def _task(**settings) -> DensePose:
    return DensePose(DensePoseConfig(**{**SMALL, **settings}), about())


def _model(task: DensePose, seed: int = 0, name: str = "hrnet_w18_small") -> DensePoseRCNN:
    torch.manual_seed(seed)
    return task.make_model(build_encoder(EncoderConfig(name=name)))


def _draws(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(row) for row in range(count)]


def test_shapes_at_the_published_sizes():
    config = DensePoseConfig(**PUBLISHED)
    with torch.device("meta"):
        model = DensePoseRCNN(build_encoder(EncoderConfig(name="hrnet_w18")), config)
        pyramid = model.pyramid(model.encoder(torch.zeros(2, 3, 832, 1344)))
        maps = ChartHead(config)(torch.zeros(5, 256, 28, 28))
    assert [tuple(each.shape) for each in pyramid.values()] == [
        (2, 256, 832 >> shift, 1344 >> shift) for shift in range(2, 7)
    ]
    assert [tuple(each.shape) for each in (maps.coarse, maps.fine, maps.u, maps.v)] == [
        (5, n, 112, 112) for n in (2, 25, 24, 24)
    ]


@pytest.mark.slow
def test_a_step_at_the_published_widths():
    task = DensePose(
        DensePoseConfig(**{**PUBLISHED, "short_sides": (64,), "long_side": 800, "chart_samples": 2}), about()
    )
    model = _model(task, name="hrnet_w18")
    terms = task.losses(model, task.make_batch([pasted_scene(0)], _draws(1)), CPU)
    assert list(terms) == [*TERMS, "loss"]
    terms["loss"].backward()
    assert all(torch.isfinite(each) for each in terms.values())


def test_loss_is_the_weighted_sum_and_reaches_every_parameter():
    task = _task(coarse_weight=2.0, part_weight=3.0, uv_weight=0.5, anchor_samples=100_000)  # p5 has few anchors
    model = _model(task)
    batch = task.make_batch([pasted_scene(0), pasted_scene(1)], _draws(2))
    terms = task.losses(model, batch, CPU)
    assert list(terms) == [*TERMS, "loss"]
    weights = {"coarse": 2.0, "part": 3.0, "uv": 0.5}
    torch.testing.assert_close(terms["loss"], sum(weights.get(name, 1.0) * terms[name] for name in TERMS))
    terms["loss"].backward()
    dead = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert dead == []


def test_images_without_people_train_the_detector_alone():
    task = _task()
    model = _model(task)
    row = {**pasted_scene(0), "instances": []}
    terms = task.losses(
        model, task.make_batch([row, {**row, "instances": [{"box": [0, 0, 90, 192], "crowd": True}]}], _draws(2)), CPU
    )
    assert [terms[name].item() for name in ("proposal", "box", "coarse", "part", "uv")] == [0] * 5
    terms["loss"].backward()
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())
    assert not any(each.grad.any() for each in model.charts.parameters())


def test_people_without_points_or_masks_train_what_they_have():
    task = _task()
    model = _model(task)
    row = pasted_scene(0)
    for missing, zero in (("dp_points", ["part", "uv"]), ("mask", ["coarse"])):
        bare = {**row, "instances": [{**each, missing: None} for each in row["instances"]]}
        terms = task.losses(model, task.make_batch([bare], _draws(1)), CPU)
        assert [name for name in ("coarse", "part", "uv") if terms[name].item() == 0] == zero


def test_half_precision_changes_the_loss_by_a_rounding():
    task = _task(flip_probability=0.0)
    batch = task.make_batch([pasted_scene(0)], _draws(1))
    values = []
    for enabled in (False, True):
        model = _model(task)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = task.losses(model, batch, CPU)
        assert all(each.dtype == torch.float32 for each in terms.values())
        values.append(terms["loss"].item())
    assert values[1] == pytest.approx(values[0], rel=0.1)


def test_predictions_have_the_declared_form():
    task = _task(score_threshold=0.0, detections=6)
    model = _model(task).eval()
    batch = task.make_batch([pasted_scene(0, height=150, width=260), pasted_scene(1)], None)
    assert batch.sizes.tolist() == [[150, 260], [192, 192]]
    assert [image.shape for image in batch.images] == [(111, 192, 3), (192, 192, 3)]
    assert batch.instances[0][0]["mask"].shape == (150, 260)
    for prediction, (height, width) in zip(task.predict(model, batch, CPU), batch.sizes.tolist(), strict=True):
        boxes, scores = prediction["boxes"], prediction["scores"]
        assert boxes.dtype == scores.dtype == np.float32
        assert boxes.shape == (6, 4)
        assert (np.diff(scores) <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes[:, [2, 3]] <= [width, height]).all()
        for box, iuv in zip(boxes, prediction["iuv"], strict=True):
            x0, y0, x1, y1 = pixel_frame(tuple(box.tolist()), height, width)
            assert iuv.shape == (y1 - y0, x1 - x0, 3)
            assert iuv.dtype == np.float32
            assert set(np.unique(iuv[..., 0])) <= set(range(25))
            assert iuv[..., 1:].min() >= 0
            assert iuv[..., 1:].max() <= 1


def test_a_prediction_does_not_depend_on_the_other_rows():
    task = _task(score_threshold=0.0, detections=8)
    model = _model(task, name="test_resnet").eval()
    rows = [
        pasted_scene(0),
        pasted_scene(1, height=100, width=140),
        pasted_scene(2),
        pasted_scene(3, height=192, width=100),
    ]
    together = task.predict(model, task.make_batch(rows, None), CPU)
    for row, prediction in zip(rows, together, strict=True):
        (alone,) = task.predict(model, task.make_batch([row], None), CPU)
        np.testing.assert_allclose(alone["boxes"], prediction["boxes"], atol=1e-2)
        np.testing.assert_allclose(alone["scores"], prediction["scores"], atol=1e-5)
        for a, b in zip(alone["iuv"], prediction["iuv"], strict=True):
            assert (np.abs(a - b).max(-1) < 1e-3).mean() > 0.99


def test_batches_concatenate_and_are_a_function_of_the_draws():
    task = _task(short_sides=(96, 160), test_short_side=160)
    rows = [pasted_scene(number) for number in range(4)]
    whole = task.make_batch(rows, _draws(4))
    again = type(whole).concatenate([task.make_batch(rows[:1], _draws(1)), task.make_batch(rows[1:], _draws(4)[1:])])
    assert whole.ids == again.ids
    assert len({image.shape for image in whole.images}) == 2
    for a, b in zip(whole.images, again.images, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole.targets, again.targets, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
    assert whole.instances == [[]] * 4


def test_targets_lie_on_what_the_network_sees():
    """A marked pixel, its point and its box stay together through resizing and mirroring."""
    canvas = np.zeros((120, 200, 3), np.uint8)
    canvas[40:60, 130:150] = 255
    instance = {"box": [130, 40, 150, 60], "mask": None, "dp_points": [140.0, 50.0, 3, 0.5, 0.5], "crowd": False}
    row = {
        "id": "a",
        "rgb": cv2.imencode(".png", canvas)[1].tobytes(),
        "width": 200,
        "height": 120,
        "instances": [instance],
    }
    task = _task(short_sides=(96,), test_short_side=96, flip_probability=0.5)
    flips = set()
    for seed in range(8):
        batch = task.make_batch([row], [np.random.default_rng(seed)])
        y, x = np.nonzero(batch.images[0][..., 0] > 127)
        targets = batch.targets[0]
        np.testing.assert_allclose(targets.boxes[0], [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=0.51)
        np.testing.assert_allclose(
            targets.points[0, 0, :2], [(x.min() + x.max() + 1) / 2, (y.min() + y.max() + 1) / 2], atol=0.51
        )
        flips.add(targets.points[0, 0, 2])
    assert flips == {3, 4}


def test_boxes_return_to_the_stored_image():
    boxes = torch.tensor([[0.0, 0, 192, 96], [19.2, 9.6, 38.4, 48.0], [-5, -5, 500, 500]])
    expected = torch.tensor([[0.0, 0, 400, 200], [40, 20, 80, 100], [0, 0, 400, 200]])
    torch.testing.assert_close(to_stored(boxes, (96, 192), (200, 400)), expected)


def test_padding_is_next_to_nothing_to_the_network():
    from hcmoco.tasks.densepose.task import padded_images

    images, sizes = padded_images([np.full((60, 100, 3), 255, np.uint8), np.zeros((64, 30, 3), np.uint8)])
    assert images.shape == (2, 64, 128, 3)
    assert sizes == [(60, 100), (64, 30)]
    assert normalize_rgb(torch.from_numpy(images))[0, :, 60:].abs().max() < 0.01
    assert (images[0, :60, :100] == 255).all()


def test_mistakes_are_named():
    coco = About(
        kind="scene",
        dataset="densepose-coco",
        provenance=Provenance(program="p", arguments={"source": "coco-densepose"}),
    )
    with pytest.raises(UserError, match=r"made from 'coco-densepose'.*published files"):
        DensePose(DensePoseConfig(), coco)
    DensePose(DensePoseConfig(charts="files", flip_probability=0.0), coco)
    for settings, message in (
        ({"anchor_sizes": ((16.0,),)}, "needs 5 lists"),
        ({"long_side": 100}, "at least the largest short side, 192"),
    ):
        with pytest.raises(ValueError, match=message):
            DensePoseConfig(**settings)
    row = pasted_scene(0)
    with pytest.raises(ValueError, match="record 'pasted/0'"):
        _task().make_batch([{**row, "rgb": row["rgb"][:-200]}], None)
    with pytest.raises(ValueError, match="192 x 192, 200 x 192 are declared"):
        _task().make_batch([{**row, "width": 200}], None)


def test_sheet_has_a_line_for_each_row():
    rows = [pasted_scene(0), pasted_scene(1, height=100, width=160)]
    predictions = [
        {
            "boxes": np.float32([[10, 10, 50.5, 90]]),
            "scores": np.float32([0.9]),
            "iuv": [np.full((80, 41, 3), [5, 0.5, 0.2], np.float32)],
        },
        {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "iuv": []},
    ]
    sheet = draw_sheet(rows, predictions)
    assert sheet.shape == (24 + 2 * PANEL, PANEL * len(HEADS), 3)
    assert sheet.dtype == np.uint8
    lone = draw_sheet(rows[:1], [{**predictions[1]}])
    assert (lone[:, 2 * PANEL :] != sheet[: len(lone), 2 * PANEL :]).any()


def test_the_better_detection_is_on_top():
    one, two = np.full((10, 10, 3), [1, 0, 0], np.float32), np.full((6, 10, 3), [2, 0, 0], np.float32)
    one[:2] = 0
    whole = paste([one, two], np.float32([[5, 5, 15, 15], [5.5, 3, 15, 9]]), 20, 20)
    assert whole[4, 6, 0] == 2
    assert whole[6, 6, 0] == 2
    assert whole[8, 6, 0] == 1
    assert [(whole[..., 0] == who).sum() for who in (1, 2)] == [80, 40]
