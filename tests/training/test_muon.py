"""Muon: orthogonal updates of matrices, AdamW's of everything else."""

import pytest
import torch
from torch import nn

from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.muon import BETA_2, MOMENTUM, as_matrices, orthogonalize
from hcmoco.training.optim import OptimConfig, build_optimizer
from tests.helpers import forked_runs


def with_singular_values(rows: int, columns: int, values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A matrix [rows, columns], float64, with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    count = len(values)
    left, right = (
        torch.linalg.qr(torch.randn(side, count, generator=generator, dtype=torch.float64))[0]
        for side in (rows, columns)
    )
    return left @ torch.diag(values) @ right.T


@pytest.mark.parametrize(("rows", "columns"), [(8, 40), (40, 8), (16, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(rows, columns):
    matrix = with_singular_values(rows, columns, torch.logspace(0, -2, 8, dtype=torch.float64))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left[:, :8].T @ orthogonalize(matrix[None])[0] @ right[:8].T
    values = inside.diagonal()
    assert 0.6 < values.min() <= values.max() < 1.3
    assert (inside - torch.diag(values)).abs().max() < 1e-6


def test_it_is_the_published_iteration_on_the_matrix_itself():
    matrix = with_singular_values(12, 30, torch.logspace(0, -4, 12, dtype=torch.float64))
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(orthogonalize(matrix[None])[0], x, rtol=0, atol=1e-9)


def test_single_precision_is_near():
    matrix = with_singular_values(64, 576, torch.logspace(0, -3, 64, dtype=torch.float64))
    exact, rounded = orthogonalize(matrix[None]), orthogonalize(matrix[None].float())
    assert (exact - rounded).abs().max() < 1e-3


def test_neither_size_nor_neighbors_matter_and_zeros_stay_zeros():
    matrices = torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(1))
    matrices[1] = 0
    found = orthogonalize(matrices)
    assert torch.equal(found[1], torch.zeros(5, 9))
    for k in (0, 2):
        torch.testing.assert_close(orthogonalize(1e-12 * matrices[k : k + 1])[0], found[k], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7, 5), (1, 7, 5)),
        ((7, 5, 3, 3), (1, 7, 45)),
        ((2, 6, 4), (2, 6, 4)),
        ((7, 1, 3, 3), None),
        ((7,), None),
        ((), None),
        ((1, 5), None),
        ((5, 1), None),
    ],
)
def test_what_a_matrix_is(shape, expected):
    assert as_matrices(torch.Size(shape)) == expected


class Net(nn.Module):
    """One parameter of each kind."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, bias=False)
        self.stack = nn.Parameter(torch.randn(2, 4, 5))


def stepped(net: Net, gradients: list[dict[str, torch.Tensor]], config: OptimConfig) -> dict[str, torch.Tensor]:
    """Parameters after a step for each of the gradients."""
    flat = FlatParameters(net)
    optimizer = build_optimizer(config, flat)
    for each in gradients:
        for name, parameter in net.named_parameters():
            parameter.grad.copy_(each[name])
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def drawn(net: Net, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(each.shape, generator=generator, dtype=each.dtype) for name, each in net.named_parameters()
    }


CONFIG = OptimConfig(name="muon", lr=0.01, weight_decay=0.1)


def test_what_is_no_matrix_is_trained_by_adamw():
    torch.manual_seed(0)
    net = Net().double()
    gradients = [drawn(net, seed) for seed in range(4)]
    others = {name: each.detach().clone().requires_grad_() for name, each in net.named_parameters()}
    found = stepped(net, gradients, CONFIG)
    reference = torch.optim.AdamW(others.values(), lr=0.01, weight_decay=0.1, betas=(MOMENTUM, BETA_2), eps=1e-8)
    for each in gradients:
        for name, parameter in others.items():
            parameter.grad = each[name]
        reference.step()
    for name, parameter in others.items():
        same = torch.allclose(found[name], parameter, rtol=1e-9, atol=1e-12)
        assert same == (name in ("conv.bias", "depthwise.weight")), name


def test_a_matrix_moves_by_its_orthogonal_momentum_at_adamw_s_size():
    torch.manual_seed(0)
    net = Net().double()
    before = {name: each.detach().clone() for name, each in net.named_parameters()}
    gradients = [drawn(net, seed) for seed in range(2)]
    found = stepped(net, gradients, CONFIG)
    for name, shape in {"conv.weight": (1, 6, 27), "stack": (2, 4, 5)}.items():
        expected, mean = before[name].clone(), torch.zeros(shape, dtype=torch.float64)
        for each in gradients:
            gradient = each[name].reshape(shape)
            mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
            update = orthogonalize(MOMENTUM * mean + (1 - MOMENTUM) * gradient)
            expected -= 0.01 * 0.1 * expected + 0.01 * 0.2 * max(shape[1:]) ** 0.5 * update.reshape(expected.shape)
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12)
        rms = (found[name] - before[name]).square().mean().sqrt()
        assert 0.1 * 0.01 < rms < 0.6 * 0.01, "AdamW's updates are between 0.2 and 0.4 of its learning rate"


def test_the_memory_layout_changes_nothing_but_rounding():
    torch.manual_seed(0)
    plain = Net().double()
    other = Net().double()
    other.load_state_dict(plain.state_dict())
    other.to(memory_format=torch.channels_last)
    gradients = [drawn(plain, seed) for seed in range(3)]
    found = stepped(plain, gradients, CONFIG)
    for name, value in stepped(other, gradients, CONFIG).items():
        torch.testing.assert_close(value, found[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.slow
def test_workers_share_the_work_and_hold_the_same_bits(tmp_path):
    forked_runs.run_jobs(
        tmp_path, [{"call": "muon", "world": world, "arguments": {"out": str(tmp_path)}} for world in (1, 2, 3)]
    )
    alone = torch.load(tmp_path / "1-0.pt")
    for world in (2, 3):
        first, *others = (torch.load(tmp_path / f"{world}-{rank}.pt") for rank in range(world))
        for name, value in alone.items():
            torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
            assert all(torch.equal(first[name], other[name]) for other in others)
