import pytest
import torch

from hcmoco.objectives import MODALITIES, Bank
from hcmoco.pretraining.trainer import Pretraining
from tests.helpers import local_pretraining as tiny

CPU = torch.device("cpu")


def test_a_step_of_another_number_is_refused(sources, batch):
    config = tiny.tiny_config()
    run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
    run.step = 1
    with pytest.raises(RuntimeError, match="the plan says step 1, the batch is of step 0"):
        run.advance(batch)


def test_a_step_in_which_no_row_has_anything_changes_the_weights_by_their_decay_alone(sources, batch):
    config = tiny.tiny_config(
        optim={"weight_decay": 0.1, "momentum": 0.0, "warmup_steps": 0}, train={"batch_size_per_lane": 5}
    )
    run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
    before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
    values = run.advance(tiny.without(batch, *MODALITIES))
    assert (run.step, values["loss"].item(), values["grad_norm"].item()) == (1, 0, 0)
    for name, value in run.model.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] * (1 - 0.05 * 0.1))
    assert not any(bank.visited.any() for bank in run.banks.values())


def test_a_step_reports_what_entered_from_which_data_set(sources, batch):
    config = tiny.tiny_config(train={"batch_size_per_lane": 5})
    run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
    values = {name: value.item() for name, value in run.advance(batch).items()}
    assert values["rows/g/rgb-depth/room"] == values["entered/g/rgb-depth"] == batch.has_depth.sum()
    assert values["rows/g/rgb-depth/street"] == 0
    assert values["rows/g/rgb-keypoints/room"] + values["rows/g/rgb-keypoints/street"] == 10
    assert values["level/g"] == pytest.approx(
        sum(value for name, value in values.items() if name.startswith("loss/g/")), rel=1e-6
    )
    assert values["loss"] == pytest.approx(values["level/g"])
    assert values["lr"] == pytest.approx(0.05 / 2)
    visited = {name: set(torch.nonzero(bank.visited).flatten().tolist()) for name, bank in run.banks.items()}
    assert visited == {name: set(batch.index[getattr(batch, f"has_{name}")].tolist()) for name in MODALITIES}
    assert all(isinstance(bank, Bank) for bank in run.banks.values())


def test_the_gradient_is_clipped_and_its_norm_is_that_before(sources, batch):
    norms, moves = [], []
    for clip in (0.0, 0.01):
        config = tiny.tiny_config(
            optim={"clip_norm": clip, "momentum": 0.0, "weight_decay": 0.0, "warmup_steps": 0},
            train={"batch_size_per_lane": 5},
        )
        run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
        before = torch.cat([each.detach().flatten() for each in run.model.parameters()])
        norms.append(run.advance(batch)["grad_norm"].item())
        moves.append((torch.cat([each.detach().flatten() for each in run.model.parameters()]) - before).norm().item())
    assert norms[0] == norms[1] > 1
    assert moves[0] == pytest.approx(0.05 * norms[0], rel=1e-3)
    assert moves[1] == pytest.approx(0.05 * 0.01, rel=1e-2)
