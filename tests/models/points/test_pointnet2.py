"""The network: published shapes, invariances, and gradients against finite differences."""

import pytest
import torch
from safetensors.torch import save_file

from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.points.neighbors import take
from hcmoco.models.points.pointnet2 import PointNet2MSG

# Inputs and outputs of each layer, by the published name of what holds it.
ABSTRACTION = {
    "0.mlps.0": [(3, 16), (16, 32)],
    "0.mlps.1": [(3, 32), (32, 64)],
    "1.mlps.0": [(99, 64), (64, 128)],
    "1.mlps.1": [(99, 64), (64, 128)],
    "2.mlps.0": [(259, 128), (128, 256)],
    "2.mlps.1": [(259, 128), (128, 256)],
    "3.mlps.0": [(515, 256), (256, 512)],
    "3.mlps.1": [(515, 256), (256, 512)],
}
PROPAGATION = {
    "0.mlp": [(256, 128), (128, 128)],
    "1.mlp": [(608, 256), (256, 256)],
    "2.mlp": [(768, 512), (512, 512)],
    "3.mlp": [(1536, 512), (512, 512)],
}
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for part, stacks in (("SA_modules", ABSTRACTION), ("FP_modules", PROPAGATION)):
        for name, layers in stacks.items():
            for number, (inputs, outputs) in enumerate(layers):
                layer = f"{part}.{name}.layer{number}"
                shapes[f"{layer}.conv.weight"] = (outputs, inputs, 1, 1)
                shapes |= {f"{layer}.bn.bn.{each}": (outputs,) for each in STATISTICS}
                shapes[f"{layer}.bn.bn.num_batches_tracked"] = ()
    return shapes


def people(batch: int, count: int = 256, seed: int = 0) -> torch.Tensor:
    """Points as wide, tall and deep as a person, meters."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([0.6, 1.7, 0.4], dtype=torch.float64)
    return (torch.rand(batch, count, 3, generator=generator, dtype=torch.float64) - 0.5) * size


@pytest.fixture(scope="module")
def network() -> PointNet2MSG:
    torch.manual_seed(0)
    return PointNet2MSG().double()


def test_layers_have_the_published_names_and_shapes(network):
    assert {name: tuple(each.shape) for name, each in network.state_dict().items()} == published_shapes()
    assert sum(each.numel() for each in network.parameters()) == 2_674_992


def test_a_file_of_the_published_names_loads(network, tmp_path):
    own = {name: value.float().clone() for name, value in network.state_dict().items()}
    beside = {f"encoder1.{name}": torch.zeros(3) for name in ("conv1.weight", "bn1.bias")}
    torch.save({"model": {f"encoder2.{name}": value for name, value in own.items()} | beside}, tmp_path / "two.pth")
    encoder = build_encoder(EncoderConfig(name="pointnet2_msg", init=str(tmp_path / "two.pth")))
    assert encoder.report.prefix == "encoder2."
    assert encoder.report.loaded == len(own)
    assert all(torch.equal(value, own[name]) for name, value in encoder.trunk.state_dict().items())
    del own["SA_modules.2.mlps.1.layer0.conv.weight"]
    save_file({name: value.contiguous() for name, value in own.items()}, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"1 missing: SA_modules\.2\.mlps\.1\.layer0\.conv\.weight"):
        build_encoder(EncoderConfig(name="pointnet2_msg", init=str(tmp_path / "less.safetensors")))


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_points_only_orders_the_features(network, training):
    """Nothing has to be sorted first: sampling begins with the point that is farthest from the mean."""
    points = people(2)
    shuffled = torch.stack([torch.randperm(256), torch.randperm(256)])
    network.train(training)
    with torch.no_grad():
        features = network(points)
        moved = network(take(points, shuffled))
    assert features.std() > 0.01
    torch.testing.assert_close(moved, take(features, shuffled), rtol=1e-9, atol=1e-9)


def test_scale_is_not_forgotten(network):
    """Radii are meters: a smaller person is another one."""
    network.eval()
    with torch.no_grad():
        small, large = network(0.5 * people(1)), network(people(1))
    assert (small - large).abs().max() > 0.05 * large.abs().max()


def test_gradients_equal_finite_differences(network):
    """Of weights in every part, in training mode, where batch norm ties all points together."""
    network.train()
    points, wanted = people(2), torch.randn(2, 256, 128, generator=torch.Generator().manual_seed(1)).double()

    def loss() -> torch.Tensor:
        return (network(points) * wanted).sum()

    names = [f"SA_modules.{level}.mlps.{level % 2}.layer0.conv.weight" for level in range(4)]
    names += [f"FP_modules.{level}.mlp.layer1.conv.weight" for level in range(4)]
    network.zero_grad()
    loss().backward()
    step = 1e-8  # ReLU and the maximum have kinks
    parameters = dict(network.named_parameters())
    for name in names:
        weight = parameters[name]
        place = int(weight.grad.abs().argmax())
        with torch.no_grad():
            flat = weight.view(-1)
            before = flat[place].item()
            flat[place] = before + step
            above = loss()
            flat[place] = before - step
            below = loss()
            flat[place] = before
        found = ((above - below) / (2 * step)).item()
        assert found == pytest.approx(weight.grad.view(-1)[place].item(), rel=1e-4), name
