"""The skeleton encoder against a loop over joints, and its published size."""

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.data.skeletons import COCO_17, COMMON_13, KINECT_25, MPII_16, PEOPLE_31
from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import GraphConv, SemGCN, SkeletonConfig
from hcmoco.models.semgcn_weights import load_skeleton_weights


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


@pytest.mark.parametrize("joints", [MPII_16, COMMON_13, COCO_17, KINECT_25])
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
    with pytest.raises(ValueError, match="people-31"):
        SemGCN(PEOPLE_31, SkeletonConfig())


@pytest.mark.parametrize("joints", [COCO_17, KINECT_25])
def test_entries_of_the_adjacency_are_the_bones_both_ways_and_the_joints(joints):
    """Symmetric, and connected: its power by the number of joints has no zero."""
    net = SemGCN(joints, SkeletonConfig())
    adjacency = np.zeros((len(joints), len(joints)))
    adjacency[tuple(net.stem.conv.pairs.numpy())] = 1
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert adjacency.sum() == len(joints) + 2 * len(joints.edges) == net.head.edges.numel()
    assert (np.linalg.matrix_power(adjacency, len(joints)) > 0).all()


def published_state(joints, seed: int = 0, prefix: str = "") -> dict[str, torch.Tensor]:
    """A state in SemGCN's published names and shapes, with random weights."""
    rng = torch.Generator().manual_seed(seed)
    entries = len(joints) + 2 * len(joints.edges)

    def conv(name, inputs):
        shapes = {"W": (2, inputs, 128), "e": (1, entries), "bias": (128,)}
        return {f"{name}.{leaf}": torch.randn(shape, generator=rng) for leaf, shape in shapes.items()}

    def layer(name, inputs):
        norm = {leaf: torch.randn(128, generator=rng) for leaf in ("weight", "bias", "running_mean")}
        norm |= {"running_var": torch.rand(128, generator=rng), "num_batches_tracked": torch.tensor(7)}
        return conv(f"{name}.gconv", inputs) | {f"{name}.bn.{leaf}": value for leaf, value in norm.items()}

    state = layer("gconv_input.0", 2) | conv("gconv_output", 128)
    for block in range(4):
        state |= layer(f"gconv_layers.{block}.gconv1", 128) | layer(f"gconv_layers.{block}.gconv2", 128)
    return {prefix + key: value for key, value in state.items()}


def published_forward(state, joints, x_J2):
    """The published network on one person in evaluation mode, from its own names."""
    adjacency = np.eye(len(joints))
    for a, b in joints.edge_indices:
        adjacency[a, b] = adjacency[b, a] = 1
    values = {key: value.double().numpy() for key, value in state.items()}

    def conv(name, x):
        logits = np.full_like(adjacency, -np.inf)
        logits[adjacency > 0] = values[f"{name}.e"][0]  # row by row
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        own, other = values[f"{name}.W"]
        diagonal = np.diag(np.diag(weights))
        return diagonal @ x @ own + (weights - diagonal) @ x @ other + values[f"{name}.bias"]

    def layer(name, x):
        y = conv(f"{name}.gconv", x) - values[f"{name}.bn.running_mean"]
        y = y / np.sqrt(values[f"{name}.bn.running_var"] + 1e-5) * values[f"{name}.bn.weight"]
        return np.maximum(y + values[f"{name}.bn.bias"], 0)

    x = layer("gconv_input.0", x_J2)
    for block in range(4):
        x = x + layer(f"gconv_layers.{block}.gconv2", layer(f"gconv_layers.{block}.gconv1", x))
    return conv("gconv_output", x)


@pytest.mark.parametrize("prefix", ["", "module.encoder3."])
@pytest.mark.parametrize("joints", [MPII_16, COMMON_13])
def test_published_weights_give_the_published_function(tmp_path, joints, prefix):
    state = published_state(joints, prefix=prefix)
    torch.save({"model": state | {"epoch": torch.zeros(1)}}, tmp_path / "published.pth")
    net = SemGCN(joints, SkeletonConfig()).eval()
    load_skeleton_weights(net, str(tmp_path / "published.pth"))
    x_BJ2 = torch.rand(2, len(joints), 2) * 2 - 1
    bare = {key.removeprefix(prefix): value for key, value in state.items()}
    wanted = np.stack([published_forward(bare, joints, x.double().numpy()) for x in x_BJ2])
    np.testing.assert_allclose(net(x_BJ2).detach().numpy(), wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())


def test_the_model_starts_from_a_file_of_our_own_names(tmp_path):
    net = SemGCN(MPII_16, SkeletonConfig())
    torch.save(net.state_dict(), tmp_path / "ours.pth")
    values = {"rgb": {"name": "test_resnet"}, "depth": {"name": "test_resnet"}}
    config = build(ModelConfig, {**values, "skeleton": {"init": str(tmp_path / "ours.pth")}}, "recipe")
    for load in (True, False):
        found = HCMoCo(config, seed=0, load=load).keypoints.state_dict()
        same = all(torch.equal(found[key], value) for key, value in net.state_dict().items())
        assert same == load


def test_weights_of_another_skeleton_are_a_line(tmp_path):
    torch.save(published_state(MPII_16), tmp_path / "mpii.pth")
    with pytest.raises(UserError, match=r"of kinect-25: stem.conv.edges is \[46\], wanted \[73\]") as error:
        load_skeleton_weights(SemGCN(KINECT_25, SkeletonConfig()), str(tmp_path / "mpii.pth"))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"blocks\.4\.0\.conv\.weight is missing"):
        load_skeleton_weights(SemGCN(MPII_16, SkeletonConfig(num_blocks=5)), str(tmp_path / "mpii.pth"))
