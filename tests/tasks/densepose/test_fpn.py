import torch
import torch.nn.functional as F

from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.tasks.densepose.fpn import HRFeaturePyramid


def _pyramid(channels: int = 16) -> HRFeaturePyramid:
    return HRFeaturePyramid(build_encoder(EncoderConfig(name="hrnet_w18_small")), channels, 5)


def test_levels_are_one_convolution_of_all_branches_averaged_down():
    torch.manual_seed(0)
    pyramid = _pyramid()
    maps = [torch.randn(2, conv.in_channels, 64 >> branch, 32 >> branch) for branch, conv in enumerate(pyramid.reduce)]
    joined = torch.cat([F.interpolate(each, size=(64, 32), mode="bilinear", align_corners=False) for each in maps], 1)
    weight = torch.cat([conv.weight for conv in pyramid.reduce], 1)
    reduced = F.batch_norm(F.conv2d(joined, weight), None, None, training=True).relu()
    found = pyramid(maps)
    assert list(found) == ["p1", "p2", "p3", "p4", "p5"]
    for level, (each, conv) in enumerate(zip(found.values(), pyramid.smooth, strict=True)):
        torch.testing.assert_close(each, conv(F.avg_pool2d(reduced, 2**level)), atol=1e-5, rtol=1e-4)


def test_every_parameter_is_trained():
    pyramid = _pyramid()
    maps = [torch.randn(1, conv.in_channels, 32 >> branch, 32 >> branch) for branch, conv in enumerate(pyramid.reduce)]
    sum(each.square().sum() for each in pyramid(maps).values()).backward()
    assert all(each.grad.abs().sum() > 0 for each in pyramid.parameters())
