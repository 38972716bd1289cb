"""MMV's heads: sizes, the spaces that pairs share, cells as single images, first weights."""

import pytest
import torch
import torch.nn.functional as F

from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.mmv import COARSE, FINE, MMV
from hcmoco.models.multimodal import HCMoCo, ModelConfig

TINY = ModelConfig(rgb=EncoderConfig(name="test_resnet"), depth=EncoderConfig(name="test_resnet"), embedding=32)


@pytest.fixture
def model():
    model = MMV(TINY, seed=0)
    # Batch norm as after some training, else it would hide a head that leaves it out.
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def features(model):
    torch.manual_seed(1)
    images = {name: getattr(model, name)(torch.randn(3, 3, 64, 64)) for name in ("rgb", "depth")}
    return {**images, "keypoints": torch.randn(3, 16, 32)}


def test_a_products_of_two_modalities_is_half_their_cosine_in_the_space_they_share(model, features):
    with torch.no_grad():
        joined = {name: model.global_embedding(name, each) for name, each in features.items()}
        fine = {name: model.fine(name, features[name]) for name in ("rgb", "depth")}
        coarse = {name: model.coarse(name, each) for name, each in {**fine, "keypoints": features["keypoints"]}.items()}
    for name, each in joined.items():
        assert each.shape == (3, FINE + 2 * COARSE)
        torch.testing.assert_close(each.norm(dim=1), torch.ones(3), msg=name)
    for a, b, space in (("rgb", "depth", fine), ("rgb", "keypoints", coarse), ("depth", "keypoints", coarse)):
        expected = F.cosine_similarity(space[a][:, None], space[b][None], dim=2)
        torch.testing.assert_close(joined[a] @ joined[b].T, expected / 2, rtol=1e-4, atol=1e-6)


def test_the_heads_are_the_layers_that_are_described(model, features):
    """Plain functions on means of the features: two layers for RGB, one for depth; batch norm after RGB's."""

    def norm(x, layer):
        return (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + layer.bias

    with torch.no_grad():
        means = {name: torch.cat([each.mean((2, 3)) for each in features[name]], 1) for name in ("rgb", "depth")}
        first, relu, second, last = model.rgb_tail
        assert isinstance(relu, torch.nn.ReLU)
        hidden = norm(
            means["rgb"] @ model.global_mappers["rgb"].linear.weight.T + model.global_mappers["rgb"].linear.bias, first
        ).clamp(min=0)
        fine_rgb = norm(hidden @ second.weight.T + second.bias, last)
        torch.testing.assert_close(model.fine("rgb", features["rgb"]), fine_rgb, rtol=1e-4, atol=1e-5)
        mapper = model.global_mappers["depth"].linear
        fine_depth = means["depth"] @ mapper.weight.T + mapper.bias
        torch.testing.assert_close(model.fine("depth", features["depth"]), fine_depth, rtol=1e-4, atol=1e-5)
        _, linear, last = model.to_coarse
        coarse = norm(fine_rgb.clamp(min=0) @ linear.weight.T + linear.bias, last)
        torch.testing.assert_close(model.coarse("rgb", fine_rgb), coarse, rtol=1e-4, atol=1e-5)
        assert coarse.shape == (3, COARSE)


def test_a_cell_of_the_map_is_the_head_on_an_image_of_that_cell_alone(model, features):
    with torch.no_grad():
        for name in ("rgb", "depth"):
            maps = features[name]
            size = maps[0].shape[2:]
            fine_BDHW = model.dense_map(name, maps)
            whole = torch.cat(
                [F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps], 1
            )
            row, column = 5, 9
            cell = [each[:, :, None, None] for each in whole[:, :, row, column].split([m.shape[1] for m in maps], 1)]
            expected = F.normalize(model.fine(name, cell), dim=1)
            torch.testing.assert_close(fine_BDHW[:, :, row, column], expected, rtol=1e-3, atol=1e-5)
            cells_BP = torch.tensor([[row * size[1] + column, 0, -1]] * 3)
            at_BPD = model.dense_at(name, maps, cells_BP)
            torch.testing.assert_close(at_BPD[:, 0], fine_BDHW[:, :, row, column])
            torch.testing.assert_close(at_BPD[:, 1], fine_BDHW[:, :, 0, 0])


def test_its_encoders_begin_as_those_of_hcmoco():
    ours, theirs = HCMoCo(TINY, seed=4), MMV(TINY, seed=4)
    for part in ("rgb", "depth", "keypoints"):
        for name, value in getattr(ours, part).state_dict().items():
            assert torch.equal(value, getattr(theirs, part).state_dict()[name]), (part, name)
    again = MMV(TINY, seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in theirs.state_dict().items())
