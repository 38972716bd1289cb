"""The tables of docs/data/keypoint-tools.md are those of the code.

`python -m tests.datasets.test_keypoint_page` prints them.
"""

from pathlib import Path

import pytest

from hcmoco.data.joint_set import JointSet
from hcmoco.data.skeletons import CANONICAL, COCO_17, ITOP_15, JOINT_SETS, MPII_16, PEOPLE_31
from hcmoco.data.tool_joints import TOOL_SETS
from hcmoco.datasets.keypoints.formats import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "data" / "keypoint-tools.md"
SETS = (COCO_17, MPII_16, *TOOL_SETS)


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def formats() -> str:
    """Each format with what it has by default."""
    lines = [
        row("`--format`", "coordinates", "`--min-confidence`", "`--min-score`", "whose defaults"),
        row(*["---"] * 5),
    ]
    for each in FORMATS.values():
        pixels = "pixels from 0, half a pixel is added" if each.offset else "pixels"
        lines.append(
            row(
                f"`{each.name}`",
                "shares of the picture" if each.normalized else pixels,
                f"{each.min_confidence:g}",
                f"{each.min_score:g}",
                each.threshold,
            )
        )
    return "\n".join(lines)


def places() -> str:
    """For every place that a set for training can ask for, its position in each tool's order."""

    def cell(joints: JointSet, place: str) -> str:
        position = joints.find(place)
        return "" if position < 0 else f"{position}{'' if place in joints.joints else '*'}"

    lines = [row("", *(f"`{each.name}`" for each in SETS)), row("---", *["---:"] * len(SETS))]
    for place in dict.fromkeys((*MPII_16.joints, "head", *ITOP_15.joints, *PEOPLE_31.joints)):
        cells = [cell(each, place) for each in SETS]
        if any(cells):
            lines.append(row(place.replace("_", " "), *cells))
    return "\n".join(lines)


def without_counterpart() -> str:
    """Each set's source, and what of it no other set has."""
    lines = [row("`--joints`", "has no counterpart", "source"), row("---", "---", "---")]
    for each in SETS:
        labels = each.labels or each.joints
        lacking = [label for label, joint in zip(labels, each.joints, strict=True) if joint not in CANONICAL]
        lines.append(row(f"`{each.name}`", ", ".join(lacking) or "nothing", each.source))
    return "\n".join(lines)


@pytest.mark.parametrize("table", [formats, places, without_counterpart])
def test_the_page_has_the_table_of_the_code(table):
    assert table() in PAGE.read_text()


def test_the_page_names_every_set_and_format():
    text = PAGE.read_text()
    for name in (*(each.name for each in TOOL_SETS), *FORMATS):
        assert f"`{name}`" in text
    assert {each.name for each in SETS} <= {*JOINT_SETS}


if __name__ == "__main__":
    print("\n\n".join(each() for each in (formats, places, without_counterpart)))
