"""Co-training on points: what stands for depth where it has no reading."""

import numpy as np
import pytest
import torch

from benchmarks._host_syncs import HostSyncs
from hcmoco.cotraining.config import EXPERIMENTS
from hcmoco.cotraining.evaluation import predict
from hcmoco.cotraining.trainer import CoTraining
from hcmoco.data.schema import MAP_STRIDE
from hcmoco.errors import UserError
from hcmoco.models.multimodal import unit_length
from hcmoco.pretraining.losses import embed, encode
from hcmoco.pretraining.views import to_device
from hcmoco.training.local import LocalContext
from tests.helpers import local_cotraining as tiny

CPU = torch.device("cpu")
POINTS = {"model": {"depth": {"name": "pointnet2_msg"}}, "num_background_anchors": 5}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return tiny.write_sources(tmp_path_factory.mktemp("blocks"))


def trainer_of(sources, experiment: str):
    run = tiny.tiny_resolved(sources, {**POINTS, "experiment": experiment})
    samples = run.loader.bank_offsets[-1]
    trainer = CoTraining(
        run.config, run.loader.plan, {}, CPU, samples=samples, class_weights=run.class_weights, load_init=False
    )
    return run, trainer, LocalContext(run.loader, threads=1).batches(0)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_step_waits_for_nothing_and_the_head_is_read_on_all_inputs(sources, experiment):
    run, trainer, batches = trainer_of(sources, experiment)
    trainer.train_step(next(batches))
    before = trainer.model.no_reading.detach().clone()
    with HostSyncs() as syncs:
        trainer.train_step(next(batches))
    assert syncs.found == []
    assert not torch.equal(trainer.model.no_reading, before), "anchors on the background teach it"
    found = predict(trainer.model.eval(), next(run.crops(run.test)), CPU)
    assert {name: each.shape[1:] for name, each in found.items()} == dict.fromkeys(("rgb", "depth", "fused"), (64, 64))


def test_depth_without_a_reading_is_the_learned_embedding(sources):
    _, trainer, batches = trainer_of(sources, "missing-modality")
    batch, model = next(batches), trainer.model.eval()
    everyone = np.ones(len(batch), bool)
    views = to_device(batch.batch, CPU, model.encoders)
    with torch.no_grad():
        features, visible = encode(model.encoders, views)
        maps = {which: model.dense(features, views, which, everyone)[0] for which in ("rgb", "depth", "fused")}
        found = embed(model.encoders, views, stage=2, encoded=(features, visible))
        tied = model.with_background(found, 12, 5)
    token = unit_length(model.no_reading).detach()
    middle = batch.batch.depth[:, MAP_STRIDE // 2 :: MAP_STRIDE, MAP_STRIDE // 2 :: MAP_STRIDE] > 0
    for row in range(len(batch)):
        cells = maps["depth"][row].permute(1, 2, 0)
        assert torch.equal(cells[torch.from_numpy(~middle[row])], token.expand((~middle[row]).sum(), -1))
        assert not (cells[torch.from_numpy(middle[row])] == token).all(1).any()
    assert torch.equal(maps["fused"], torch.maximum(maps["rgb"], maps["depth"]))
    depth, before = tied["dense/depth"], found["dense/depth"]
    assert torch.equal(depth[:, :12], before[:, :12])
    assert torch.equal(depth[:, 17:], before[:, 17:])
    assert torch.equal(depth[:, 12:17], token.expand(len(batch), 5, -1))


def test_more_anchors_than_points_are_refused():
    with pytest.raises(UserError, match="num_background_anchors"):
        tiny.tiny_config({**POINTS, "num_background_anchors": 250})
