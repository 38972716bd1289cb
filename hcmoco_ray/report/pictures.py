"""Shrink the pictures of a results folder so that a page can embed them."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import cv2
import numpy as np

from hcmoco.data.containers import check_whole
from hcmoco.errors import UserError
from hcmoco.storage import join
from hcmoco_ray.report.model import Picture

MAX_SIDE = 1600
MAX_BYTES = 4_000_000  # of all pictures together; in a page they take a third more

# Longest side in pixels and JPEG quality (0: PNG), tried in this order until all pictures fit.
_SIZES = ((MAX_SIDE, 0), (MAX_SIDE, 90), (1200, 85), (900, 80), (600, 75))
_SPELLED = {"rgb": "RGB", "hcmoco": "HCMoCo", "cmc": "CMC", "mmv": "MMV", "densepose": "DensePose"}


def embedded(files: Mapping[str, bytes], place: str) -> list[Picture]:
    """Return the pictures, in the largest of `_SIZES` in which all fit, else the smallest. Captions come from names.

    Args:
        files: name below the folder -> PNG file.
        place: the folder, for messages.

    Raises:
        UserError: a file is not a complete PNG.
    """
    images = {}
    for name, data in files.items():
        try:
            check_whole(data)
        except ValueError as error:
            raise UserError(f"{join(place, name)}: {error}; delete the file or create it again") from None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise UserError(f"{join(place, name)}: not a PNG that can be read; delete the file or create it again")
        images[name] = image
    pictures: list[Picture] = []
    for side, quality in _SIZES:
        pictures = [_picture(name, files[name], image, side, quality) for name, image in images.items()]
        if sum(len(picture.data) for picture in pictures) <= MAX_BYTES:
            break
    return pictures


def caption(name: str) -> str:
    """Return a caption: `versatility/rgb-to-depth_hcmoco.png` -> `RGB to depth, HCMoCo`."""
    words = PurePosixPath(name).stem.replace("_", ", ").replace("-", " ")
    words = re.sub(r"[a-z]+", lambda found: _SPELLED.get(found[0], found[0]), words)
    return words[:1].upper() + words[1:]


def _picture(name: str, data: bytes, image: np.ndarray, side: int, quality: int) -> Picture:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if not quality:
        kept = data if scale >= 1 else cv2.imencode(".png", image)[1].tobytes()
        return Picture(name, "image/png", kept, caption(name))
    if image.ndim == 3 and image.shape[2] == 4:
        share = image[..., 3:].astype(np.float32) / 255
        image = np.rint(image[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return Picture(name, "image/jpeg", jpeg, caption(name))
