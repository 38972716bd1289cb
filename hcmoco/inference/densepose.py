"""Predict the DensePose of all people on RGB images: boxes, scores, and an IUV image over each person's box.

Shapes: h and w rows and columns of a detection.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from hcmoco.data.codecs import encode_iuv, encode_png
from hcmoco.inference.adapter import (
    BOX_COLOR,
    Adapter,
    ImageResult,
    ImageTransform,
    PreparedImage,
    draw_box,
    resize,
    rounded,
    shown_size,
    working_size,
)
from hcmoco.inference.coco import CocoForm, densepose_form, densepose_result
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.video.frames import VideoFrame
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.densepose.sheet import colors, legend, paste
from hcmoco.visualization.sheet import write_text

FINEST = 1024
"""Longer side, pixels, at which surfaces are predicted, unless the network itself sees more."""
_SHOWN = 960  # longer side of an overlay, of which three stand side by side, pixels
_TINT = 0.7  # share of the color over the picture


class DensePoseAdapter(Adapter):
    """The adapter of `densepose`."""

    def prepare(self, file: ImageFile | VideoFrame) -> PreparedImage:
        rgb_HW3, of_video = file.rgb(), isinstance(file, VideoFrame)
        height, width = rgb_HW3.shape[:2]
        shown = resize(rgb_HW3, (width, height) if of_video else shown_size(width, height, _SHOWN))
        seen_HW3 = resize(rgb_HW3, working_size(width, height, max(FINEST, self.task.config.long_side)))
        seen_height, seen_width = seen_HW3.shape[:2]
        # PNG is lossless: the prediction does not depend on this detour.
        row = {
            "id": file.name,
            "rgb": encode_png(seen_HW3, compression=1),
            "width": seen_width,
            "height": seen_height,
            "instances": [],
        }
        transform = ImageTransform((seen_width / width, seen_height / height))
        batches = [self.task.make_batch([row], None)]
        return PreparedImage(file.name, width, height, shown, of_video, batches, [transform], [{}])

    def to_result(self, prepared: PreparedImage, predictions: Sequence[Prediction]) -> ImageResult:
        prediction, transform, picture = predictions[0], prepared.transforms[0], (prepared.width, prepared.height)
        people: list[dict[str, Any]] = []
        labels, found, coco = {}, [], []
        small = prepared.shown.shape[1], prepared.shown.shape[0]
        onto = ImageTransform((transform.scale[0] * picture[0] / small[0], transform.scale[1] * picture[1] / small[1]))
        for box_4, score, iuv_hw3 in zip(prediction["boxes"], prediction["scores"], prediction["iuv"], strict=True):
            if score < self.options.min_score or not iuv_hw3.size:
                continue
            frame, finest = over_box(to_bytes(iuv_hw3), box_4, transform, picture)
            labels[len(people), "iuv"] = png = encode_iuv(finest)
            mask_HW = np.zeros(picture[::-1], bool)
            mask_HW[frame[1] : frame[3], frame[0] : frame[2]] = finest[..., 0] > 0
            coco.append(densepose_result(png, frame, mask_HW, len(people), round(float(score), 4)))
            people.append({"box": rounded(_moved(box_4, transform)), "score": round(float(score), 4), "frame": frame})
            found.append((_moved(box_4, onto), *over_box(iuv_hw3, box_4, onto, small), score))
        channels = (0,) if prepared.of_video else (0, 1, 2)
        overlay, *panels = (_draw(prepared.shown, found, channel) for channel in channels)
        return ImageResult(people, labels, overlay, panels, coco)

    def legend(self, width: int) -> np.ndarray:
        return legend(width)

    @property
    def coco(self) -> CocoForm:
        return densepose_form()

    def facts(self) -> dict[str, Any]:
        return {
            "iuv": "8-bit PNG over the person's frame (x0, y0, x1, y1: columns x0 to x1 - 1, rows y0 to y1 - 1): "
            "red is I (0 background, 1..24 charts), green 255 U, blue 255 V",
            "charts": self.task.config.charts,
            "min_score": self.options.min_score,
        }


def over_box(
    iuv_hw3: np.ndarray, stored_4: np.ndarray, transform: ImageTransform, picture: tuple[int, int]
) -> tuple[list[int], np.ndarray]:
    """Resample a detection to the pixels of the user's image that its box touches.

    Args:
        iuv_hw3: I, U, V over the box.
        stored_4: the box in pixels of the row's image.
        transform: from the user's image to the row's image.
        picture: width and height of the user's image.
    Returns:
        x0, y0, x1, y1 of those pixels (x1 and y1 are one past the last), and [y1 - y0, x1 - x0, 3]: each pixel takes
        the prediction under its center.
    """
    box_4 = _moved(stored_4, transform)
    frame, index = [], []
    for axis in (0, 1):
        low, high = max(0, int(np.floor(box_4[axis]))), min(picture[axis], int(np.ceil(box_4[axis + 2])))
        low = min(low, picture[axis] - 1)
        high = max(high, low + 1)
        at = np.floor((np.arange(low, high) + 0.5) * transform.scale[axis] + transform.offset[axis]).astype(int)
        index.append(np.clip(at - max(0, int(np.floor(stored_4[axis]))), 0, iuv_hw3.shape[1 - axis] - 1))
        frame.append((low, high))
    (x0, x1), (y0, y1) = frame
    return [x0, y0, x1, y1], iuv_hw3[index[1][:, None], index[0]]


def _moved(stored_4: np.ndarray, transform: ImageTransform) -> np.ndarray:
    """float64 [4]: a box in pixels of the user's image."""
    return transform.to_picture(np.asarray(stored_4).reshape(2, 2)).ravel()


def to_bytes(iuv_hw3: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w, 3]: I as it is, U and V times 255."""
    return np.concatenate([np.round(iuv_hw3[..., :1]), np.round(255 * iuv_hw3[..., 1:].clip(0, 1))], axis=-1).astype(
        np.uint8
    )


def _draw(shown: np.ndarray, found: list, channel: int) -> np.ndarray:
    """The picture with I and boxes and scores, or U, or V, of every pixel."""
    height, width = shown.shape[:2]
    iuv_HW3 = paste(
        [iuv for _, _, iuv, _ in found], np.array([frame for _, frame, _, _ in found]).reshape(-1, 4), height, width
    )
    colored = colors(iuv_HW3.reshape(-1, 3), channel).reshape(iuv_HW3.shape)
    drawn = np.where(iuv_HW3[..., :1] > 0, cv2.addWeighted(shown, 1 - _TINT, colored, _TINT, 0), shown)
    for box_4, _, _, score in found if channel == 0 else ():
        draw_box(drawn, box_4, (width, height))
        x0, y0 = int(box_4[0]), int(box_4[1])
        write_text(drawn, f"{100 * score:.0f}", x0 + 3, y0 + 15, scale=0.45, color=BOX_COLOR)
    return drawn
