"""The norm of each term's gradient: against closed forms, against the whole gradient, and without a trace in the
training. Several workers and micro-batches: `test_global_batch`, `test_micro_batches`, `test_world_sizes`."""

import pytest
import torch

from hcmoco.objectives import MODALITIES, ObjectiveConfig, sample_terms, total
from hcmoco.pretraining import trainer
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.term_gradients import ask_for_gradients, gradient_norms
from tests.helpers import local_pretraining as tiny


def test_a_linear_and_a_quadratic_term():
    """The gradient of w . e is w, that of |e|^2 / 2 is e."""
    e, other = torch.tensor([3.0, 4.0], requires_grad=True), torch.zeros(3)
    config = ObjectiveConfig(lambda_g=2.0, lambda_d=0.5, lambda_s=0.0)
    terms = {
        "g/linear": torch.tensor([1.0, 0.0]) @ e,
        "d/quadratic": e.square().sum() / 2,
        "s/off": e.sum() / 0,
        "g/none": torch.zeros(()),
    }
    embedded = {"e": e, "nobody": other}
    ask_for_gradients(embedded)
    found = {name: value.item() for name, value in gradient_norms(terms, config, embedded).items()}
    expected = {"g/linear": 2, "d/quadratic": 2.5, "s/off": 0, "g/none": 0, "all": (3.5**2 + 2**2) ** 0.5}
    assert found == pytest.approx(expected)
    assert e.grad is None
    assert other.grad is None


def test_the_sample_level_s_closed_form():
    """-log softmax over the batch: with P the shares of the answers, the gradient is (P - I) K / (B tau) with respect
    to the queries Q, and (P - I)^T Q / (B tau) with respect to the keys K."""
    B, tau = 5, 0.3
    config = ObjectiveConfig(num_negatives=0, tau_g=tau, lambda_g=1.7)
    generator = torch.Generator().manual_seed(1)
    embedded = {
        name: torch.nn.functional.normalize(torch.randn(B, 4, generator=generator, dtype=torch.float64))
        for name in MODALITIES
    }
    ask_for_gradients(embedded)
    present = {name: torch.ones(B, dtype=torch.bool) for name in MODALITIES}
    terms = sample_terms(config, embedded, present, torch.arange(B), {}, torch.zeros(0, dtype=torch.float64))
    found = gradient_norms(terms.values, config, embedded)
    assert len(terms.values) == 6
    for name in terms.values:
        query, key = (embedded[each].detach() for each in name.removeprefix("g/").split("-"))
        wrong = (query @ key.T / tau).softmax(1) - torch.eye(B)
        sides = torch.stack([wrong @ key, wrong.T @ query]) * config.lambda_g / (B * tau)
        torch.testing.assert_close(found[name], sides.norm())


@pytest.mark.parametrize("lambdas", [{}, {"lambda_g": 0.5, "lambda_d": 0.0, "lambda_s": 3.0}])
def test_the_terms_gradients_add_up_to_that_of_the_loss(sources, batch, monkeypatch, lambdas):
    config = tiny.tiny_config(
        objective=lambdas,
        probe={"every": 1},
        stages={"stage1_steps": 0, "stage2_steps": 2},
        train={"batch_size_per_lane": 5},
    )
    run = trainer.Pretraining(config, tiny.tiny_plan(config, sources), torch.device("cpu"), lanes_here=2)
    seen = []

    def watched(terms, objective, embedded):
        loss = total(terms, objective, "full")
        seen.append(torch.autograd.grad(loss, list(embedded.values()), retain_graph=True, allow_unused=True))
        return gradient_norms(terms, objective, embedded)

    monkeypatch.setattr(trainer, "gradient_norms", watched)
    run.train_step(batch)
    (whole,) = seen
    norm = torch.cat([each.flatten() for each in whole if each is not None]).norm()
    torch.testing.assert_close(run.gradient_norms["all"], norm)
    assert norm > 0.1
    for name, value in run.gradient_norms.items():
        assert (value == 0) == (name.startswith("d/") and "lambda_d" in lambdas), name


@pytest.mark.parametrize("train", [{}, {"micro_rows": 2}, {"global_batch": True}])
def test_they_leave_no_trace_in_the_training(sources, train):
    states = []
    for every in (0, 1):
        config = tiny.tiny_config(probe={"every": every}, train=train)
        feed = tiny.tiny_feed(config, sources)
        run = pretrain(config, feed.plan, tiny.LocalContext(feed, threads=1), None)
        assert bool(run.gradient_norms) == bool(every)
        states.append(run.state_dict())
    assert tiny.differences(*states) == []
