"""The options of the programs that remove the background from depth on the way: predict and evaluate."""

import argparse
from typing import Any

from hcmoco.datasets.segmentation.config import MIN_SCORE, SCORES, SHORT_SIDE, SHORT_SIDES, TOLERANCE_MM, TOLERANCES_MM
from hcmoco.errors import UserError
from hcmoco.unused_options import unused

# Field of the namespace -> option, default, least and most; by the setting's name.
_SETTINGS = {
    "tolerance_mm": ("background_tolerance", "--background-tolerance", TOLERANCE_MM, *TOLERANCES_MM),
    "min_score": ("min_person_score", "--min-person-score", MIN_SCORE, *SCORES),
    "side": ("segment_side", "--segment-side", SHORT_SIDE, *SHORT_SIDES),
}


def add_mask_options(parser: argparse.ArgumentParser, forms: str) -> Any:
    """Add --mask and its settings, and return their group.

    Args:
        parser: of a program.
        forms: what --mask takes, in words.
    """
    group = parser.add_argument_group("background", "for tasks of depth; docs/data/masks.md")
    group.add_argument("--mask", metavar="WHAT", help=f"remove the background from depth, by {forms}")
    group.add_argument(
        "--background-tolerance",
        type=float,
        metavar="MM",
        help=f"what is nearer than the background by more is the person, millimeters (default {TOLERANCE_MM:g})",
    )
    group.add_argument(
        "--min-person-score", type=float, help=f"of a Mask R-CNN: others do not count (default {MIN_SCORE:g})"
    )
    group.add_argument(
        "--segment-side", type=int, help=f"shorter side at which a Mask R-CNN sees pictures (default {SHORT_SIDE})"
    )
    return group


def mask_settings(given: argparse.Namespace) -> dict[str, Any]:
    """Return tolerance_mm, min_score and side, with their defaults.

    Raises:
        UserError: one is out of range, or given without --mask.
    """
    found = {}
    for name, (field, option, default, least, most) in _SETTINGS.items():
        value = getattr(given, field)
        if value is not None and given.mask is None:
            raise unused(option, "--mask")
        if value is not None and not least <= value <= most:
            raise UserError(f"{option} {value:g}: must be from {least:g} to {most:g}")
        found[name] = default if value is None else value
    return found
