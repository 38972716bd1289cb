"""1x1 convolutions that skip pixels, on an image's few channels: computed on the pixels that are left.

oneDNN (PyTorch 2.15 on AVX-512) writes outside of its memory in the backward pass of such a convolution of 3 channels
in channels-last layout, as the stems of FastViT, MobileOne and RepVGG have; the program dies later, wherever it next
asks for memory. Left-out pixels are not read, so the result is the same.
"""

from torch import Tensor, nn

_FEW = 16  # channels that a vector register holds


class SkippingConv(nn.Conv2d):
    """A 1x1 convolution with a stride. Its state is that of `nn.Conv2d`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(x_BCHW[:, :, ::rows, ::columns], self.weight, self.bias)


def skip_first(model: nn.Module) -> None:
    """Have all 1x1 convolutions of few channels inside `model` that have a stride skip pixels before they compute."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and type(layer) is nn.Conv2d and _is_affected(layer):
            layer.__class__ = SkippingConv


def _is_affected(layer: nn.Conv2d) -> bool:
    is_plain = layer.groups == 1 and layer.padding in ((0, 0), "valid")
    return is_plain and layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels < _FEW
