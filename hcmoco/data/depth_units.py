"""What the numbers of a depth picture mean: the unit has a name, and readings become millimeters.

A unit is the length of the number 1, written as `mm`, `m`, `cm`, `um` or with a number before it: `0.25mm`. Programs
write others: Kinect and most RealSense cameras 1 mm, RealSense L515 0.25 mm, TUM's data sets 0.2 mm, simulators and EXR
files meters. Nothing in a picture says which. So a person who would stand at 2 mm or at 2 km, or be 7 m or 20 cm tall,
is refused, with the unit that was probably meant.
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
_SHORTEST_M = 0.3  # the same of a person who is seen whole: less than a newborn child
_SHORTEST_CUT_M = 0.2  # of one whom the picture's edge cuts off: a face
_SMALL_WITHIN_M = 1.0  # of the camera nothing but a picture of a part of somebody is smaller; centimeters end up here
_WIDEST_LENS = 0.28  # focal length in sides of the picture, where it is not known: 120 degrees (Azure Kinect)
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


def shortest_m(box_4: np.ndarray, width: int, height: int) -> float:
    """Return the least that the longer side of a person's box can be, meters; 0: anything, as of a picture of a face.

    Args:
        box_4: x0, y0, x1, y1, pixels, around all of the person that is in the picture.
        width, height: of the picture, pixels.
    """
    x0, y0, x1, y1 = np.asarray(box_4, np.float64).tolist()
    cut = [x0 <= 1, x1 >= width - 1, y0 <= 1, y1 >= height - 1]
    if (cut[0] and cut[1]) or (cut[2] and cut[3]):
        return 0.0  # nobody knows how much of the person is outside
    return _SHORTEST_CUT_M if any(cut) else _SHORTEST_M


def check_distance(
    depth_HW: np.ndarray,
    unit: str,
    fix: str,
    *,
    size_px: float | None = None,
    focal_px: float | None = None,
    picture_px: float | None = None,
    least_m: float = 0.0,
) -> None:
    """Refuse a person who cannot stand where the depth picture says.

    Args:
        depth_HW: millimeters as of `in_millimeters`, not rounded: what of the picture is in the person's box.
        unit: that the picture was read in.
        fix: what to write instead, with {unit} in it, e.g. "give --depth-unit {unit}".
        size_px, focal_px: longer side of the person's box and the camera's focal length in pixels, where both are
            known and the box is a person's, not the picture's: then height tells units apart that distance does not.
        picture_px: longer side of the picture; without `focal_px` a lens is taken that is as wide as lenses are.
        least_m: see `shortest_m`; it counts for people near the camera.

    Raises:
        ValueError: no pixel has a reading; or the person would be too near, too far, too tall or too small.
    """
    readings = depth_HW[depth_HW > 0]
    if not len(readings):
        raise ValueError("no pixel of the person has a depth reading")
    # A box has background, too, but a person is the nearest thing in it.
    distance, nearest = (float(np.percentile(readings, share)) / 1000 for share in (50, _NEAREST_PERCENT))
    height = nearest * size_px / focal_px if size_px and focal_px else None
    widest_px = focal_px or (_WIDEST_LENS * picture_px if picture_px else None)
    most = distance * size_px / widest_px if size_px and widest_px else None

    def fault(zoom: float) -> str:
        if not NEAREST_MM <= 1000 * distance * zoom <= FURTHEST_MM:
            return f"; {NEAREST_MM / 1000:g} to {FURTHEST_MM / 1000:g} m can be right"
        if height is not None and height * zoom > _TALLEST_M:
            return f" and the person {_length(height * zoom)} tall; up to {_TALLEST_M:g} m can be right"
        if most is not None and distance * zoom < _SMALL_WITHIN_M and most * zoom < least_m:
            at_most = "" if focal_px else "at most "
            return f" and the person {at_most}{_length(most * zoom)} tall; from {least_m:g} m on can be right"
        return ""

    reason = fault(1)
    if not reason:
        return
    own = millimeters(unit)
    zooms = {name: millimeters(name) / own for name in _COMMON}
    usual = sorted(zooms, key=lambda name: abs(math.log(distance * zooms[name] / _USUAL_M)))
    meant = next((name for name in usual if not fault(zooms[name])), None)
    how = f"the person's median depth is {_length(distance)} with the depth unit {unit}{reason}"
    if meant is None:
        raise ValueError(f"{how}; no usual unit explains it: look at what wrote the picture")
    away = _length(distance * zooms[meant])
    raise ValueError(f"{how}: {meant} was probably meant (then {away} away), {fix.format(unit=meant)}")


def _length(meters: float) -> str:
    if meters < 0.1:
        return f"{1000 * meters:.3g} mm"
    return f"{meters:.3g} m" if meters < 1000 else f"{meters / 1000:.3g} km"
