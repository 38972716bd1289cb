"""Decode and crop RGB pictures on the device that trains: `ingest.decode=device`.

On an NVIDIA GPU its JPEG decoder does it (nvJPEG, through torchcodec), and the processor's cores only pass bytes on.
On a CPU the same code runs with libjpeg: no gain, but the same arithmetic, so that it is tested there.

The result is that of `warp_rgb`, computed in float32 and rounded once where OpenCV computes in fixed point: pixels
differ by a level or two, and by what two JPEG decoders differ. PNG files are decoded on the processor.

Shapes: B rows, H, W sides of the largest stored picture, h, w those of the largest after averaging, S side of the
result. Coordinates as in hcmoco/data/transforms.py: a pixel's center is at +0.5.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.data.codecs import decode_rgb, encode_rgb
from hcmoco.data.containers import PNG_SIGNATURE
from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.loader import not_as_prepared
from hcmoco.data.transforms import averaged_down
from hcmoco.errors import UserError, one_line


def decode(images: EncodedImages, device: torch.device) -> Tensor:
    """Decode, color and crop the pictures of a batch.

    Args:
        images: of B rows.
        device: that computes. On a GPU all is queued on the current stream.

    Returns:
        uint8 [B, S, S, 3] on the device, RGB, zeros for a row without a picture and outside a picture.

    Raises:
        UserError: a picture does not decode, or nothing can be decoded on this device.
    """
    rows = [number for number, file in enumerate(images.files) if file is not None]
    result = torch.zeros(images.shape, dtype=torch.uint8, device=device)
    if not rows:
        return result
    pictures = _pixels(images, rows, device)
    sides = [(each.shape[1], each.shape[2]) for each in pictures]
    # One size for all: the padding is as black as what lies outside a picture.
    height, width = (max(side) for side in zip(*sides, strict=True))
    stack_B3HW = torch.stack(
        [F.pad(each, (0, width - each.shape[2], 0, height - each.shape[1])) for each in pictures]
    ).float()
    augmentations = [images.augmentations[number] for number in rows]
    if any(each.color_34 is not None for each in augmentations):
        identity = np.eye(3, 4)
        colors = np.stack([identity if each.color_34 is None else each.color_34 for each in augmentations])
        stack_B3HW = _colored(stack_B3HW, _sent(colors, device))
        stack_B3HW = stack_B3HW * _sent(_inside(sides, height, width), device)  # gray would not be black any more
    reduced = [averaged_down(each.matrix_23, side) for each, side in zip(augmentations, sides, strict=True)]
    if any(size != side for (size, _), side in zip(reduced, sides, strict=True)):
        small = [size for size, _ in reduced]
        for axis, whole in ((0, height), (1, width)):
            lengths = [(side[axis], size[axis]) for side, size in zip(sides, small, strict=True)]
            shares = _sent(_coverages(lengths, whole), device)
            equation = "bih,bchw->bciw" if axis == 0 else "bjw,bciw->bcij"
            stack_B3HW = torch.einsum(equation, shares, stack_B3HW)
        stack_B3HW = stack_B3HW.round()
    inverses = np.stack([_inverse(matrix) for _, matrix in reduced])
    crops_B3SS = F.grid_sample(
        stack_B3HW,
        _grid(_sent(inverses, device), images.size, stack_B3HW.shape[2], stack_B3HW.shape[3]),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    crops = crops_B3SS.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if len(rows) == len(images):
        return crops.contiguous()
    return result.index_copy_(0, _sent(np.array(rows), device), crops)


def check_decoder(device: torch.device) -> None:
    """Decode one small picture.

    Raises:
        UserError: torchcodec is not installed, or cannot on this device.
    """
    try:
        _decode_jpegs([encode_rgb(np.zeros((16, 16, 3), np.uint8))], device)
    except ImportError as error:
        raise UserError(
            f"ingest.decode = device: torchcodec cannot be imported: {one_line(error)}; "
            "install it (pip install 'hcmoco[gpu]'), or set ingest.decode=worker"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"ingest.decode = device: torchcodec decodes no JPEG on {device}: {one_line(error)}; "
            "its wheels need an NVIDIA GPU and its driver; or set ingest.decode=worker"
        ) from error


def _pixels(images: EncodedImages, rows: list[int], device: torch.device) -> list[Tensor]:
    """The pictures of some rows, uint8 [3, H, W] each, on the device."""
    files = {number: file for number in rows if (file := images.files[number]) is not None}
    jpegs = [number for number, file in files.items() if not file.startswith(PNG_SIGNATURE)]
    decoded: dict[int, Tensor] = {}
    try:
        decoded |= zip(jpegs, _decode_jpegs([files[number] for number in jpegs], device), strict=True)
    except (ImportError, RuntimeError) as error:
        check_decoder(device)
        raise _named(images, files, jpegs, device) from error
    for number in files.keys() - decoded.keys():
        try:
            rgb_HW3 = decode_rgb(files[number])
        except ValueError as error:
            raise not_as_prepared(ValueError(f"record {images.ids[number]!r}: {error}")) from None
        decoded[number] = _sent(rgb_HW3, device).permute(2, 0, 1)
    return [decoded[number] for number in rows]


def _named(images: EncodedImages, files: dict[int, bytes], jpegs: list[int], device: torch.device) -> Exception:
    """The error that names the picture which does not decode."""
    for number in jpegs:
        try:
            _decode_jpegs([files[number]], device)
        except RuntimeError:
            return not_as_prepared(ValueError(f"record {images.ids[number]!r}: the JPEG does not decode"))
    return RuntimeError("pictures decode one by one, and not together")


def _decode_jpegs(files: list[bytes], device: torch.device) -> list[Tensor]:
    from torchcodec.decoders import decode_jpeg  # only this value of ingest.decode needs it

    if not files:
        return []
    decoded = decode_jpeg(files, mode="RGB", device=device)
    assert isinstance(decoded, list)  # a list for a list
    return decoded


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device, float32 of float64; nobody waits for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32 if array.dtype == np.float64 else array.dtype))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _colored(stack_B3HW: Tensor, color_B34: Tensor) -> Tensor:
    """`Augmentation.color_34` of every pixel, rounded to 0..255."""
    linear = torch.einsum("bij,bjhw->bihw", color_B34[:, :, :3], stack_B3HW)
    return (linear + color_B34[:, :, 3, None, None]).round().clamp(0, 255)


def _inside(sides: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """bool as float64 [B, 1, H, W]: where a picture is, in its padding."""
    rows = np.arange(height) < np.array([side[0] for side in sides])[:, None]
    columns = np.arange(width) < np.array([side[1] for side in sides])[:, None]
    return (rows[:, None, :, None] & columns[:, None, None, :]).astype(np.float64)


def _coverages(lengths: list[tuple[int, int]], whole: int) -> np.ndarray:
    """float64 [B, longest result, whole]: how much of each result pixel each source pixel covers, rows of sum 1.

    Args:
        lengths: source's and result's length of each picture, pixels.
        whole: length of the padded source.
    """
    shares = np.zeros((len(lengths), max(size for _, size in lengths), whole))
    for number, (side, size) in enumerate(lengths):
        edges = np.arange(size + 1) * (side / size)
        pixels = np.arange(side)
        overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        shares[number, :size, :side] = overlap.clip(0) * (size / side)
    return shares


def _inverse(matrix_23: np.ndarray) -> np.ndarray:
    """float64 [2, 3]: result to source."""
    return np.linalg.inv(np.vstack([matrix_23, [0.0, 0.0, 1.0]]))[:2]


def _grid(inverse_B23: Tensor, size: int, height: int, width: int) -> Tensor:
    """float32 [B, S, S, 2]: where each result pixel looks, -1..1 from edge to edge of the padded picture."""
    center = torch.arange(size, device=inverse_B23.device, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(center, center, indexing="ij")
    at_SS3 = torch.stack([x, y, torch.ones_like(x)], -1)
    source_BSS2 = torch.einsum("bij,yxj->byxi", inverse_B23, at_SS3)
    return source_BSS2 * inverse_B23.new_tensor([2 / width, 2 / height]) - 1
