"""The baselines as objectives: CMC is the sample level for all steps, MMV has two spaces; both resume bit-equal."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from hcmoco.errors import UserError
from hcmoco.models.mmv import MMV
from hcmoco.pretraining.loop import STAGE_1, pretrain
from hcmoco.pretraining.losses import compute_terms
from hcmoco.pretraining.trainer import make_model
from hcmoco.pretraining.views import to_device
from hcmoco.training.checkpoint import States
from hcmoco.training.lr_schedule import learning_rate
from tests.helpers import local_pretraining as tiny

METHODS = ("cmc", "mmv")
NO_DRAWS = torch.zeros(24, dtype=torch.float64)


def run(config, sources, states=None, stop=None, views=None):
    feed = tiny.tiny_feed(config, sources)
    host = tiny.StoppingContext(feed, str(states) if states else None, stop=stop)
    return pretrain(config, feed.plan, host, views), host


@pytest.fixture(params=METHODS)
def config(request):
    return tiny.tiny_config(objective={"method": request.param}, optim={"name": "adamw", "lr": 0.002})


def test_it_has_one_stage_of_as_many_steps_with_one_schedule(config, sources):
    done, host = run(config, sources, views=tiny.tiny_views())
    assert (done.step, done.stage) == (9, 1)
    for step, values in host.logged:
        if "train/lr" in values:
            assert values["train/stage"] == 1, step
            assert not any(name.startswith(("train/loss/d/", "train/loss/s/")) for name in values), step
    (last,) = [values["train/lr"] for step, values in host.logged if step == 9 and "train/lr" in values]
    assert last == pytest.approx(learning_rate(config.optim, 8, 9), rel=1e-6)
    assert list(done.history) == [STAGE_1], "and the probes know what to make of it"


@pytest.mark.parametrize("stop", [2, 4, 5, 7])
def test_a_death_changes_no_bit(config, sources, tmp_path, stop):
    whole, _ = run(config, sources)
    with pytest.raises(tiny.DiedError):
        run(config, sources, tmp_path, stop)
    again, _ = run(config, sources, tmp_path)
    assert tiny.differences(whole.state_dict(), again.state_dict()) == []
    assert tiny.differences(whole.state_dict(), States(str(tmp_path)).newest()) == []


def test_cmc_is_hcmoco_that_never_leaves_its_first_stage(sources):
    cmc, _ = run(tiny.tiny_config(objective={"method": "cmc"}), sources)
    alone, _ = run(tiny.tiny_config(stages={"stage1_steps": 9, "stage2_steps": 0}), sources)
    assert (
        tiny.differences(
            dataclasses.replace(cmc.state_dict(), identity={}), dataclasses.replace(alone.state_dict(), identity={})
        )
        == []
    )


def terms(model, config, batch):
    views = to_device(batch, torch.device("cpu"), model)
    return compute_terms(model, config.objective, views, {}, NO_DRAWS, stage=1)


@pytest.fixture
def mmv():
    return tiny.tiny_config(objective={"method": "mmv"})


def test_mmv_terms_by_hand(mmv, batch):
    """A row finds its partner among the rows that have the modality, in both directions."""
    model = make_model(mmv).eval()
    with torch.no_grad():
        found, embeddings = terms(model, mmv, batch)
        has = torch.from_numpy(batch.has_depth)
        views = to_device(batch, torch.device("cpu"), model)
        rgb = model.fine("rgb", model.encode_rgb(views.inputs["rgb"]))
        depth = model.fine("depth", model.encode_depth(views.inputs["depth"]))
        skeleton = model.encode_keypoints(views.inputs["keypoints"], views.keypoints_BJ3[..., 2] > 0)
        coarse = F.normalize(model.coarse("rgb", rgb), dim=1), F.normalize(model.coarse("keypoints", skeleton), dim=1)
        fine = F.normalize(rgb, dim=1), F.normalize(depth, dim=1)
    assert embeddings == {}
    everyone = torch.arange(len(batch))
    own = torch.arange(int(has.sum()))
    tau = mmv.objective.tau_g
    expected = {
        "g/rgb-depth": F.cross_entropy(fine[0][has] @ fine[1].T / tau, own),
        # Who has no depth is somebody else's RGB all the same.
        "g/depth-rgb": F.cross_entropy(fine[1] @ fine[0].T / tau, everyone[has]),
        "g/rgb-keypoints": F.cross_entropy(coarse[0] @ coarse[1].T / tau, everyone),
        "g/keypoints-rgb": F.cross_entropy(coarse[1] @ coarse[0].T / tau, everyone),
    }
    assert set(found.values) == set(expected), "depth and keypoints never meet"
    for name, value in expected.items():
        torch.testing.assert_close(found.values[name], value, rtol=1e-4, atol=1e-5, msg=name)
        assert int(found.counts[name]) == (len(own) if "depth" in name else len(everyone))


def test_mmv_without_depth_trains_the_coarse_space(mmv, batch):
    model = make_model(mmv).train()
    found, _ = terms(model, mmv, tiny.without(batch, "depth"))
    assert float(found.values["g/rgb-depth"].detach()) == 0
    found.values["g/rgb-keypoints"].backward()
    assert model.global_mappers["keypoints"].weight.grad.abs().sum() > 0
    assert all(each.grad is None for each in model.depth.parameters())


def test_mmv_learns_who_belongs_together(mmv, batch):
    model = make_model(mmv).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        found, _ = terms(model, mmv, batch)
        loss = torch.stack(list(found.values.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_mmv_has_neither_bank_nor_dense_mappers(mmv, sources):
    done, _ = run(mmv, sources)
    assert isinstance(done.model, MMV)
    assert done.banks == {}
    assert not hasattr(done.model, "dense_mappers")


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({"objective": {"method": "clip"}}, "objective.method = 'clip'"),
        ({"objective": {"method": "mmv", "release": {"positive": "bank"}}}, "method mmv has no memory bank"),
        ({"objective": {"method": "mmv", "in_batch_negatives": False}}, "method mmv has no memory bank"),
        (
            {"objective": {"method": "mmv"}, "train": {"lanes": 2, "batch_size_per_lane": 1, "workers": 2}},
            "raise train.batch_size_per_lane",
        ),
    ],
)
def test_what_a_baseline_cannot_be_is_one_line(over, line):
    with pytest.raises(UserError, match=line):
        tiny.tiny_config(**over)


def test_another_method_into_the_same_folder_is_refused(sources, tmp_path):
    run(tiny.tiny_config(objective={"method": "cmc"}), sources, tmp_path)
    with pytest.raises(UserError, match=r"objective.method was 'cmc', now 'hcmoco'"):
        run(tiny.tiny_config(), sources, tmp_path)
