"""Refuse options of `folder` and `recording` that count for nothing with what lies in the folder."""

from collections.abc import Iterable

from hcmoco.datasets.person_lines import FolderConfig, PersonLine
from hcmoco.datasets.segmentation import parse
from hcmoco.unused_options import check_unused, unused

_OF_DEPTH = ("depth_unit", "depth_masking", "depth_codec")
_OF_KEYPOINTS = ("full_confidence", "coordinates", "axes", "keypoint_size")
_BACKGROUNDS = ("frames", "empty scene")


def check_counted(config: FolderConfig, lines: Iterable[PersonLine], *, has_depth: bool, of_tool: bool = False) -> None:
    """Check that each option has something to count for.

    Args:
        config: of the reader.
        lines: what is known of the people.
        has_depth: there is depth that is read, or nobody knows before it is.
        of_tool: keypoints are a tool's files, which refuse what does not count for them.

    Raises:
        UserError: an option that is given has not.
    """
    lines = list(lines)
    if not has_depth:
        check_unused(config, _OF_DEPTH, "depth")
        if config.segment and parse(config.segment, "--segment").kind in _BACKGROUNDS:
            raise unused(f"--segment {config.segment}", "depth, of which a background is removed,")
    if not any(line.parts for line in lines):
        check_unused(config, ("label_map",), "lines that have parts")
    if not any(line.joints3d for line in lines):
        check_unused(config, ("joint_set_3d", "joint_unit_3d"), "lines that have joints3d")
    if not of_tool and not any(line.keypoints for line in lines):
        check_unused(config, _OF_KEYPOINTS, "lines that have keypoints")
        if not config.detect:
            check_unused(config, ("min_confidence",), "lines that have keypoints, or --detect WEIGHTS")
