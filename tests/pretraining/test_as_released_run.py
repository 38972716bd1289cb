"""A short run with every switch of the published release: what is read, both stages, and going on after a stop."""

import math

import numpy as np
import pytest

from hcmoco.objectives import ObjectiveConfig
from hcmoco.pretraining.loop import pretrain
from tests.helpers import local_pretraining as tiny

OBJECTIVE = ObjectiveConfig.released(num_negatives=24, num_anchors=300)


def released_run(sources, decode="worker"):
    config = tiny.tiny_config(objective=OBJECTIVE.model_dump(), model={"polluted_keypoints": True})
    return config, tiny.tiny_feed(config, sources, decode)


@pytest.mark.parametrize("decode", ["worker", "tasks"])
def test_every_row_with_depth_has_all_its_anchors_some_of_them_twice(sources, decode):
    _, feed = released_run(sources, decode)
    batch = next(tiny.StoppingContext(feed).batches(0))
    assert 0 < batch.has_depth.sum() < len(batch)
    cells_BN = batch.depth[:, ::4, ::4].reshape(len(batch), -1)
    for cells_N, anchors_P, has in zip(cells_BN, batch.anchors, batch.has_depth, strict=True):
        assert cells_N[anchors_P].all() if has else (anchors_P == -1).all()
        assert np.unique(anchors_P).size < OBJECTIVE.num_anchors
    assert batch.released_keypoints.any()


def test_both_stages_train_and_a_stopped_run_goes_on_bit_by_bit(sources, tmp_path):
    config, feed = released_run(sources)
    whole = tiny.StoppingContext(feed, str(tmp_path / "whole"))
    state = pretrain(config, feed.plan, whole, None).state_dict()
    losses = {
        name: value for _, values in whole.logged for name, value in values.items() if name.startswith("train/loss/")
    }
    assert len(losses) == 11
    assert all(math.isfinite(value) for value in losses.values())
    with pytest.raises(tiny.DiedError):
        pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path / "stopped"), stop=7), None)
    again = pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path / "stopped")), None).state_dict()
    assert tiny.differences(state, again) == []
