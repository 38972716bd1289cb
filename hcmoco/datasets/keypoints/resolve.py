"""Fill in what the user left to the file: its format, its joint set and the format's thresholds."""

from pathlib import Path

from hcmoco.datasets.base import absolute_folder
from hcmoco.datasets.keypoints.config import KeypointsConfig
from hcmoco.datasets.keypoints.formats import FORMATS, Format, find_joint_set, recognize
from hcmoco.unused_options import check_unused

_OF_FORMAT = {"coco-results": ("image_list",), "azure-kinect": ("calibration", "first_frame")}


def resolve(config: KeypointsConfig) -> tuple[KeypointsConfig, list[str]]:
    """Return the config with its format, joint set and thresholds, and paths made absolute.

    Returns:
        The config, and lines that say what was recognized and which defaults were taken.

    Raises:
        UserError: the file is missing, or is none of the formats, or does not decide; the line lists the choices.
    """
    paths = {
        field: absolute_folder(value)
        for field in ("keypoints", "image_list", "calibration", "depth", "mask")
        if (value := getattr(config, field))
    }
    path = Path(paths["keypoints"])
    name = config.format or recognize(path)
    form: Format = FORMATS[name]
    for other, names in _OF_FORMAT.items():
        if name != other:
            check_unused(config, names, f"--format {other}")
    if not config.depth:
        check_unused(config, ("depth_unit", "depth_codec"), "--depth")
    joints = find_joint_set(form, path, config.joints)
    least = form.min_confidence if config.min_confidence is None else config.min_confidence
    score = form.min_score if config.min_score is None else config.min_score
    coordinates = config.coordinates or ("normalized" if form.normalized else "pixels")
    chosen = "" if config.format and config.joints else " (recognized)"
    taken = config.min_confidence is None or config.min_score is None
    lines = [
        f"{config.keypoints}: format {name}, joints {joints}{chosen}, coordinates {coordinates}",
        f"a joint is visible from confidence {least:g} on (--min-confidence), a person is kept from score {score:g} on "
        f"(--min-score){f'; default: {form.threshold}' if taken else ''}",
    ]
    values = {
        "format": name,
        "joints": joints,
        "min_confidence": least,
        "min_score": score,
        "coordinates": coordinates,
        **paths,
    }
    return config.model_copy(update=values), lines
