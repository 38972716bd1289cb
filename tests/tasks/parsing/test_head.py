"""The parsing head against the plain one, and where its logits lie in the image."""

import pytest
import torch
import torch.nn.functional as F

from hcmoco.data.body_parts import FLIP
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.tasks.parsing.head import ParsingHead, ParsingModel, mean_with_mirror, resize_logits

CHANNELS = (18, 36, 72, 144)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [True, False])
def test_head_is_upsample_concatenate_convolve(training: bool):
    head = ParsingHead(CHANNELS).train(training)
    maps = [
        random(2, channels, 24 >> level, 24 >> level, seed=level).requires_grad_()
        for level, channels in enumerate(CHANNELS)
    ]
    plain = [each.detach().clone().requires_grad_() for each in maps]
    upsampled = [F.interpolate(each, size=(24, 24), mode="bilinear", align_corners=False) for each in plain]
    expected = head.classify(F.relu(head.norm(head.merge(torch.cat(upsampled, 1)))))
    result = head(maps)
    assert result.shape == (2, 25, 24, 24)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    weights = random(*result.shape, seed=9)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours, theirs in zip(maps, plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_published_initialization():
    head = ParsingHead(CHANNELS, std=0.001)
    assert head.merge.weight.shape == (270, 270, 1, 1)
    assert head.classify.weight.shape == (25, 270, 1, 1)
    for layer in (head.merge, head.classify):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert layer.bias is not None


@pytest.mark.parametrize(
    ("size", "side"), [(96, 96), (96, 128), (128, 51), (473, 1000), (473, 473), (473, 64), (100, 100)]
)
def test_logits_are_read_at_the_pixels_centers(size: int, side: int):
    """Logits that say where in the image they are, in pixels of the input, must say so at every pixel of the labels."""
    cells = -(-size // 32) * 8
    ramp = (torch.arange(cells) + 0.5) * 4
    logits = torch.stack([ramp.expand(cells, cells), ramp[:, None].expand(cells, cells)])[None]
    result = resize_logits(logits, size, side)
    assert result.shape == (1, 2, side, side)
    centers = (torch.arange(side) + 0.5) * size / side
    expected = torch.where(centers > 4 * cells - 2, 4.0 * cells - 2, centers).clamp(min=2)
    torch.testing.assert_close(result[0, 0], expected.expand(side, side), atol=0.02, rtol=0)
    torch.testing.assert_close(result[0, 1], expected[:, None].expand(side, side), atol=0.02, rtol=0)


@pytest.mark.parametrize("modality", ["rgb", "depth"])
def test_input_of_the_published_size_goes_through(modality):
    torch.manual_seed(0)
    model = ParsingModel(build_encoder(EncoderConfig(name="hrnet_w18_small")), modality).eval()
    shape = (1, 473, 473, 3) if modality == "rgb" else (1, 473, 473)
    image = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(0)).to(
        torch.uint8 if modality == "rgb" else torch.uint16
    )
    with torch.no_grad():
        logits = model(image)
    assert logits.shape == (1, 25, 120, 120)
    assert resize_logits(logits, 473, 1000).shape == (1, 25, 1000, 1000)


def test_mean_with_mirror_does_not_depend_on_which_of_the_two_is_the_mirror():
    flip = torch.from_numpy(FLIP.astype("int64"))
    one, other = random(2, 25, 8, 8), random(2, 25, 8, 8, seed=1)
    mean = mean_with_mirror(one, other, flip)
    back = mean_with_mirror(other, one, flip)
    torch.testing.assert_close(back.flip(-1)[:, flip], mean)
    torch.testing.assert_close(mean_with_mirror(one, one.flip(-1)[:, flip], flip), one)
