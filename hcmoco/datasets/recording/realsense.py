"""What RealSense's viewer and rs-convert write.

Viewer, "snapshot" of a stream (`snapshot_frame` of common/stream-model.cpp and `frame_metadata_to_csv` of
github.com/IntelRealSense/librealsense):

    NAME_Color.png
    NAME_Depth.png             depth in colors, for people to look at: passed over
    NAME_Depth.raw             Z16: 16-bit numbers, little-endian, row by row
    NAME_Depth_metadata.csv    "Resolution x", "Resolution y", "Format", "Fx", "Fy", "PPx", "PPy", "Distorsion"

rs-convert -p PREFIX -r PREFIX (tools/convert/converters/converter-png.hpp and converter-raw.hpp):

    PREFIX_Color_MILLISECONDS.png, PREFIX_Depth_MILLISECONDS.png (in colors), PREFIX_Depth_MILLISECONDS.raw

Neither writes the unit of depth, the color camera, or its place: `camera.json` does. Its numbers are those that
`rs-enumerate-devices -c` prints; only its depth camera is in the csv.
"""

import csv
import re
from pathlib import Path

from hcmoco.config import build
from hcmoco.datasets.cameras.camera import Camera, DistortionModel
from hcmoco.datasets.cameras.camera_file import CameraConfig
from hcmoco.errors import UserError

NAME = re.compile(r"(?P<base>.*)_(?P<stream>Color|Depth)(?:_(?P<time>\d+\.\d+))?\.(?P<suffix>png|jpg|raw)")
_COLUMNS = {
    "width": "Resolution x",
    "height": "Resolution y",
    "fx": "Fx",
    "fy": "Fy",
    "cx": "PPx",
    "cy": "PPy",
}
MODELS: dict[str, DistortionModel] = {
    "None": "none",
    "Brown Conrady": "brown-conrady",
    "Modified Brown Conrady": "modified-brown-conrady",
    "Inverse Brown Conrady": "modified-brown-conrady",
}
"""What the SDK calls lens models."""


def depth_camera(folder: Path, names: list[str]) -> Camera | None:
    """Return the depth camera that the csv files beside depth pictures name; None without any.

    The files have no coefficients of distortion: RealSense's depth pictures are rectified.

    Raises:
        UserError: a csv lacks a number, is of another format than Z16, or two of them differ.
    """
    found: dict[Camera, str] = {}
    for name in names:
        found.setdefault(_camera(folder / name), name)
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise UserError(
            f"{folder}: {one} and {other} are of different cameras; give each recording a folder of its own"
        )
    return next(iter(found), None)


def _camera(path: Path) -> Camera:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            values = {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) > 1}
        form, model = values["Format"], values.get("Distorsion", values.get("Distortion", "None"))
        numbers = {key: float(values[column]) for key, column in _COLUMNS.items()}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not the metadata of a RealSense depth picture ({error}); save it again") from None
    if form.upper() != "Z16":
        raise UserError(f"{path} says that its picture is {form}; depth in Z16 is read")
    if model not in MODELS:
        raise UserError(f"{path}: the distortion {model!r} is not supported; known are {', '.join(MODELS)}")
    return build(
        CameraConfig, {**numbers, "width": int(numbers["width"]), "height": int(numbers["height"])}, str(path)
    ).camera()
