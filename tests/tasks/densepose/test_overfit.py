"""Head, losses and decoding together: a few scenes, learned by heart."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.tasks.densepose import DensePose, DensePoseConfig
from hcmoco.tasks.densepose.task import SceneBatch
from tests.helpers.pasted_scenes import about, pasted_scene

CPU = torch.device("cpu")
STEPS, ROWS, PEAK = 400, 4, 2e-3


def _scores(batch: SceneBatch, predictions: list[dict]) -> tuple[list[float], float, float]:
    """Of each person the overlap with the nearest detection; the share of points whose part is right there, and their
    error in U, V."""
    overlaps, right, errors, points = [], 0, [], 0
    for people, found in zip(batch.instances, predictions, strict=True):
        for person in people:
            overlap = box_iou(torch.tensor(person["box"])[None], torch.tensor(found["boxes"]))[0]
            best = int(overlap.argmax())
            overlaps.append(float(overlap[best]))
            iuv, (x0, y0) = found["iuv"][best], np.floor(found["boxes"][best][:2])
            columns, lines = (person["dp_points"][:, :2] - [x0, y0]).astype(int).T
            inside = (columns >= 0) & (lines >= 0) & (columns < iuv.shape[1]) & (lines < iuv.shape[0])
            here, truth = iuv[lines[inside], columns[inside]], person["dp_points"][inside, 2:]
            same = here[:, 0] == truth[:, 0]
            points += len(inside)
            right += same.sum()
            errors.append(np.abs(here[same, 1:] - truth[same, 1:]).ravel())
    return overlaps, right / points, float(np.concatenate(errors).mean())


@pytest.mark.long
@pytest.mark.slow
def test_learns_eight_scenes_by_heart():
    rows = [pasted_scene(number, points=150) for number in range(8)]
    task = DensePose(DensePoseConfig(flip_probability=0.0), about())
    torch.manual_seed(0)
    model = (
        task.make_model(build_encoder(EncoderConfig(name="test_resnet"))).to(memory_format=torch.channels_last).train()
    )
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=STEPS, pct_start=0.1)
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        torch.manual_seed(step)
        chosen = [rows[number] for number in rng.choice(len(rows), ROWS, replace=False)]
        task.losses(model, task.make_batch(chosen, list(rng.spawn(ROWS))), CPU)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.inference_mode():
        batch = task.make_batch(rows, None)
        predictions = task.predict(model.eval(), batch, CPU)
    overlaps, right, error = _scores(batch, predictions)
    assert np.mean(overlaps) > 0.9
    assert min(overlaps) > 0.7
    assert right > 0.9
    assert error < 0.05
    metric = task.metric()
    metric.update(batch, predictions)
    metrics = metric.compute().metrics
    assert metrics["box_ap"] > 0.9
    assert metrics[task.primary_metric] > 0.8
