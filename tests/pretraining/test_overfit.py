"""Sixteen people seen again and again: a method that works learns them by heart."""

import pytest
import torch

from hcmoco.objectives import MODALITIES, soft_target
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.losses import compute_terms
from hcmoco.pretraining.probes.nearest import cosine
from hcmoco.pretraining.probes.retrieval import retrieve
from hcmoco.pretraining.views import to_device
from tests.helpers import local_pretraining as tiny

pytestmark = pytest.mark.slow
PEOPLE = 16


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """(terms, embeddings, batch) of the training crops, after 100 steps of stage 1 and 200 of stage 2, in evaluation
    mode."""
    config = tiny.tiny_config(
        data={"sources": {"street": None}},
        augment={"scale": [1.25, 1.25], "shift": 0.0, "rotation": 0.0, "brightness": 0.0},
        objective={"num_negatives": 0, "num_anchors": 40},
        stages={"stage1_steps": 100, "stage2_steps": 200},
        optim={"name": "adamw", "lr": 0.003, "weight_decay": 0.0, "warmup_steps": 10, "restart": False},
        train={"lanes": 1, "batch_size_per_lane": PEOPLE, "log_every": 100, "save_every": 1000},
    )
    feed = tiny.tiny_feed(config, [tiny.write_blobs(tmp_path_factory.mktemp("people"), "room", PEOPLE)])
    host = tiny.LocalContext(feed, threads=1)
    run = pretrain(config, feed.plan, host, None)
    batch = next(host.batches(0))
    assert len(set(batch.index.tolist())) == PEOPLE
    with torch.no_grad():
        views = to_device(batch, run.device, run.model.eval())
        terms, embeddings = compute_terms(
            run.model, config.objective, views, {}, torch.zeros(0, dtype=torch.float64), stage=2
        )
    return {name: value.item() for name, value in terms.values.items()}, embeddings, batch


def test_every_person_is_found_in_every_other_modality(learned):
    _, embeddings, _ = learned
    for query in MODALITIES:
        for gallery in MODALITIES:
            found = retrieve(cosine(embeddings[query], embeddings[gallery])).mean().item()
            assert found >= 0.95, f"{query} -> {gallery}: {found:.0%}, by chance {1 / PEOPLE:.0%}"


def test_the_dense_terms_come_near_the_least_they_can_be(learned):
    """A cross entropy is never below the entropy of its target; nothing learned is the log of the number of cells."""
    terms, _, batch = learned
    anchors = torch.from_numpy(batch.anchors)
    valid = anchors >= 0
    assert valid.all()
    side = batch.rgb.shape[1] // 4
    weights = soft_target(torch.stack([anchors // side, anchors % side], -1).float(), valid)
    floor = torch.special.entr(weights).sum(2).mean().item()
    nothing = valid.sum(1).log().mean().item()
    for name in ("d/rgb-depth", "d/depth-rgb"):
        assert floor - 1e-4 <= terms[name] < floor + 0.35 * (nothing - floor), (name, floor, nothing, terms[name])


def test_joints_are_told_apart(learned):
    terms, _, batch = learned
    joints = batch.keypoints.shape[1]
    for name in ("s/rgb-keypoints", "s/depth-keypoints"):
        assert terms[name] < 0.6 * torch.tensor(float(joints)).log().item(), name
    # Of 2 x 16 x 16 rows, 31 are the same joint: spread over them it would be log 31, over all log 511.
    assert torch.tensor(31.0).log() - 1e-4 <= terms["s/inter"] < 5.9
