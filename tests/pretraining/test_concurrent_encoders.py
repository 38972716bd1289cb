"""Encoders in two threads: the same step to rounding, the same bits each time, and errors that reach the caller."""

import pytest
import torch

from hcmoco.config import merge
from hcmoco.errors import UserError
from hcmoco.pretraining.loop import pretrain
from hcmoco.training.local import LocalContext
from tests.helpers import local_pretraining as tiny

# Four steps, two of each stage.
SHORT = {"stages": {"stage1_steps": 2, "stage2_steps": 2}, "optim": {"lr": 0.02, "warmup_steps": 0}}
RUNS = {
    "stages": {},
    "bfloat16": {"train": {"precision": "bfloat16"}},
    "layers that draw": {
        "model": {"rgb": {"args": {"drop_path_rate": 0.5}}, "depth": {"args": {"drop_path_rate": 0.5}}}
    },
    "mmv": {"objective": {"method": "mmv"}, "train": {"batch_size_per_lane": 4}},
    "as released": tiny.AS_RELEASED,
    "probed at each step": {"probe": {"every": 1}},
}


def trained(sources, over: dict, *, concurrent: bool):
    """The state at the end."""
    config = tiny.tiny_config(**merge(merge(SHORT, over), {"train": {"concurrent_encoders": concurrent}}))
    feed = tiny.tiny_feed(config, sources)
    return pretrain(config, feed.plan, LocalContext(feed, threads=1), None).state_dict()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_to_rounding_and_itself_to_the_bit(sources, name):
    expected = trained(sources, RUNS[name], concurrent=False)
    found = trained(sources, RUNS[name], concurrent=True)
    tolerance = 2e-2 if name == "bfloat16" else 1e-4
    for key, value in expected.model.items():
        torch.testing.assert_close(found.model[key], value, rtol=tolerance, atol=tolerance, msg=key)
    assert found.identity == expected.identity, "a run may go on the other way"
    assert tiny.differences(found, trained(sources, RUNS[name], concurrent=True)) == []


@pytest.mark.parametrize("encoder", ["rgb", "depth"])
def test_an_error_of_either_thread_ends_the_run(sources, encoder):
    """Layers that draw for all rows together are found; in which thread depends on who ends first, and both say so."""
    over = {"model": {encoder: {"name": "resnet10t", "args": {"drop_block_rate": 0.1}}}}
    with pytest.raises(UserError, match="a layer of the encoder draws") as caught:
        trained(sources, over, concurrent=True)
    assert encoder in str(caught.value).partition(", which runs beside it: ")[0].replace(" or ", " ").split()


@pytest.mark.parametrize("other", [{"gpu": True}, {"compile": True}, {"micro_rows": 2}, {"global_batch": True}])
def test_what_has_an_order_runs_in_it(other):
    """So that a recipe with concurrent encoders can be taken to a GPU as it is."""
    assert tiny.tiny_config(train={"concurrent_encoders": True}).train.side_by_side
    assert not tiny.tiny_config(train={"concurrent_encoders": True, **other}).train.side_by_side


def test_few_rows_at_once_are_as_without(sources):
    few = {"train": {"micro_rows": 2}}
    expected, found = (trained(sources, few, concurrent=concurrent) for concurrent in (False, True))
    assert tiny.differences(expected, found) == []
