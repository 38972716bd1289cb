"""Measure how many RGB pictures a second are decoded and cropped on the training device, and by one core with OpenCV.

    python benchmarks/decode.py                  # on a CPU: what ingest.decode=device costs where nothing is gained
    python benchmarks/decode.py --device cuda    # on a GPU: whether its decoder (nvJPEG) gains

Needs only hcmoco: pictures are blurred noise, in JPEG as `prepare` writes it. Crops are drawn as in pre-training.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks._results import gpu_state
from hcmoco.data.codecs import decode_rgb, encode_rgb
from hcmoco.data.device_decode import check_decoder, decode
from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.transforms import AugmentConfig, draw_affine, warp_rgb
from hcmoco.errors import UserError
from hcmoco.rng import make_rng

# Stored side -> side of the crop, as the two recipes of synthetic people have them.
SIZES = {128: 96, 320: 224}


def make_images(stored: int, size: int, count: int) -> EncodedImages:
    """Pictures of as much detail as photographs have: about 2 bits a pixel."""
    files, augmentations = [], []
    config = AugmentConfig(size=size)
    for number in range(count):
        rng = make_rng(0, "decode", stored, number)
        noise = rng.integers(0, 256, (stored, stored, 3)).astype(np.uint8)
        picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)
        files.append(encode_rgb(picture))
        box = np.array([0.2, 1 / 6, 0.8, 5 / 6]) * stored
        augmentations.append(draw_affine(config, box, (stored, stored), rng))
    return EncodedImages(tuple(map(str, range(count))), tuple(files), tuple(augmentations), size)


def by_opencv(images: EncodedImages) -> None:
    """What a decoding thread does."""
    for file, augmentation in zip(images.files, images.augmentations, strict=True):
        assert file is not None
        warp_rgb(decode_rgb(file), augmentation, images.size)


def rate(function: Callable[[], object], count: int, seconds: float, device: torch.device) -> float:
    """Pictures a second of a function that makes `count` of them."""
    done, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += count
    return done / passed


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="8 pictures, 1 round of a tenth of a second each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--count", type=int, default=128, help="pictures at once (default 128)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (default 3)")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.count, given.seconds = 1, 8, 0.1
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"benchmarks/decode.py: PyTorch {torch.__version__} finds no GPU here; leave --device out")
    check_decoder(device)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    gpu = device.type == "cuda"
    table = Table(f"decode{'-quick' if given.quick else ''}", {"pictures at once": given.count}, gpu=gpu)
    table.facts = {"gpu": {"before": gpu_state()}} if gpu else {}
    where = "the GPU" if gpu else "a core"
    for stored, size in SIZES.items():
        images = make_images(stored, size, given.count)
        calls = {
            "device": lambda images=images: decode(images, device),
            "core": lambda images=images: by_opencv(images),
        }
        arms = {name: lambda call=call: rate(call, given.count, given.seconds, device) for name, call in calls.items()}
        in_turns(arms, 1)
        rates = in_turns(arms, given.rounds)
        name = f"{stored} to {size} px"
        table.add(
            f"{name}: pictures/s, decoded as on the device by {where} / by a core with OpenCV",
            ratios(rates["device"], rates["core"]),
            better="higher",
        )
        table.add(f"  {name}: as on the device, by {where}", rates["device"], "/s")
        table.add(f"  {name}: OpenCV, one core", rates["core"], "/s")
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)
