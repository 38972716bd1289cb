"""The multi-modal model: published sizes, embeddings, stages, seeds."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig, unit_length

SMALL = EncoderConfig(name="hrnet_w18_small")
TINY = ModelConfig(rgb=SMALL, depth=SMALL, embedding=32)


@pytest.fixture(scope="module")
def model():
    return HCMoCo(TINY, seed=0).eval()


def parameters(module):
    return sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize(
    ("width", "trunk", "first", "second"),
    [
        (18, 9_562_260, 19_509_876, 19_579_252),
        (32, 29_305_536, 59_050_188, 59_173_324),
        (48, 65_325_120, 131_150_796, 131_335_372),
    ],
)
def test_published_sizes(width, trunk, first, second):
    backbone = EncoderConfig(name=f"hrnet_w{width}")
    with torch.device("meta"):
        model = HCMoCo(ModelConfig(rgb=backbone, depth=backbone), seed=0)
        assert (parameters(model.rgb), parameters(model.depth)) == (trunk, trunk)
        assert parameters(model) == first
        model.add_dense_mappers()
    assert parameters(model) == second


def test_a_batch_from_pixels_to_embeddings(model):
    torch.manual_seed(1)
    rgb = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    depth = torch.randint(0, 5000, (2, 64, 64), dtype=torch.int32).to(torch.uint16)
    keypoints = torch.cat([64 * torch.rand(2, 16, 2), torch.ones(2, 16, 1)], 2)
    with torch.no_grad():
        features = {
            "rgb": model.encode_rgb(model.prepare_rgb(rgb)),
            "depth": model.encode_depth(model.prepare_depth(depth)),
            "keypoints": model.encode_keypoints(model.prepare_keypoints(keypoints), keypoints[..., 2]),
        }
        cells = model.joint_cells(keypoints, 64)
        for modality, each in features.items():
            embedding_BD = model.global_embedding(modality, each)
            assert embedding_BD.shape == (2, 32)
            torch.testing.assert_close(embedding_BD.norm(dim=1), torch.ones(2))
        for modality in ("rgb", "depth"):
            at_BJD = model.dense_at(modality, features[modality], cells)
            map_BDHW = model.dense_map(modality, features[modality])
            assert map_BDHW.shape == (2, 32, 16, 16)
            torch.testing.assert_close(map_BDHW.norm(dim=1), torch.ones(2, 16, 16))
            expected = map_BDHW.flatten(2).transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, 32))
            torch.testing.assert_close(at_BJD, expected, rtol=0, atol=1e-5)
        assert model.joint_embedding(features["keypoints"]).shape == (2, 16, 32)


def test_dense_embeddings_under_autocast_stay_close_and_float32(model):
    torch.manual_seed(3)
    maps = [torch.randn(2, c, 16 >> i, 16 >> i) for i, c in enumerate(model.rgb.channels)]
    cells = torch.arange(256).expand(2, -1)
    exact = model.dense_at("rgb", maps, cells)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.dense_at("rgb", [each.bfloat16() for each in maps], cells)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.02


def test_global_mappers_stand_in_for_cells_until_there_are_dense_ones():
    model = HCMoCo(TINY, seed=0)
    torch.manual_seed(2)
    maps = [torch.randn(2, c, 16 >> i, 16 >> i) for i, c in enumerate(model.rgb.channels)]
    cells = torch.arange(256).expand(2, -1)
    # Constant maps have their mean in every cell.
    flat = [each.mean((2, 3), keepdim=True).expand_as(each).contiguous() for each in maps]
    torch.testing.assert_close(
        model.dense_at("rgb", flat, cells),
        model.global_embedding("rgb", flat)[:, None].expand(-1, 256, -1),
        rtol=0,
        atol=1e-5,
    )
    model.add_dense_mappers()
    assert (model.dense_at("rgb", flat, cells) - model.global_embedding("rgb", flat)[:, None]).abs().max() > 0.01
    with pytest.raises(ValueError, match="already"):
        model.add_dense_mappers()


def test_invisible_keypoints_do_not_reach_the_features(model):
    keypoints = torch.randn(3, 16, 2)
    visible = torch.rand(3, 16) < 0.5
    spoilt = keypoints.where(visible[..., None], torch.nan)
    assert torch.equal(model.encode_keypoints(spoilt, visible), model.encode_keypoints(keypoints, visible))


def test_parts_have_weights_of_their_own_by_seed():
    def state(seed, config=TINY):
        model = HCMoCo(config, seed=seed)
        model.add_dense_mappers()
        return model.state_dict()

    random_state = torch.get_rng_state()
    first, again, other = state(5), state(5), state(6)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["rgb.trunk.conv1.weight"], other["rgb.trunk.conv1.weight"])
    assert not torch.equal(first["rgb.trunk.conv1.weight"], first["depth.trunk.conv1.weight"])
    assert not torch.equal(first["dense_mappers.rgb.linear.weight"], first["global_mappers.rgb.linear.weight"])
    # Another depth encoder leaves all else as it was.
    mixed = state(5, TINY.model_copy(update={"depth": EncoderConfig(name="resnet18")}))
    for key in (
        "rgb.trunk.conv1.weight",
        "keypoints.head.weight",
        "global_mappers.rgb.linear.weight",
        "dense_mappers.rgb.linear.weight",
    ):
        assert torch.equal(first[key], mixed[key])


def test_state_of_the_model_gives_an_encoder_its_weights(model, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    fresh = HCMoCo(TINY.model_copy(update={"rgb": EncoderConfig(name=SMALL.name, init=f"{path}#rgb.trunk.")}), seed=9)
    assert all(torch.equal(value, fresh.rgb.state_dict()[key]) for key, value in model.rgb.state_dict().items())
    assert fresh.rgb.report.prefix == "rgb.trunk."
    assert len(fresh.rgb.report.other_keys) == len(model.state_dict()) - len(model.rgb.state_dict())


def test_unit_length_of_nothing_and_of_half_precision():
    x = torch.zeros(2, 4, dtype=torch.bfloat16, requires_grad=True)
    y = unit_length(x)
    y.sum().backward()
    assert y.dtype == torch.float32
    assert torch.equal(y, torch.zeros(2, 4))
    assert x.grad.isfinite().all()
    z = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(unit_length(z), z / z.norm(dim=1, keepdim=True))
    torch.testing.assert_close(unit_length(z[:, :, None], dim=1), F.normalize(z, dim=1)[:, :, None])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"joint_set": "people-31"}, "joint_set = 'people-31': allowed are coco-17, mpii-16, kinect-25, common-13"),
        ({"rgb": {"in_chans": 1}}, "in_chans is 1, an RGB image has 3"),
        ({"skeleton": {"width": 0}}, "skeleton.width = 0"),
    ],
)
def test_bad_values_are_one_line(values, line):
    with pytest.raises(UserError, match=line):
        build(ModelConfig, values, "recipe")
