"""Predict the body parts of people on images: a label image of the image's size for each person."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hcmoco.data.codecs import encode_labels
from hcmoco.errors import UserError
from hcmoco.inference.adapter import (
    ImageResult,
    ImageTransform,
    PredictOptions,
    PreparedImage,
    draw_box,
    labels_on_image,
)
from hcmoco.inference.coco import CocoForm, part_form, part_results
from hcmoco.inference.person import PersonAdapter
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.parsing.sheet import legend, tint_labels
from hcmoco.tasks.parsing.task import ParsingBatch, ParsingTask
from hcmoco.visualization.sheet import gray_depth

FINEST = 1024
"""Parts are predicted at the resolution of the image, up to this many pixels over the square around the person."""


class ParsingAdapter(PersonAdapter):
    """The adapter of `parsing-rgb` and `parsing-depth`. The task's `label_size` is for scores and is not used here."""

    task: ParsingTask

    def __init__(self, task: ParsingTask, options: PredictOptions):
        super().__init__(task, options)
        if "camera" in task.columns and options.camera is None:
            raise UserError(
                "the model's encoder reads depth as points, which needs the depth camera: --camera fx,fy,cx,cy, focal "
                "lengths and center in pixels of the whole picture, for example --camera 365.5,365.5,256.3,208.5"
            )

    def make_batch(self, row: dict, transform: ImageTransform) -> ParsingBatch:
        batch = self.task.make_batch([row], None)
        return replace(batch, sides=(min(FINEST, max(16, round(row["size"] / min(transform.scale)))),))

    def draw_input(self, image: np.ndarray) -> np.ndarray:
        return gray_depth(image) if image.ndim == 2 else image

    def to_result(self, prepared: PreparedImage, predictions: Sequence[Prediction]) -> ImageResult:
        picture, shown = (prepared.width, prepared.height), prepared.shown.shape[1::-1]
        people, labels, coco = [], {}, []
        together = np.zeros(shown[::-1], np.uint8)
        for number, (prediction, transform, known) in enumerate(
            zip(predictions, prepared.transforms, prepared.known, strict=True)
        ):
            facts = dict(known)
            row_side = facts.pop("row_side")
            whole_HW = labels_on_image(prediction["parts"], row_side, transform, picture, picture)
            labels[number, "parts"] = encode_labels(whole_HW)
            coco += part_results(whole_HW, number, facts.get("score", 1.0))
            mine = (
                whole_HW
                if shown == picture
                else labels_on_image(prediction["parts"], row_side, transform, picture, shown)
            )
            together = np.where(together > 0, together, mine)
            people.append(facts)
        painted = tint_labels(prepared.shown, together, self.task.label_map)
        for each in people:
            if each["box"] is not None:
                draw_box(painted, each["box"], picture)
        return ImageResult(people, labels, painted, coco=coco)

    def facts(self) -> dict[str, Any]:
        return {
            "parts": "8-bit PNG of the picture's size, one number per pixel",
            "part_names": dict(enumerate(self.task.label_map.parts)),
        }

    def legend(self, width: int) -> np.ndarray:
        return legend(width, self.task.label_map)

    @property
    def coco(self) -> CocoForm:
        return part_form(self.task.label_map.parts)
