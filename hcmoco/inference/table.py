"""Predict the pictures of a table, one row each: for programs that serve a model, such as MLflow's.

A row has a picture in one of three columns, and what is known of it:

    path     file on this machine, in any format that predict.py reads
    image    the bytes of such a file
    pixels   an array: RGB uint8 [H, W, 3], or depth [H, W], whole numbers or floating point
    boxes    of the people, each x0, y0, x1, y1; parsing and pose. Without any: see `boxes` of predict.py's --help
    camera   fx, fy, cx, cy of the whole picture; pose, and parsing-depth with an encoder of points

Coordinates are pixels of the upright picture, from its upper left corner. An empty cell (None, NaN) says nothing.
Arrays and bytes go through the same readers as files: both are written to a temporary file without loss.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hcmoco.data.codecs import encode_png
from hcmoco.data.depth_masking import MASKED, UNMASKED, masking_of, warning
from hcmoco.data.depth_units import millimeters
from hcmoco.errors import UserError, one_line
from hcmoco.finetuning.saved_model import Saved
from hcmoco.inference.adapter import ImageResult, PredictOptions, PreparedImage
from hcmoco.inference.boxes import Box, check_box
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.run import make_adapter, predict_images
from hcmoco.inference.video.frames import VideoFacts, VideoFrame

PATH, IMAGE, PIXELS, BOXES, CAMERA = "path", "image", "pixels", "boxes", "camera"
PICTURES = (PATH, IMAGE, PIXELS)
ERROR, WIDTH, HEIGHT, PEOPLE, WARNING = "error", "width", "height", "people", "warning"
COLUMNS = (ERROR, WARNING, WIDTH, HEIGHT, PEOPLE)
"""Keys of a result."""
MIN_SCORE = 0.3
_BATCH, _THREADS = 8, 2
_UNIT_ADVICE = "set the parameter depth_unit to {unit}"


class TablePredictor:
    """Predicts rows with one fine-tuned model.

    Args:
        saved: the model.
        device: for the network.
    """

    def __init__(self, saved: Saved, device: torch.device):
        self._saved, self._device = saved, device
        self.task = saved.task()
        self._model = saved.model().to(device)

    def predict(
        self, rows: Sequence[Mapping[str, Any]], *, depth_unit: str | None = None, min_score: float | None = None
    ) -> list[dict[str, Any]]:
        """Predict the picture of each row.

        Args:
            rows: see the module.
            depth_unit: length of the number 1 in depth, e.g. mm, m, 0.25mm; None: mm for whole numbers, m for floating
                point.
            min_score: of densepose: detections below are dropped, 0..1; None: 0.3.

        Returns:
            One result for each row, in order: `error`, the reason why the picture cannot be used, or None; `warning`,
            where depth shows more, or less, than that of the training, or None; `width`, `height` of the picture,
            pixels; `people`, what predict.py writes of each, with the bytes of label images (PNG) in place of their
            files' names.

        Raises:
            UserError: a row has no picture, or a box, a camera, the unit or the score is not what it must be.
        """
        if min_score is not None and not 0 <= min_score <= 1:
            raise UserError(f"min_score = {min_score:g}: must be from 0 to 1")
        if depth_unit is not None:
            try:
                millimeters(depth_unit)
            except ValueError as error:
                raise UserError(f"depth_unit = {depth_unit!r}: {error}") from None
        results: list[dict[str, Any]] = [{} for _ in rows]
        with tempfile.TemporaryDirectory(prefix="hcmoco-pictures-") as folder:
            read = [self._row(number, row, Path(folder)) for number, row in enumerate(rows)]
            for (camera, has_boxes), group in _grouped(read).items():
                boxes = {row.file.name: row.boxes for row in group} if has_boxes else None
                options = PredictOptions(
                    boxes=boxes,
                    camera=camera,
                    depth_unit=depth_unit,
                    min_score=MIN_SCORE if min_score is None else min_score,
                    unit_advice=_UNIT_ADVICE,
                )
                adapter, taken = make_adapter(self.task, options), _Taken()
                files = [row.file for row in group]
                predict_images(adapter, self._model, self._device, files, taken, batch=_BATCH, threads=_THREADS)
                for row, line in zip(group, taken.lines, strict=True):
                    results[row.number] = self._result(line)
        return results

    def _row(self, number: int, row: Mapping[str, Any], folder: Path) -> "_Row":
        where, given = f"row {number}", {key: value for key, value in row.items() if not _is_empty(value)}
        named = [key for key in PICTURES if key in given]
        if len(named) != 1:
            raise UserError(
                f"{where}: give its picture in one of the columns {', '.join(PICTURES)}; it has "
                f"{' and '.join(named) or 'none of them'}"
            )
        if BOXES in given and self.task.name == "densepose":
            raise UserError(f"{where}: {BOXES} are for parsing and pose; densepose finds the people itself: drop them")
        boxes = _boxes(where, given[BOXES]) if BOXES in given else ()
        camera = None
        if "camera" in self.task.columns:
            if CAMERA not in given:
                raise UserError(
                    f"{where}: {self.task.name} needs the depth camera: give {CAMERA} = [fx, fy, cx, cy], focal "
                    "lengths and center in pixels of the whole picture"
                )
            camera = _four(where, CAMERA, given[CAMERA])
            if not (camera[0] > 0 and camera[1] > 0):
                raise UserError(f"{where}: {CAMERA} = {list(camera)}: fx and fy must be above 0")
        elif CAMERA in given:
            raise UserError(f"{where}: {self.task.name} takes no {CAMERA}: drop it")
        return _Row(number, self._file(number, given[named[0]], named[0], folder), boxes, camera)

    def _file(self, number: int, value: Any, column: str, folder: Path) -> ImageFile:
        name, where = str(number), f"row {number}: {column}"
        if column == PATH:
            if not isinstance(value, str | Path):
                raise UserError(f"{where} must be a text, it is {_kind(value)}")
            return ImageFile(name, Path(value).expanduser())
        if column == IMAGE:
            if not isinstance(value, bytes | bytearray):
                raise UserError(f"{where} must be the bytes of a picture file, it is {_kind(value)}")
            data = bytes(value)
        else:
            data = _encoded(where, value, depth=self.task.modality == "depth")
        file = ImageFile(name, folder / name)
        file.path.write_bytes(data)
        return file

    def _result(self, line: dict[str, Any]) -> dict[str, Any]:
        told = ""
        if "unmasked" in line:
            given = UNMASKED if line["unmasked"] else MASKED
            advice = "remove the background before"
            told = warning("the model", masking_of(self._saved.about), "this picture", given, advice)
        return {**{key: line.get(key) for key in COLUMNS}, WARNING: told or None}


@dataclass(frozen=True)
class _Row:
    number: int
    file: ImageFile
    boxes: tuple[Box, ...]
    camera: Box | None


class _Taken:
    """Takes the results of images, see `run.Results`."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(
        self,
        item: ImageFile | VideoFrame,
        line: dict[str, Any],
        prepared: PreparedImage,
        result: ImageResult,
        preview: np.ndarray | None,
    ) -> None:
        for (number, key), png in result.labels.items():
            line["people"][number][key] = png
        self.lines.append(line)

    def add_error(self, item: ImageFile | VideoFrame | None, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def end_video(self, facts: VideoFacts) -> None:
        raise AssertionError("a row has one picture")


def _grouped(rows: Sequence[_Row]) -> dict[tuple[Box | None, bool], list[_Row]]:
    """Rows that one adapter predicts: it has one camera, and boxes of all its pictures or of none."""
    groups: dict[tuple[Box | None, bool], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.camera, bool(row.boxes)), []).append(row)
    return groups


