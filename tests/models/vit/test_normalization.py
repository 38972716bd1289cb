"""Weights of other pixels: the closed form against the two ways of normalizing, and what cannot be converted."""

import pytest
import torch
from torch import nn

from hcmoco.errors import UserError
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.vit.normalization import HALF, take_imagenet_pixels


def normalized(rgb_BCHW, mean, std):
    return (rgb_BCHW - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize(("mean", "std"), [(HALF, HALF), ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))])
def test_it_gives_of_imagenets_pixels_what_it_gave_of_its_own(mean, std):
    torch.manual_seed(0)
    cut, rgb_BCHW = nn.Conv2d(3, 8, 4, stride=4).double(), torch.rand(2, 3, 16, 12).double()
    wanted = cut(normalized(rgb_BCHW, mean, std))
    take_imagenet_pixels(cut, mean, std)
    torch.testing.assert_close(cut(normalized(rgb_BCHW, RGB_MEAN, RGB_STD)), wanted, rtol=1e-6, atol=1e-6)


def test_imagenets_own_are_left_as_they_are():
    cut = nn.Conv2d(3, 8, 4, bias=False)
    before = cut.weight.detach().clone()
    take_imagenet_pixels(cut, RGB_MEAN, RGB_STD)
    assert torch.equal(cut.weight, before)
    with pytest.raises(UserError, match="without a bias"):
        take_imagenet_pixels(cut, HALF, HALF)
