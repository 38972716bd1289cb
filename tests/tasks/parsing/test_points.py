"""Depth parsing on points: labels of points, and classes back on pixels."""

import numpy as np
import pytest
import torch

from benchmarks._host_syncs import HostSyncs
from hcmoco.data.body_parts import IGNORE
from hcmoco.data.codecs import decode_depth
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.points.encoder import make_cloud
from hcmoco.rng import make_rng
from hcmoco.tasks.base import parse_task_config
from hcmoco.tasks.parsing.points import PointParsing
from hcmoco.tasks.parsing.task import DepthParsing, RgbParsing
from tests.helpers import local_finetuning as tiny

CPU = torch.device("cpu")
POINTS = EncoderConfig(name="pointnet2_msg")


def make_task(**values) -> PointParsing:
    config = parse_task_config({"name": "parsing-depth", "size": 64, **values})
    return DepthParsing(config, tiny.about()).for_encoder(POINTS)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [person.to_row(number) for number, person in enumerate(tiny.people()[:4])]


def rngs(count: int) -> list[np.random.Generator]:
    return [make_rng(2, "rows", number) for number in range(count)]


class Oracle(torch.nn.Module):
    """Knows each point's class: the logit of its label, of all rows' labels at the input's size."""

    def __init__(self, batch, labels_BSS: np.ndarray, classes: int):
        super().__init__()
        flat = torch.from_numpy(labels_BSS).flatten(1).long()
        known = flat.gather(1, torch.from_numpy(batch.points).clamp(min=0)).clamp(max=classes - 1)
        self.logits = torch.nn.functional.one_hot(known, classes).mT[..., None].float()

    def forward(self, cloud):
        return self.logits


def test_an_encoder_of_pictures_leaves_the_task_as_it_is():
    task = DepthParsing(parse_task_config({"name": "parsing-depth"}), tiny.about())
    assert task.for_encoder(EncoderConfig(name="hrnet_w18_small")) is task
    assert "camera" not in task.columns
    assert "camera" in make_task().columns
    assert make_task().over(tiny.about()).num_points == make_task().num_points == 256


def test_rgb_has_no_points():
    task = RgbParsing(parse_task_config({"name": "parsing-rgb"}), tiny.about())
    with pytest.raises(UserError, match=r"encoder\.name = pointnet2_msg") as caught:
        task.for_encoder(POINTS)
    assert "\n" not in str(caught.value)


def test_a_row_without_a_camera_is_one_line(rows):
    with pytest.raises(UserError, match="no camera"):
        make_task().make_batch([{**rows[0], "camera": None}], None)


def test_what_every_point_knows_comes_back_to_the_pixels(rows):
    """Pixels with a reading take the class around them, those without are background."""
    task = make_task()
    batch = task.make_batch(rows, None)
    truths = np.stack(batch.labels)
    classes = len(task.label_map)
    predictions = task.predict(Oracle(batch, truths, classes), batch, CPU)
    for prediction, truth, depth, points in zip(predictions, truths, batch.image, batch.points, strict=True):
        found = prediction["parts"]
        assert found.shape == truth.shape
        assert (found[depth == 0] == 0).all()
        drawn = np.zeros(depth.size, bool)
        drawn[points] = True
        drawn = drawn.reshape(depth.shape)
        assert (found[drawn] == truth[drawn]).all()
        body = depth > 0
        assert (found[body] == truth[body]).mean() > 0.8


@pytest.mark.parametrize("side", [32, 100])
def test_scores_at_another_size(rows, side):
    task = make_task(label_size=side)
    batch = task.make_batch(rows[:1], None)
    whole = task.predict(Oracle(batch, np.zeros((1, 64, 64), np.uint8), 25), batch, CPU)
    assert whole[0]["parts"].shape == (side, side)


