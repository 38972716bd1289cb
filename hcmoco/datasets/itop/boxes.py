"""Read boxes of people in ITOP's frames from a file: A2J's published test boxes, or your own. Pickles are not read.

    .mat    MATLAB v5, the variable FRbndbox_test (as published) or the only numeric one: [frames, 4 or more], first
            x0, y0, x1, y1
    .npy    the same array; a row of NaN is a frame without a box
    .json   {"1": [x0, y0, x1, y1], ...} or {"1": [[x0, y0, x1, y1, score], ...], ...}, best first: frames count from 1;
            [] is a frame without a box

Row k belongs to the k-th valid frame of the split, in pixels of the frame.
"""

import io
from typing import Any

import numpy as np

from hcmoco import unique_keys
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.matlab5 import read_matrices
from hcmoco.datasets.io.npy import NPY_DAMAGE
from hcmoco.errors import UserError, one_line

PUBLISHED = "FRbndbox_test"
_CONVERT = (
    "a pickle can run any program, so it is not opened; docs/data/itop.md says how to write one that you trust as JSON"
)


def read_boxes(folder: str, name: str, frames: int) -> np.ndarray:
    """Read the boxes of all valid frames.

    Args:
        folder: of the file.
        name: of the file.
        frames: number of valid frames of the split.

    Returns:
        float64 [frames, 4], x0, y0, x1, y1, NaN where the file has none.

    Raises:
        UserError: the file is missing, damaged or of another form.
    """
    if name.endswith((".pkl", ".pickle")):
        raise UserError(f"boxes {name}: {_CONVERT}")
    readers = {".mat": _mat, ".npy": _npy, ".json": lambda data: _json(data, frames)}
    suffix = next((each for each in readers if name.endswith(each)), None)
    if suffix is None:
        raise UserError(f"boxes {name}: is read as .mat, .npy or .json; give such a file, or --boxes joints")
    try:
        boxes = readers[suffix](read_inside(folder, name))
        if boxes.ndim != 2 or boxes.shape[1] < 4 or boxes.dtype.kind not in "fiu":
            raise ValueError(
                f"holds {boxes.dtype} of shape {list(boxes.shape)}, needed are numbers [frames, 4]: x0, y0, x1, y1"
            )
    except (ValueError, RecursionError) as error:
        raise UserError(f"boxes {name}: {one_line(error)}; give another file, or --boxes joints") from None
    if len(boxes) != frames:
        raise UserError(
            f"boxes {name}: has {len(boxes)} rows, the split has {frames} valid frames; give the file of this split"
        )
    return boxes[:, :4].astype(np.float64)


def _mat(data: bytes) -> np.ndarray:
    found = {name: values for name, values in read_matrices(data).items() if values.size}
    if PUBLISHED in found or len(found) == 1:
        return found.get(PUBLISHED, next(iter(found.values())))
    raise ValueError(f"has no variable {PUBLISHED}, and not one variable of numbers alone")


def _npy(data: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except NPY_DAMAGE as error:
        raise ValueError(f"cannot be read as a .npy array: {error}") from None


def _json(data: bytes, frames: int) -> np.ndarray:
    try:
        found: Any = unique_keys.loads(data)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError("must be an object of frame numbers, from 1, to boxes")
    expected = [str(number) for number in range(1, frames + 1)]
    if missing := [key for key in expected if key not in found]:
        raise ValueError(
            f"has {len(found)} frames and lacks frame {missing[0]} of 1 to {frames}; a frame without a box is []"
        )
    if len(found) > frames:
        raise ValueError(f"has {len(found)} frames, the split has {frames} valid ones")
    return np.array([_first(key, found[key]) for key in expected]).reshape(-1, 4)


def _first(key: str, value: Any) -> list[float]:
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if value == []:
        return [np.nan] * 4
    if not isinstance(value, list) or len(value) < 4 or not all(type(each) in (int, float) for each in value[:4]):
        raise ValueError(f"frame {key}: its box is not [x0, y0, x1, y1]")
    return [float(each) for each in value[:4]]
