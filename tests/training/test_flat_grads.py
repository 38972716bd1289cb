"""Parameters in one vector: the model computes and learns as before, whatever lies where."""

import copy

import pytest
import torch
from torch import nn

from hcmoco.training.flat_grads import FlatParameters


class Net(nn.Module):
    """Parameters of many shapes, layouts and depths, one of them frozen and one never used."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Conv2d(7, 5, 1), nn.Conv2d(5, 6, 3))
        self.head = nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.randn(()))
        self.unused = nn.Parameter(torch.randn(3))
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3))) * self.scale + self.frozen


@pytest.fixture
def nets() -> tuple[Net, Net, torch.Tensor]:
    """A net, its copy, and an input."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Net()
        x = torch.randn(2, 3, 9, 9)
    return net, copy.deepcopy(net), x


def test_values_layout_output_and_gradients_are_as_before(nets):
    net, plain, x = nets
    flat = FlatParameters(net)
    plain(x).square().sum().backward()
    net(x).square().sum().backward()
    for (name, a), b in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.stride() == b.stride(), name
        assert a.data_ptr() % 64 == flat.values.data_ptr() % 64 or name == "frozen"
        if b.grad is not None:
            assert torch.equal(a.grad, b.grad), name
    assert torch.equal(net.unused.grad, torch.zeros(3))
    assert net.frozen.grad is None


def test_every_parameter_is_a_view_of_its_own_part_of_the_vector(nets):
    net, _, _ = nets
    flat = FlatParameters(net)
    flat.values.fill_(2.0)
    flat.gradients.fill_(3.0)
    assert all(
        (each == 2).all() and (each.grad == 3).all() for name, each in net.named_parameters() if name != "frozen"
    )
    flat.values.zero_()
    for number, (name, each) in enumerate(net.named_parameters(), start=1):
        if name != "frozen":
            each.data.fill_(float(number))
    counts = {int(value): int((flat.values == value).sum()) for value in flat.values.unique() if value}
    expected = {
        number: each.numel() for number, (name, each) in enumerate(net.named_parameters(), start=1) if name != "frozen"
    }
    assert counts == expected, "two parameters share places"
    assert set(flat.parts) == {"", "body", "head"}
    assert sum(len(part) for part in flat.parts.values()) == len(flat.values)


def test_gradients_add_up_until_they_are_zeroed(nets):
    net, plain, x = nets
    flat = FlatParameters(net)
    for _ in range(2):
        net(x).sum().backward()
        plain(x).sum().backward()
    torch.testing.assert_close(net.head.weight.grad, plain.head.weight.grad)
    flat.gradients.zero_()
    assert not net.head.weight.grad.any()


def test_clipping_is_torch_s(nets):
    net, plain, x = nets
    flat = FlatParameters(net)
    for limit in (0.01, 1e9, float("inf")):
        flat.gradients.zero_()
        plain.zero_grad()
        net(x).square().sum().backward()
        plain(x).square().sum().backward()
        torch.testing.assert_close(flat.clip(limit), nn.utils.clip_grad_norm_(plain.parameters(), limit))
        torch.testing.assert_close(net.body[0].weight.grad, plain.body[0].weight.grad)


def test_loading_a_state_stays_in_the_vector(nets):
    net, plain, _ = nets
    flat = FlatParameters(net)
    with torch.no_grad():
        plain.head.weight.fill_(7.0)
    net.load_state_dict(plain.state_dict())
    assert (flat.values == 7).sum() == net.head.weight.numel()


def test_a_model_that_has_grown_is_laid_out_anew_with_its_values(nets):
    net, plain, x = nets
    FlatParameters(net)
    net.more = nn.Linear(4, 2)
    flat = FlatParameters(net)
    assert torch.equal(net(x), plain(x))
    assert "more" in flat.parts
    flat.parts["head"].grad.fill_(5.0)
    assert (net.head.bias.grad == 5).all()


@pytest.mark.parametrize("num_bytes", [1, 300, 1000, 1 << 20])
def test_slices_of_the_gradients_are_whole_parameters_from_the_last_to_the_first(nets, num_bytes):
    net, _, _ = nets
    flat = FlatParameters(net)
    slices = flat.cut(num_bytes)
    assert torch.equal(torch.cat([each for each, _ in reversed(slices)]), flat.gradients)
    assert [each for _, parameters in slices for each in parameters] == [
        dict(net.named_parameters())[name] for name in reversed(list(flat.names))
    ]
    for number, (gradients, parameters) in enumerate(slices):
        gradients.fill_(number + 1)
        assert all((each.grad == number + 1).all() for each in parameters)
        assert gradients.nbytes <= num_bytes or len(parameters) == 1
    assert flat.gradients.all()
