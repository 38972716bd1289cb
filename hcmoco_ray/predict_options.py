"""Check the options of predict.py, alone and against the model's task, without PyTorch."""

import argparse
import math
from pathlib import Path
from typing import Any

from hcmoco.config import build
from hcmoco.data.depth_units import millimeters, unit_name
from hcmoco.datasets.segmentation import Request, parse
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError
from hcmoco.inference.boxes import check_box
from hcmoco.inference.people import FLAG
from hcmoco.storage import is_local
from hcmoco.unused_options import unused
from hcmoco_ray import cli
from hcmoco_ray.mask_options import mask_settings

_DETECT_OPTIONS = ("detect_input", "detect_size", "detect_sha256")
_OF_PERSON = ("parsing-rgb", "parsing-depth", "pose")
_OF_TASKS = {
    "box": _OF_PERSON,
    "boxes": _OF_PERSON,
    "person_detector": _OF_PERSON,
    "camera": ("pose",),
    "depth_unit": ("parsing-depth", "pose"),
    "mask": ("parsing-depth", "pose"),
    "rgb": ("parsing-depth", "pose"),
}


def check_options(
    given: argparse.Namespace, threads: int, out: str
) -> tuple[tuple[float, float, float, float] | str | None, tuple[float, float, float, float] | None]:
    """Return --box and --camera as numbers.

    Args:
        given: the arguments of predict.py.
        threads: of the CPU.
        out: folder of the results.

    Raises:
        UserError: an option has a value that it cannot have.
    """
    for name, value in (("--batch", given.batch), ("--threads", threads), ("--every", given.every or 1)):
        if value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    if given.every == 0:
        raise UserError("--every 0: must be at least 1")
    if given.depth_scale is not None:
        raise UserError(f"--depth-scale is now --depth-unit: give --depth-unit {_unit_of(given.depth_scale)}")
    if given.depth_unit is not None:
        try:
            millimeters(given.depth_unit)
        except ValueError as error:
            raise UserError(f"--depth-unit {given.depth_unit}: {error}") from None
    if given.min_score is not None and not 0 <= given.min_score <= 1:
        raise UserError(f"--min-score {given.min_score:g}: must be from 0 to 1")
    if not is_local(out):
        raise UserError(f"--out {out}: must be a folder on this machine")
    camera = None if given.camera is None else four_numbers("--camera", given.camera, "365.5,365.5,256.3,208.5")
    if camera is not None and not (camera[0] > 0 and camera[1] > 0):
        raise UserError(f"--camera {given.camera}: fx and fy must be above 0")
    box = (
        given.box
        if given.box in (None, "picture")
        else four_numbers("--box", given.box, "120,40,310,460 or --box picture")
    )
    if isinstance(box, tuple):
        check_box("--box", box)
    return box, camera


def check_task(given: argparse.Namespace, weights: str, task: Any) -> None:
    """Check the options against the model.

    Args:
        given: the arguments of predict.py.
        weights: name, folder or URI of the model.
        task: of the model.

    Raises:
        UserError: an option is not for the task.
    """
    if given.task not in (None, task.name):
        raise UserError(f"the model {weights} is of {task.name}, --task says {given.task}; drop --task")
    for name, tasks in _OF_TASKS.items():
        if (
            getattr(given, name) is not None
            and task.name not in tasks
            and not (name == "camera" and name in task.columns)
        ):
            raise UserError(
                f"--{name.replace('_', '-')} is for {' and '.join(tasks)}; the weights are of {task.name}: drop it"
            )
    if given.min_score is not None and task.name != "densepose" and given.person_detector is None:
        raise UserError(f"--min-score is for densepose and {FLAG}; the weights are of {task.name}: drop it")


def detect_options(given: argparse.Namespace) -> DetectOptions | None:
    """Return the options of the detector; None without one.

    Raises:
        UserError: one cannot be, or counts for nothing.
    """
    if given.person_detector is None:
        if option := next((each for each in _DETECT_OPTIONS if getattr(given, each) is not None), None):
            raise unused(f"--{option.replace('_', '-')}", FLAG)
        return None
    size = (
        None
        if given.detect_size is None
        else [_whole(each, given.detect_size) for each in given.detect_size.split(",")]
    )
    values = {
        "detect": str(Path(given.person_detector).expanduser()),
        "detect_input": given.detect_input,
        "detect_size": size,
        "detect_sha256": given.detect_sha256,
        "min_score": given.min_score,
    }
    return build(DetectOptions, values, FLAG)


def mask_request(given: argparse.Namespace) -> tuple[Request, dict[str, Any]] | None:
    """Return what --mask asks for, and its settings; None without it.

    Raises:
        UserError: a setting cannot be, or counts for nothing.
    """
    settings = mask_settings(given)
    if given.mask is None:
        if given.rgb is not None and given.person_detector is None:
            raise UserError(
                f"--rgb is for --mask with the weight file of a Mask R-CNN, and for {FLAG}: give one, or drop --rgb"
            )
        return None
    return parse(given.mask, "--mask"), settings


def _whole(text: str, given: str) -> int:
    try:
        return cli.whole_number(text)
    except argparse.ArgumentTypeError:
        raise UserError(f"--detect-size {given}: must be two whole numbers, such as 800,1333") from None


def _unit_of(units_per_meter: str) -> str:
    """The unit that version 0.1 called so many units per meter; mm for what it did not accept."""
    try:
        unit = unit_name(1000 / float(units_per_meter))
        millimeters(unit)
    except (ValueError, ZeroDivisionError, OverflowError):
        return "mm"
    return unit


def four_numbers(option: str, text: str, example: str) -> tuple[float, float, float, float]:
    """Return the four numbers of an option's text. Raises UserError, with an example, for any other text."""
    try:
        a, b, c, d = (cli.number(each) for each in text.split(","))
        if not all(map(math.isfinite, (a, b, c, d))):
            raise ValueError
    except (ValueError, argparse.ArgumentTypeError):
        raise UserError(
            f"{option} {text!r}: must be four numbers with commas between them, for example {option} {example}"
        ) from None
    return a, b, c, d
