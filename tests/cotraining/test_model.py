import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hcmoco.cotraining.evaluation import evaluate, predict
from hcmoco.cotraining.model import CoTrained, parsing_loss
from hcmoco.data.body_parts import IGNORE
from hcmoco.errors import UserError
from hcmoco.pretraining.losses import encode
from hcmoco.pretraining.views import to_device
from tests.helpers import local_cotraining as tiny
from tests.helpers.tolerances import assert_figures_close

CPU = torch.device("cpu")


@pytest.fixture(params=["rgb-to-depth", "depth-to-rgb", "missing-modality"])
def encoded(request, sources):
    """Model, config, batch on the device and features of an experiment."""
    setup = tiny.tiny_resolved(sources, {"experiment": request.param})
    model = CoTrained(setup.config.model, seed=1)
    batch = tiny.one_batch(setup)
    views = to_device(batch.batch, CPU, model.encoders)
    features, _ = encode(model.encoders, views)
    return model, setup, batch, views, features


def loss_of(encoded, *, features=None, parts=None, labeled=None):
    model, setup, batch, views, own = encoded
    weights_K = torch.tensor(setup.class_weights, dtype=torch.float32)
    parts = torch.from_numpy(batch.parts_BSS if parts is None else parts).long()
    labeled = batch.labeled if labeled is None else labeled
    return parsing_loss(
        copy.deepcopy(model), features or own, views, setup.config.supervised, parts, labeled, weights_K
    )


def test_the_loss_by_hand(encoded):
    """Row by row, the maps made and fused here, the logits enlarged, and each labeled pixel's -log p weighted by its
    class."""
    model, setup, batch, views, features = encoded
    names = {"fused": ("rgb", "depth")}.get(setup.config.supervised, (setup.config.supervised,))
    numbers = np.flatnonzero(batch.labeled)
    maps = []
    for name in names:
        seen = views.rows[name].tolist()
        whole = model.encoders.dense_map(name, features[name])
        maps.append(torch.stack([whole[seen.index(number)] for number in numbers]))
    fused = maps[0] if len(maps) == 1 else torch.where(maps[0] > maps[1], maps[0], maps[1])
    assert torch.allclose(maps[0].norm(dim=1), torch.ones(len(numbers), 16, 16), atol=1e-4)
    head = model.head
    hidden = F.conv2d(fused, head.merge.weight, head.merge.bias)
    mean, var = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), keepdim=True, unbiased=False)
    normed = (hidden - mean) / (var + head.norm.eps).sqrt() * head.norm.weight[:, None, None] + head.norm.bias[
        :, None, None
    ]
    logits = F.conv2d(normed.relu(), head.classify.weight, head.classify.bias)
    logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    losses = -logits.log_softmax(1)
    parts = batch.parts_BSS[numbers]
    total = mass = 0.0
    for row, y, x in zip(*np.nonzero(parts != IGNORE), strict=True):
        weight = setup.class_weights[parts[row, y, x]]
        total += weight * losses[row, parts[row, y, x], y, x].item()
        mass += weight
    assert loss_of(encoded).item() == pytest.approx(total / mass, rel=1e-4)


def test_unlabeled_rows_and_ignored_pixels_are_out_of_it(encoded):
    _, _, batch, views, features = encoded
    expected = loss_of(encoded).item()
    labeled = torch.from_numpy(batch.labeled)
    spoilt = {
        name: [torch.where(labeled[views.rows[name]][:, None, None, None], each, torch.nan) for each in maps]
        for name, maps in features.items() if name != "keypoints"
    }  # fmt: skip
    assert loss_of(encoded, features=spoilt).item() == expected
    parts = batch.parts_BSS.copy()
    parts[~batch.labeled] = 7
    assert loss_of(encoded, parts=parts).item() == expected
    parts = batch.parts_BSS.copy()
    parts[batch.labeled, :20] = IGNORE
    assert loss_of(encoded, parts=parts).item() != expected
    assert loss_of(encoded, parts=np.full_like(parts, IGNORE)).item() == 0


def test_nothing_labeled_is_zero_that_backward_takes(encoded):
    model, setup, batch, views, features = encoded
    nobody = np.zeros(len(batch), bool)
    parts = torch.from_numpy(batch.parts_BSS).long()
    loss = parsing_loss(model, features, views, setup.config.supervised, parts, nobody, None)
    assert loss.item() == 0
    without = {name: each for name, each in features.items() if name == "keypoints"}
    views.has["rgb"][:] = views.has["depth"][:] = False
    everybody = np.ones(len(batch), bool)
    assert parsing_loss(model, without, views, setup.config.supervised, parts, everybody, None).item() == 0


def test_the_maximum_of_both_is_in_neither_modality_alone(encoded):
    model, _, batch, views, features = encoded
    both = views.has["rgb"] & views.has["depth"]
    everyone = np.ones(len(batch), bool)
    fused, rows = model.dense(features, views, "fused", everyone)
    assert rows.tolist() == np.flatnonzero(both).tolist()
    one, other = (model.dense(features, views, name, both)[0] for name in ("rgb", "depth"))
    assert (fused == one).logical_or(fused == other).all()
    assert (fused >= one).all()
    assert (fused >= other).all()
    assert (fused > one).any()
    assert (fused > other).any()


def test_scores_are_those_of_the_predictions_and_of_no_batch(sources):
    setup = tiny.tiny_resolved(sources)
    model = CoTrained(setup.config.model, seed=1).train()
    result = evaluate(model, setup.crops(setup.test), CPU)
    assert model.training
    assert result.rows == 5
    model.eval()
    whole = next(tiny.tiny_resolved(sources, {"eval_batch_size": 64}).crops(setup.test))
    for which, predicted in predict(model, whole, CPU).items():
        counted = whole.parts_BSS != IGNORE
        accuracy = (predicted == whole.parts_BSS)[counted].mean()
        name = f"{which}/aAcc"
        assert_figures_close({name: result.metrics[name]}, {name: accuracy}, {name: counted.sum()})
    assert set(result.metrics) == {
        f"{which}/{name}" for which in ("rgb", "depth", "fused") for name in ("mIoU", "mAcc", "aAcc")
    }


def test_people_without_depth_in_the_crop_are_not_scored_in_silence(sources):
    setup = tiny.tiny_resolved(sources)
    crop = next(setup.crops(setup.test))
    crop.batch.has_depth[0] = False
    with pytest.raises(UserError, match="1 of 3 people to be scored have no depth"):
        evaluate(CoTrained(setup.config.model, seed=1), [crop], CPU)
