"""1x1 convolutions with a stride on few channels: the same function, and FastViT trains."""

import torch
from torch import nn

from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.strided_conv import SkippingConv, skip_first


def test_it_is_the_same_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 1, stride=2), nn.Conv2d(5, 4, 3, stride=2), nn.Conv2d(4, 2, 1))
    model = model.double()
    x = torch.randn(2, 3, 9, 12).double()
    state, plain = model.state_dict(), model(x)
    wanted = torch.autograd.grad(plain.square().sum(), model.parameters())
    skip_first(model)
    assert [type(each) for each in model] == [SkippingConv, nn.Conv2d, nn.Conv2d]
    assert model.state_dict().keys() == state.keys()
    torch.testing.assert_close(model(x), plain, rtol=1e-12, atol=1e-12)
    for ours, plain_gradient in zip(
        torch.autograd.grad(model(x).square().sum(), model.parameters()), wanted, strict=True
    ):
        torch.testing.assert_close(ours, plain_gradient, rtol=1e-10, atol=1e-10)


def test_fastvit_trains_in_the_layout_of_the_product():
    """Without it this process is killed by a damaged heap, at the latest in the second pass, where oneDNN errs."""
    encoder = build_encoder(EncoderConfig(name="fastvit_t8")).to(memory_format=torch.channels_last).train()
    images = torch.randn(8, 3, 96, 96).to(memory_format=torch.channels_last)
    for _ in range(3):
        encoder.zero_grad()
        sum(each.square().mean() for each in encoder(images)).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in encoder.parameters())
    assert sum(isinstance(each, SkippingConv) for each in encoder.modules()) == 1