def _is_empty(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def _boxes(where: str, value: Any) -> tuple[Box, ...]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise UserError(f"{where}: {BOXES} must be a list of [x0, y0, x1, y1], it is {_kind(value)}")
    if len(value) == 0:
        raise UserError(f"{where}: {BOXES} is empty: drop the row, or give None for a picture of one person")
    if len(value) == 4 and all(np.isscalar(each) for each in value):
        raise UserError(f"{where}: {BOXES} must be a list of boxes: give [{list(value)}] in place of {list(value)}")
    return tuple(check_box(f"{where}: {BOXES}", _four(where, BOXES, each)) for each in value)


def _four(where: str, column: str, value: Any) -> Box:
    try:
        a, b, c, d = (float(each) for each in value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {column}: four numbers are needed, it is {value!r}") from None
    if not all(map(math.isfinite, (a, b, c, d))):
        raise UserError(f"{where}: {column}: the four numbers must be finite, it is {value!r}")
    return a, b, c, d


def _encoded(where: str, value: Any, *, depth: bool) -> bytes:
    """The bytes of a file with the pixels of an array, or of nested lists as JSON has them."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise UserError(f"{where}: it is no array: {one_line(error)}") from None
    if depth:
        if array.ndim != 2 or array.dtype.kind not in "uif":
            raise UserError(f"{where} must be depth [H, W], one number a pixel; it is {_kind(array)}")
        file = BytesIO()
        np.save(file, array, allow_pickle=False)
        return file.getvalue()
    if (
        array.ndim == 3
        and isinstance(value, list)
        and array.dtype.kind in "iu"
        and 0 <= array.min() <= array.max() < 256
    ):
        array = array.astype(np.uint8)  # JSON's numbers have no type of their own
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise UserError(
            f"{where} must be RGB, uint8 [H, W, 3] with 0 to 255 in the order R, G, B; it is {_kind(array)}"
        )
    return encode_png(array, compression=1)


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
