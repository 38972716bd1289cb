"""Write predictions as COCO results: what COCO's own API loads beside the images and categories that they are of.

<out>/coco/
  images.json        a COCO data set without annotations: images with their names, categories
  <form>.json        COCO results, a list: keypoints, segmentation or densepose

    truth = COCO("coco/images.json")
    results = truth.loadRes("coco/segmentation.json")

Formats: https://cocodataset.org/#format-results; of DensePose, the results of its challenge of 2018
(https://github.com/facebookresearch/DensePose, challenge/2018_COCO_DensePose). COCO counts pixels' centers from 0, so
half a pixel is taken from joints; boxes are x, y, width, height, from the picture's corner, and need nothing.

Shapes: H, W of a picture, J joints.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from hcmoco.data.joint_set import JointSet

FOLDER, IMAGES = "coco", "images.json"
PERSON = 1
_PIXEL_CENTER = 0.5
# COCO's own names of pictures: 000000000785.jpg, COCO_val2014_000000000785.jpg.
_NUMBERED = re.compile(r"(?:COCO_[a-z0-9]+_)?(\d{12})")


@dataclass(frozen=True)
class CocoForm:
    """A form of results.

    Attributes:
        name: "keypoints", "segmentation" or "densepose"; that of the file.
        categories: of COCO, JSON values.
    """

    name: str
    categories: list[dict[str, Any]]


def keypoint_form(joints: JointSet) -> CocoForm:
    """Return the form of 2D joints: one category, the person, with the names of the joints and the bones."""
    skeleton = [[a + 1, b + 1] for a, b in joints.edge_indices]
    return CocoForm(
        "keypoints",
        [{**_person(), "keypoints": list(joints.joints), "skeleton": skeleton}],
    )


def part_form(parts: Sequence[str]) -> CocoForm:
    """Return the form of body parts: a category for each but the background, with its number in label pictures."""
    return CocoForm(
        "segmentation",
        [{"id": number, "name": name, "supercategory": "person"} for number, name in enumerate(parts) if number],
    )


def densepose_form() -> CocoForm:
    """Return the form of DensePose: one category, the person."""
    return CocoForm("densepose", [_person()])


def part_results(labels_HW: np.ndarray, person: int, score: float) -> list[dict[str, Any]]:
    """Return a result for each part of a person.

    Args:
        labels_HW: uint8, numbers of the label map, 0 = background.
        person: number of the person in the picture, from 0.
        score: of the person.
    """
    results = []
    for number in np.flatnonzero(np.bincount(labels_HW.ravel(), minlength=256)).tolist():
        if number:
            segmentation, box = run_lengths(labels_HW == number)
            results.append(
                {
                    "category_id": number,
                    "segmentation": segmentation,
                    "bbox": box,
                    "score": score,
                    "person": person,
                }
            )
    return results


def keypoint_result(xy_J2: np.ndarray, person: int, score: float) -> dict[str, Any]:
    """Return the result of a person's joints.

    Args:
        xy_J2: pixels of the picture, the first one's center at 0.5; joints that are not finite are 0, 0, 0.
        person: number of the person in the picture, from 0.
        score: of the person.
    """
    known_J = np.isfinite(xy_J2).all(1)
    xy_J2 = np.where(known_J[:, None], xy_J2 - _PIXEL_CENTER, 0).round(2)
    values = np.column_stack([xy_J2, known_J])
    return {
        "category_id": PERSON, "keypoints": values.ravel().tolist(), "score": score, "person": person,
    }  # fmt: skip


def densepose_result(
    iuv_png: bytes, frame: Sequence[int], mask_HW: np.ndarray, person: int, score: float
) -> dict[str, Any]:
    """Return the result of a person's surface.

    Args:
        iuv_png: PNG over the person's frame, I as red, 255 U as green, 255 V as blue.
        frame: x0, y0, x1, y1 of the frame, whole pixels.
        mask_HW: bool, the person in the picture.
        person: number of the person in the picture, from 0.
        score: of the person.
    """
    x0, y0, x1, y1 = frame
    return {
        "category_id": PERSON,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": score,
        "uv_shape": [3, y1 - y0, x1 - x0],
        "uv_data": base64.b64encode(iuv_png).decode(),
        "segmentation": run_lengths(mask_HW)[0],
        "person": person,
    }


def run_lengths(mask_HW: np.ndarray) -> tuple[dict[str, Any], list[float]]:
    """Return COCO's compressed run lengths of a mask as JSON values, and its box x, y, width, height, pixels."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask_HW, np.uint8))
    box = coco_mask.toBbox(encoded).tolist()
    return {"size": [int(each) for each in encoded["size"]], "counts": encoded["counts"].decode("ascii")}, box


def image_ids(names: Sequence[str]) -> dict[str, int] | None:
    """Return the numbers that COCO's pictures have in their names; None unless all are such pictures, each once."""
    matches = [_NUMBERED.fullmatch(Path(name).stem) for name in names]
    found = {name: int(match[1]) for name, match in zip(names, matches, strict=True) if match}
    return found if len(set(found.values())) == len(names) > 0 else None


class CocoWriter:
    """Writes both files, one image after the other. They have their names once they are complete.

    Args:
        folder: of the files.
        form: of the results.
        ids: of images, by name, see `image_ids`; None: they are numbered from 1.
    """

    def __init__(self, folder: Path, form: CocoForm, ids: dict[str, int] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self._ids, self._next = ids, 1
        info = {"description": "images and categories of predictions by hcmoco"}
        head = json.dumps({"info": info, "categories": form.categories, "annotations": []})[:-1]
        self._images = _List(folder / IMAGES, f'{head}, "images": [', "]}")
        self._results = _List(folder / f"{form.name}.json", "[", "]")

    def add(self, name: str, width: int, height: int, results: Sequence[dict[str, Any]], **facts: Any) -> None:
        """Add an image with its results.

        Args:
            name: of the image.
            width, height: pixels.
            results: without `image_id`.
            facts: further JSON values of the image.
        """
        number = self._next if self._ids is None else self._ids[name]
        self._next += 1
        self._images.add({"id": number, "file_name": name, "width": width, "height": height, **facts})
        for result in results:
            self._results.add({"image_id": number, **result})

    def finish(self) -> None:
        """End both files."""
        self._images.finish()
        self._results.finish()

    def close(self) -> None:
        """Drop what is not finished."""
        self._images.close()
        self._results.close()


class _List:
    """A JSON list that is written element by element, under another name until it is whole."""

    def __init__(self, path: Path, head: str, tail: str):
        self._path, self._tail = path, tail
        self._part = path.with_name(f"{path.name}.part")
        self._file: IO[str] | None = self._part.open("w", encoding="ascii")
        self._file.write(head)
        self._separator = "\n"

    def add(self, value: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(self._separator + json.dumps(value, allow_nan=False))
        self._separator = ",\n"

    def finish(self) -> None:
        assert self._file is not None
        self._file.write(f"\n{self._tail}\n")
        self._file.close()
        self._file = None
        self._part.replace(self._path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)


def _person() -> dict[str, Any]:
    return {"id": PERSON, "name": "person", "supercategory": "person"}
