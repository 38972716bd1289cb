"""What the numbers of a depth picture mean: the unit has a name, and readings become millimeters.

A unit is the length of the number 1, written as `mm`, `m`, `cm`, `um` or with a number before it: `0.25mm`. Programs
write others: Kinect and most RealSense cameras 1 mm, RealSense L515 0.25 mm, TUM's data sets 0.2 mm, simulators and EXR
files meters. Nothing in a picture says which. So a person who would stand at 2 mm or at 2 km, or be 7 m tall, is
refused, with the unit that was probably meant.
"""

import math
import re
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from hcmoco.data.validation import FAR_MM

NEAREST_MM, FURTHEST_MM = 200, FAR_MM
"""A person whose median reading is outside was read in another unit."""
_TALLEST_M = 3.0  # longer side of a person's box: with raised arms, and some room around
_NEAREST_PERCENT = 10
_LARGEST = np.iinfo(np.uint16).max
_MILLIMETERS = {"um": 0.001, "mm": 1.0, "cm": 10.0, "m": 1000.0}
_UNIT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)?\s*(um|mm|cm|m)\s*")
_SMALLEST_UNIT, _LARGEST_UNIT = 1e-4, 1e4  # millimeters
_ALLOWED = "write mm, m, cm, um, or a number of them, such as 0.25mm"
# Units that cameras and programs write, by which a wrong one is guessed.
_COMMON = ("mm", "m", "cm", "0.25mm", "0.2mm", "0.125mm", "0.1mm", "um")
_USUAL_M = 2.5  # where people stand in recordings


def millimeters(unit: str) -> float:
    """Return the length of a unit in millimeters, e.g. 0.25 for "0.25mm".

    Raises:
        ValueError: it is no such unit, or one of less than 0.1 um or more than 10 m.
    """
    found = _UNIT.fullmatch(unit)
    if not found:
        raise ValueError(f"must be a unit of depth with its name: {_ALLOWED}")
    length = float(found[1] or 1) * _MILLIMETERS[found[2]]
    if not _SMALLEST_UNIT <= length <= _LARGEST_UNIT:
        raise ValueError(f"must be from {_SMALLEST_UNIT:g}mm to {_LARGEST_UNIT:g}mm")
    return length


def _checked(unit: str) -> str:
    millimeters(unit)
    return unit


DepthUnit = Annotated[str, AfterValidator(_checked)]
"""Field of a config: the name of a unit."""
DepthUnitOrDefault = Annotated[str, AfterValidator(lambda unit: unit and _checked(unit))]
"""Field of a config: the name of a unit, or "" for a default."""


def unit_name(length: float) -> str:
    """Return the name of the unit of `length` millimeters, e.g. "m" for 1000: the inverse of `millimeters`."""
    names = (name for name, each in _MILLIMETERS.items() if math.isclose(each, length, rel_tol=1e-6))
    return next(names, f"{length:.6g}mm")


def unit_of_scale(scale: float) -> str:
    """Return the unit that another program's depth scale probably means.

    Of the numbers that occur, large ones are units per meter (Open3D's 1000, TUM's 5000), small ones meters per unit
    (RealSense's 0.001), and those between millimeters per unit.
    """
    return unit_name(1000 / scale if scale >= 100 else 1000 * scale if scale < 0.01 else scale)


def default_unit(stored: np.ndarray) -> str:
    """Return the unit that is usual for the type of a depth picture: "m" for floating point, else "mm"."""
    return "m" if stored.dtype.kind == "f" else "mm"


def in_millimeters(stored_HW: np.ndarray, unit: str) -> np.ndarray:
    """Turn stored numbers into millimeters.

    Args:
        stored_HW: [H, W], whole numbers or floating point; 0, negative and not finite: no reading.
        unit: of the numbers.

    Returns:
        [H, W], millimeters, 0 = no reading: float64, or `stored_HW` itself if it is uint16 and in millimeters.

    Raises:
        ValueError: `unit` is none; or the numbers are negative where they should be distances.
    """
    length = millimeters(unit)
    if length == 1 and stored_HW.dtype == np.uint16:
        return stored_HW
    read = np.isfinite(stored_HW) & (stored_HW > 0)
    if not read.any() and (stored_HW < 0).any():
        raise ValueError("all readings of the depth picture are negative; multiply them by -1 if z points backward")
    return np.where(read, stored_HW, 0) * np.float64(length)


def rounded(depth_HW: np.ndarray, furthest_mm: float = math.inf) -> np.ndarray:
    """Return uint16 [H, W], whole millimeters, as records have them.

    Args:
        depth_HW: millimeters, 0 = no reading.
        furthest_mm: readings beyond become no reading; those beyond 65.5 m that are kept become 65.5 m.
    """
    if furthest_mm < math.inf:
        depth_HW = np.where(depth_HW <= furthest_mm, depth_HW, 0)
    return depth_HW if depth_HW.dtype == np.uint16 else np.minimum(np.rint(depth_HW), _LARGEST).astype(np.uint16)


def check_distance(
    depth_HW: np.ndarray, unit: str, fix: str, *, size_px: float | None = None, focal_px: float | None = None
) -> None:
    """Refuse a person who cannot stand where the depth picture says.

    Args:
        depth_HW: millimeters as of `in_millimeters`, not rounded: what of the picture is in the person's box.
        unit: that the picture was read in.
        fix: what to write instead, with {unit} in it, e.g. "give --depth-unit {unit}".
        size_px, focal_px: longer side of the person's box and the camera's focal length in pixels, where both are
            known and the box is a person's, not the picture's: then height tells units apart that distance does not.

    Raises:
        ValueError: no pixel has a reading; or the person would be too near, too far or too tall.
    """
    readings = depth_HW[depth_HW > 0]
    if not len(readings):
        raise ValueError("no pixel of the person has a depth reading")
    # A box has background, too, but a person is the nearest thing in it.
    distance, nearest = (float(np.percentile(readings, share)) / 1000 for share in (50, _NEAREST_PERCENT))
    height = nearest * size_px / focal_px if size_px and focal_px else None

    def possible(zoom: float) -> bool:
        stands = NEAREST_MM <= 1000 * distance * zoom <= FURTHEST_MM
        return stands and (height is None or height * zoom <= _TALLEST_M)

    if possible(1):
        return
    own = millimeters(unit)
    zooms = {name: millimeters(name) / own for name in _COMMON}
    usual = sorted(zooms, key=lambda name: abs(math.log(distance * zooms[name] / _USUAL_M)))
    meant = next((name for name in usual if possible(zooms[name])), None)
    how = f"the person's median depth is {_length(distance)} with the depth unit {unit}"
    if NEAREST_MM <= 1000 * distance <= FURTHEST_MM:
        how += f" and the person {_length(height or 0)} tall; up to {_TALLEST_M:g} m can be right"
    else:
        how += f"; {NEAREST_MM / 1000:g} to {FURTHEST_MM / 1000:g} m can be right"
    if meant is None:
        raise ValueError(f"{how}; no usual unit explains it: look at what wrote the picture")
    away = _length(distance * zooms[meant])
    raise ValueError(f"{how}: {meant} was probably meant (then {away} away), {fix.format(unit=meant)}")


def _length(meters: float) -> str:
    if meters < 0.1:
        return f"{1000 * meters:.3g} mm"
    return f"{meters:.3g} m" if meters < 1000 else f"{meters / 1000:.3g} km"