@pytest.mark.parametrize("geometry", [{}, {"geometry": "multi-scale", "shift": 0.0, "rotation": 0.0}])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_points_turn_and_mirror_with_labels(rows, geometry, flip):
    """Augmented crops show the same surface: points keep their distances and their labels."""
    task = make_task(augment={"flip_probability": flip, **geometry})
    plain = DepthParsing(task.config, task.about)
    batch, pictures = task.make_batch(rows, rngs(4)), plain.make_batch(rows, rngs(4))
    assert np.array_equal(batch.image, pictures.image), "points draw after the augmentation"
    for row, cut, points, rays in zip(rows, batch.image, batch.points, batch.rays, strict=True):
        cloud = make_cloud(*(torch.from_numpy(each[None]) for each in (cut, points, rays)))
        stored = decode_depth(row["depth"], task.about.depth_codec, row["size"])
        camera = np.asarray(row["camera"], np.float64)
        line, column = np.nonzero(stored)
        z = stored[line, column] / 1000
        pixels = np.column_stack([column, line]) + 0.5
        whole = np.column_stack([(pixels - camera[2:]) / camera[:2] * z[:, None], z])
        found = (cloud.points_BN3 + cloud.mean_B3[:, None])[0].double().numpy()
        # Distance from the camera's axis, and depth, are what no turn and no mirror changes.
        own = np.column_stack([np.hypot(*found[:, :2].T), found[:, 2]])
        known = np.column_stack([np.hypot(*whole[:, :2].T), whole[:, 2]])
        nearest = np.abs(own[:, None] - known[None]).max(2).min(1)
        assert np.quantile(nearest, 0.95) < 0.03
        if not geometry:
            continue
        near = np.abs((found * [-1 if flip else 1, 1, 1])[:, None] - whole[None]).max(2).min(1)
        assert np.quantile(near, 0.95) < 0.03, "in the camera's own frame, mirrored with the crop"


def test_the_loss_is_that_of_the_labels_at_the_points(rows):
    task = make_task()
    batch = task.make_batch(rows, rngs(4))
    logits = torch.randn(4, 25, 256, 1)

    class Fixed(torch.nn.Module):
        def forward(self, cloud):
            return logits

    losses = []
    for number in range(4):
        for point, pixel in enumerate(batch.points[number]):
            label = int(batch.labels[number].ravel()[pixel])
            if label != IGNORE:
                losses.append(-logits[number, :, point, 0].log_softmax(0)[label].item())
    assert task.losses(Fixed(), batch, CPU)["loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_mirrored_person_is_read_with_sides_exchanged(rows):
    """The flip test of a network that sees x alone: right of the middle one class, left its partner."""
    task = make_task(flip_test=True)
    batch = task.make_batch(rows[:1], None)
    pair = task.label_map.pairs[0]

    class Sides(torch.nn.Module):
        def forward(self, cloud):
            logits = torch.zeros(1, 25, 256, 1)
            logits[0, pair[0], :, 0] = (cloud.points_BN3[0, :, 0] > 0).float()
            logits[0, pair[1], :, 0] = (cloud.points_BN3[0, :, 0] <= 0).float()
            return logits

    once = make_task().predict(Sides(), batch, CPU)[0]["parts"]
    assert np.array_equal(task.predict(Sides(), batch, CPU)[0]["parts"], once)
    assert set(np.unique(once)) == {0, *pair}


def test_a_step_waits_for_nothing_and_rows_without_a_reading_stay_finite(rows):
    task = make_task()
    torch.manual_seed(0)
    model = task.make_model(build_encoder(POINTS)).train()
    batch = task.make_batch(rows, rngs(4))
    batch.image[1], batch.points[1], batch.rays[1] = 0, -1, 0
    task.losses(model, batch, CPU)["loss"].backward()
    with HostSyncs() as syncs:
        task.losses(model, batch, CPU)["loss"].backward()
    assert syncs.found == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert (task.predict(model.eval(), batch, CPU)[1]["parts"] == 0).all()
