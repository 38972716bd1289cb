"""A pre-training over each joint set that has a skeleton graph, on people with the joints of that set."""

import math

import pytest
import torch

from hcmoco.data.skeletons import TRAINING_SETS, joint_set
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.trainer import make_model
from tests.helpers import local_pretraining as tiny


@pytest.mark.parametrize("name", TRAINING_SETS)
def test_both_stages_learn_over_the_set(tmp_path, name):
    data = [tiny.write_blobs(tmp_path, "room", 12, joints=name)]
    settings = {"model": {"joint_set": name}, "stages": {"stage1_steps": 2, "stage2_steps": 2}}
    config = tiny.tiny_config(**settings, data={"sources": {"street": None}}, train={"log_every": 1})
    feed = tiny.tiny_feed(config, data)
    context = tiny.StoppingContext(feed)
    trainer = pretrain(config, feed.plan, context, None)
    assert [step for step, _ in context.logged] == [1, 2, 3, 4]
    assert all(math.isfinite(values["train/loss"]) for _, values in context.logged)
    last = context.logged[-1][1]
    assert last["train/num_anchors/s/rgb-keypoints"] > len(joint_set(name)), "joints of several people entered"
    fresh = dict(make_model(config).keypoints.named_parameters())
    trained = dict(trainer.model.keypoints.named_parameters())
    assert trained.keys() == fresh.keys()
    unmoved = [key for key, value in trained.items() if torch.equal(value, fresh[key])]
    # A bias in front of batch normalization moves by its decay alone.
    assert [key for key in unmoved if not key.endswith("conv.bias")] == []
    assert trained["stem.conv.edges"].numel() == len(joint_set(name)) + 2 * len(joint_set(name).edges)
