"""Whether depth shows the person alone: masked, or with the background, unmasked.

An encoder that has seen the one alone does not read the other, and says so by nothing but wrong results. So the fact
goes from the reader of a data set into its manifest, from there into the weights that are trained on it, and is
compared wherever weights and depth meet.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from hcmoco.data.codecs import decode_depth, decode_labels
from hcmoco.data.transforms import extent

if TYPE_CHECKING:
    from hcmoco.data.shards.manifest import About

DepthMasking = Literal["", "masked", "unmasked", "mixed"]
"""masked: the person alone; unmasked: the background, too; mixed: rows of both kinds; "": not known, or no depth."""

MASKED, UNMASKED, MIXED, UNKNOWN = "masked", "unmasked", "mixed", ""

SHOWN = {
    MASKED: "masked to the person",
    UNMASKED: "unmasked (the background is there, too)",
    MIXED: "partly masked to the person",
}
"""What cards and messages say of depth."""

# Of the pixels off the person's box. In masked depth it is 0 but for hands that reach out of a loose box; a camera that
# sees a room has readings on most of it.
_BACKGROUND_SHARE = 0.2
# A box that leaves less than this off proves nothing: then the share of all pixels is looked at.
_LEAST_OFF = 0.2
# A person fills less of their box: 0.64 is the most of 60 synthetic people.
_FILLED_SHARE = 0.75


def shows_background(depth_HW: np.ndarray, box_4: np.ndarray | None = None, mask_HW: np.ndarray | None = None) -> bool:
    """Return whether a depth picture of a person shows more than the person.

    Args:
        depth_HW: 0 = no reading.
        box_4: of the person, x0, y0, x1, y1, pixels; None: around all readings.
        mask_HW: above 0 on the person, if it is known: then it alone decides.
    """
    read_HW = np.asarray(depth_HW) > 0
    if mask_HW is not None:
        off = mask_HW == 0
        return bool(off.any() and read_HW[off].mean() > _BACKGROUND_SHARE / 2)
    if box_4 is None:
        box_4 = extent(read_HW)
    if box_4 is None:
        return False
    off = np.ones(read_HW.shape, bool)
    x0, y0 = np.maximum(np.floor(box_4[:2]), 0).astype(int)
    x1, y1 = np.maximum(np.ceil(box_4[2:]), 0).astype(int)
    off[y0:y1, x0:x1] = False
    if off.mean() >= _LEAST_OFF:
        return bool(read_HW[off].mean() > _BACKGROUND_SHARE)
    return bool(read_HW.mean() > _FILLED_SHARE)


def row_shows_background(row: Mapping, codec: str) -> bool:
    """Return whether a row's depth shows more than the person. A row that does not decode is for `verify` to find."""
    if row.get("depth") is None:
        return False
    try:
        depth_HW = decode_depth(row["depth"], codec)
        mask_HW = None if row.get("mask") is None else decode_labels(row["mask"])
    except ValueError:
        return False
    box_4 = None if row.get("box") is None else np.asarray(row["box"], np.float64)
    height, width = depth_HW.shape
    x0, y0, x1, y1 = _picture(row, width, height)
    moved_4 = None if box_4 is None else box_4 - (x0, y0, x0, y0)
    return shows_background(depth_HW[y0:y1, x0:x1], moved_4, None if mask_HW is None else mask_HW[y0:y1, x0:x1])


def _picture(row: Mapping, width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1: what of a row's image is of its picture; the square may reach beyond."""
    if row.get("crop") is None:
        return 0, 0, width, height
    left, top, side, *size = (float(each) for each in row["crop"])
    zoom = width / side
    corners = np.rint(np.array([-left, -top, size[0] - left, size[1] - top]) * zoom)
    x0, y0, x1, y1 = np.clip(corners, 0, (width, height, width, height)).astype(int).tolist()
    return x0, y0, x1, y1


def combined(maskings: Iterable[str]) -> DepthMasking:
    """Return the masking of several things together: unknown if that of one is."""
    found = set(maskings)
    if not found or UNKNOWN in found:
        return ""
    return "masked" if found == {MASKED} else "unmasked" if found == {UNMASKED} else "mixed"


def counted(rows: int, unmasked: int) -> DepthMasking:
    """Return the masking of `rows` rows with depth, of which `unmasked` show the background."""
    if not rows:
        return ""
    return "masked" if not unmasked else "unmasked" if unmasked == rows else "mixed"


def masking_of(about: "About") -> DepthMasking:
    """Return the masking of a data set. Manifests from before it was kept tell it by what made them."""
    if about.depth_masking:
        return about.depth_masking
    arguments = about.provenance.arguments
    source = arguments.get("source")
    if source == "people" and isinstance(arguments.get("masked_depth"), bool):
        return "masked" if arguments["masked_depth"] else "unmasked"
    if source in ("ntu", "ntu-parsing"):
        return "masked"
    return "unmasked" if source == "itop" else ""


def differs(trained: str, given: str) -> bool:
    """Return whether depth of the masking `given` is not what a model of the masking `trained` has seen."""
    return trained in (MASKED, UNMASKED) and given not in (UNKNOWN, trained)


def warning(model: str, trained: str, data: str, given: str, advice: str) -> str:
    """Return a line that says that a model has not seen such depth; "" where it has, or nobody knows.

    Args:
        model: what was trained, e.g. "the encoder of runs/people".
        trained: its masking.
        data: what it is given, e.g. "data/anna".
        given: its masking.
        advice: what to do where the background has to be removed; where it is missing, nothing brings it back.
    """
    if not differs(trained, given):
        return ""
    if trained == UNMASKED:
        advice = "give depth with its background, or weights that were trained on masked depth"
    return (
        f"warning: {model} was trained on depth that is {SHOWN[trained]}, depth of {data} is {SHOWN[given]}: the "
        f"results mean little; {advice}"
    )
