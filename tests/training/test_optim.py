import copy
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.lr_schedule import learning_rate
from hcmoco.training.optim import (
    OptimConfig,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)


def rates(steps: int, **config) -> np.ndarray:
    return np.array([learning_rate(OptimConfig(**config), step, steps) for step in range(steps)])


def test_cosine_is_the_closed_form():
    got = rates(40, lr=0.3, warmup_steps=0, final_lr=0.2)
    # The half-angle form, so that the oracle is not the code's own formula.
    expected = 0.3 * (0.2 + 0.8 * np.cos(np.pi * np.arange(40) / 80) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert got[0] == 0.3
    assert (np.diff(got) < 0).all()


def test_warm_up_is_linear_and_the_cosine_begins_at_its_end():
    got = rates(30, lr=0.5, warmup_steps=10, final_lr=0.0)
    np.testing.assert_allclose(got[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-12)
    assert got[9] == got[10] == 0.5
    assert got[20] == pytest.approx(0.25), "half-way down after half of the 20 steps"
    np.testing.assert_allclose(got[10:], 0.5 * np.cos(np.pi * np.arange(20) / 40) ** 2, rtol=1e-12)


def test_the_schedule_ends_at_the_final_share():
    config = OptimConfig(lr=0.4, warmup_steps=3, final_lr=0.01)
    assert learning_rate(config, 50, 50) == pytest.approx(0.004), "where the cosine would go on"
    assert learning_rate(config, 49, 50) > 0.004


def test_a_warm_up_longer_than_the_schedule_only_rises():
    got = rates(4, lr=1.0, warmup_steps=100)
    np.testing.assert_allclose(got, [0.01, 0.02, 0.03, 0.04])


def test_multistep_falls_at_each_share_of_the_whole_schedule():
    got = rates(10, lr=1.0, warmup_steps=2, schedule="multistep", milestones=(0.3, 0.8), gamma=0.5)
    np.testing.assert_allclose(got, [0.5, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_an_old_name_of_the_schedule_gets_its_new_one():
    with pytest.raises(UserError, match=r"^recipe: schedule = 'drops': this schedule is now called 'multistep'$"):
        build(OptimConfig, {"schedule": "drops"}, "recipe")
    with pytest.raises(UserError, match=r"'drops' is now called 'milestones'$"):
        build(OptimConfig, {"drops": [0.5]}, "recipe")


class Net(nn.Module):
    """Weights of every shape that a model has; the convolution's lie in channels-last memory."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, bias=False)
        self.norm = nn.BatchNorm2d(7)
        self.narrow = nn.Conv2d(7, 5, 1)
        self.out = nn.Linear(5, 4)
        self.unused = nn.Parameter(torch.randn(3))
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.out(self.narrow(self.norm(self.conv(x)).relu()).mean((2, 3)))


def flat_and_optimizer(config: OptimConfig, net: Net) -> tuple[FlatParameters, torch.optim.Optimizer]:
    flat = FlatParameters(net)
    return flat, build_optimizer(config, flat)


def train(net: Net, flat: FlatParameters, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        flat.gradients.zero_()
        x = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(step)).to(memory_format=torch.channels_last)
        net(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(lr=0.01),
        OptimConfig(lr=0.01, momentum=0.0),
        OptimConfig(name="adamw", lr=0.01),
        OptimConfig(name="muon", lr=0.01),
    ],
)
def test_a_round_trip_through_a_file_changes_no_bit_of_the_steps_after_it(config):
    torch.manual_seed(0)
    net = Net()
    flat, optimizer = flat_and_optimizer(config, net)
    train(net, flat, optimizer, range(4))
    stored = save({key: value.contiguous() for key, value in optimizer_tensors(optimizer, flat).items()})

    again = Net()
    again.load_state_dict(net.state_dict())
    flat_again, fresh = flat_and_optimizer(config, again)
    load_optimizer_tensors(fresh, flat_again, load(stored))
    train(net, flat, optimizer, range(4, 7))
    train(again, flat_again, fresh, range(4, 7))
    for (name, a), b in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    one, other = optimizer_tensors(optimizer, flat), optimizer_tensors(fresh, flat_again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(
        value.shape == net.get_parameter(key.partition("|")[0]).shape
        for key, value in one.items()
        if not key.endswith("|step")
    )
    assert bool(one) == (config.name != "sgd" or config.momentum > 0)


def test_without_its_state_the_optimizer_goes_elsewhere():
    torch.manual_seed(0)
    net = Net()
    config = OptimConfig(lr=0.01)
    flat, optimizer = flat_and_optimizer(config, net)
    train(net, flat, optimizer, range(4))
    again = Net()
    again.load_state_dict(net.state_dict())
    train(net, flat, optimizer, range(4, 5))
    train(again, *flat_and_optimizer(config, again), range(4, 5))
    assert not torch.equal(net.out.weight, again.out.weight), "else the round trip above proves nothing"


@pytest.mark.parametrize(
    "config", [OptimConfig(lr=0.01, weight_decay=0.1), OptimConfig(name="adamw", lr=0.01, weight_decay=0.1)]
)
def test_steps_are_those_of_torch_s_optimizer_over_the_parameters_one_by_one(config):
    torch.manual_seed(0)
    net = Net().double()
    plain = copy.deepcopy(net)
    flat, optimizer = flat_and_optimizer(config, net)
    kind = torch.optim.SGD if config.name == "sgd" else torch.optim.AdamW
    reference = kind(
        plain.parameters(), lr=0.01, weight_decay=0.1, **({"momentum": 0.9} if config.name == "sgd" else {})
    )
    for step in range(4):
        x = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        flat.gradients.zero_()
        net(x).square().sum().backward()
        optimizer.step()
        reference.zero_grad()
        plain.unused.grad = torch.zeros(3, dtype=torch.float64)
        plain(x).square().sum().backward()
        reference.step()
    for (name, a), b in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_fused_sgd_of_a_gpu_is_the_other_one_to_rounding_and_takes_its_state(momentum):
    """As on a GPU, where it is the default; here both run."""
    config = OptimConfig(lr=0.01, momentum=momentum, weight_decay=0.1)
    weights, states = {}, {}
    for first, then in ((False, False), (False, True), (True, False), (True, True)):
        torch.manual_seed(0)
        net = Net().double()
        flat = FlatParameters(net)
        x = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        optimizer = build_optimizer(config, flat, fused_sgd=first)
        for step in range(4):
            if step == 2:
                kept = {name: value.clone() for name, value in optimizer_tensors(optimizer, flat).items()}
                optimizer = build_optimizer(config, flat, fused_sgd=then)
                load_optimizer_tensors(optimizer, flat, kept)
            flat.gradients.zero_()
            net(x).square().sum().backward()
            optimizer.step()
        weights[first, then], states[first, then] = flat.values.clone(), set(optimizer_tensors(optimizer, flat))
    for each, found in weights.items():
        torch.testing.assert_close(found, weights[False, False], rtol=1e-9, atol=1e-12)
        assert states[each] == states[False, False]
    assert bool(states[True, True]) == bool(momentum)


def test_on_a_cpu_sgd_is_not_fused():
    optimizer = build_optimizer(OptimConfig(), FlatParameters(Net()))
    assert not any(group["fused"] for group in optimizer.param_groups)


def test_a_part_that_the_state_does_not_name_begins_anew_beside_one_that_goes_on():
    config = OptimConfig(name="adamw", lr=0.01)
    torch.manual_seed(0)
    net = Net()
    flat, optimizer = flat_and_optimizer(config, net)
    train(net, flat, optimizer, range(3))
    older = {key: value for key, value in optimizer_tensors(optimizer, flat).items() if not key.startswith("out.")}
    flat, optimizer = flat_and_optimizer(config, net)
    load_optimizer_tensors(optimizer, flat, older)
    train(net, flat, optimizer, range(1))
    steps = {
        key.partition(".")[0]: value.item()
        for key, value in optimizer_tensors(optimizer, flat).items()
        if key.endswith("|step")
    }
    assert (steps["conv"], steps["out"]) == (4, 1)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("nothing.weight|momentum_buffer", (4, 5)),
        ("out.weight|momentum_buffer", (5, 4)),
        ("|step", ()),
        ("out.weight|x", ()),
    ],
)
def test_a_tensor_that_fits_no_parameter_is_refused(key, shape):
    flat, optimizer = flat_and_optimizer(OptimConfig(), Net())
    with pytest.raises(ValueError, match="fits no parameter"):
        load_optimizer_tensors(optimizer, flat, {key: torch.zeros(shape)})


def test_half_a_part_is_refused():
    flat, optimizer = flat_and_optimizer(OptimConfig(name="adamw"), Net())
    with pytest.raises(ValueError, match=r"lacks step of out.bias"):
        load_optimizer_tensors(optimizer, flat, {"out.weight|step": torch.tensor(3.0)})
    with pytest.raises(ValueError, match=r"have taken \[3.0, 4.0\] steps"):
        load_optimizer_tensors(
            optimizer, flat, {"out.weight|step": torch.tensor(3.0), "out.bias|step": torch.tensor(4.0)}
        )


def test_weight_decay_is_on_every_parameter():
    for name in ("sgd", "adamw", "muon"):
        flat, optimizer = flat_and_optimizer(OptimConfig(name=name, weight_decay=0.25), Net())
        counted = sum(
            p.numel() for group in optimizer.param_groups for p in group["params"] if group["weight_decay"] == 0.25
        )
        assert counted == len(flat.values)
    assert math.isclose(OptimConfig().weight_decay, 1e-4)
