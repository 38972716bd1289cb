"""The skeleton encoder against a loop over joints, and its published size."""

import numpy as np
import pytest
import torch

from hcmoco.data.skeletons import COCO_17, COMMON_13, MPII_16
from hcmoco.models.semgcn import GraphConv, SemGCN, SkeletonConfig


@pytest.mark.parametrize(("joints", "parameters"), [(MPII_16, 299_468), (COMMON_13, 299_378)])
def test_has_the_published_number_of_parameters(joints, parameters):
    assert sum(each.numel() for each in SemGCN(joints, SkeletonConfig()).parameters()) == parameters


def loop_conv(conv, joints, x_JC):
    """One graph convolution, joint by joint in NumPy, edge weights looked up by pair."""
    pairs = [tuple(pair) for pair in conv.pairs.T.tolist()]
    weight_of = dict(zip(pairs, conv.edges.tolist(), strict=True))
    neighbors = {i: {i} for i in range(len(joints))}
    for a, b in joints.edge_indices:
        neighbors[a].add(b)
        neighbors[b].add(a)
    own, other = conv.weight.detach().numpy()
    out = []
    for i in range(len(joints)):
        total = sum(np.exp(weight_of[i, j]) for j in neighbors[i])
        row = conv.bias.detach().numpy().copy()
        for j in neighbors[i]:
            row += np.exp(weight_of[i, j]) / total * (x_JC[j] @ (own if i == j else other))
        out.append(row)
    return np.stack(out)


@pytest.mark.parametrize("joints", [MPII_16, COMMON_13])
def test_graph_convolution_is_the_sum_over_neighbors(joints):
    torch.manual_seed(3)
    conv = GraphConv(joints, 5, 7).double()
    torch.nn.init.normal_(conv.edges)
    x_BJC = torch.randn(2, len(joints), 5, dtype=torch.float64)
    expected = np.stack([loop_conv(conv, joints, x.numpy()) for x in x_BJC])
    np.testing.assert_allclose(conv(x_BJC).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_whole_network_is_its_layers_in_a_loop():
    torch.manual_seed(4)
    net = SemGCN(COMMON_13, SkeletonConfig(width=6, num_blocks=2), outputs=3).double().train()
    x_BJ2 = torch.randn(4, 13, 2, dtype=torch.float64)

    def layer(each, x):
        y = np.stack([loop_conv(each.conv, COMMON_13, row) for row in x])
        y = (y - y.mean((0, 1))) / np.sqrt(y.var((0, 1)) + 1e-5)
        return np.maximum(y, 0)

    expected = layer(net.stem, x_BJ2.numpy())
    for block in net.blocks:
        expected = expected + layer(block[1], layer(block[0], expected))
    expected = np.stack([loop_conv(net.head, COMMON_13, row) for row in expected])
    np.testing.assert_allclose(net(x_BJ2).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_initial_weights_stay_within_the_published_bound():
    conv = GraphConv(MPII_16, 128, 128)
    bound = 1.414 * (6 / (128 * 130)) ** 0.5
    assert 0.95 * bound < conv.weight.abs().max() <= bound
    assert torch.equal(conv.edges, torch.ones(46))


def test_a_change_travels_only_to_neighbors():
    conv = GraphConv(MPII_16, 2, 4)
    x = torch.randn(1, 16, 2)
    moved = x.clone()
    moved[0, MPII_16.index("left_wrist")] += 1
    changed = (conv(moved) != conv(x)).any(2)[0].nonzero().flatten().tolist()
    assert changed == sorted([MPII_16.index("left_elbow"), MPII_16.index("left_wrist")])


def test_needs_a_skeleton():
    with pytest.raises(ValueError, match="coco-17"):
        SemGCN(COCO_17, SkeletonConfig())
