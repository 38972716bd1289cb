"""Predict on a user's own images. Files are checked before PyTorch is loaded, which takes seconds."""

import argparse
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import hcmoco
from hcmoco import unique_keys
from hcmoco.data.depth_masking import masking_of, warning
from hcmoco.data.depth_units import millimeters, unit_name
from hcmoco.datasets.io.files import text_lines
from hcmoco.datasets.segmentation import Request, parse
from hcmoco.errors import UserError, one_line
from hcmoco.inference.boxes import Box, check_box
from hcmoco.inference.images import ImageFile, find_images
from hcmoco.inference.writer import ABOUT, INDEX, LINES, Output, check_out
from hcmoco.storage import is_local
from hcmoco_ray import cli
from hcmoco_ray.cluster.cpus import cpus_here
from hcmoco_ray.commands.mask_options import mask_settings
from hcmoco_ray.tracking.progress import Progress

_SHOWN = 5
_OF_TASKS = {
    "box": ("parsing-rgb", "parsing-depth", "pose"),
    "boxes": ("parsing-rgb", "parsing-depth", "pose"),
    "camera": ("pose",),
    "depth_unit": ("parsing-depth", "pose"),
    "mask": ("parsing-depth", "pose"),
    "min_score": ("densepose",),
}


def run(given: argparse.Namespace, *, weights: str, out: str) -> int:
    """Predict, and write the results.

    Args:
        given: the arguments of predict.py.
        weights: folder or URI of the model.
        out: folder of the results.
    Returns:
        The exit status.
    Raises:
        UserError: an argument, an image or the weights are bad.
    """
    threads = given.threads if given.threads is not None else cpus_here()
    for name, value in (("--batch", given.batch), ("--threads", threads)):
        if value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
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
    camera = None if given.camera is None else _four("--camera", given.camera, "365.5,365.5,256.3,208.5")
    if camera is not None and not (camera[0] > 0 and camera[1] > 0):
        raise UserError(f"--camera {given.camera}: fx and fy must be above 0")
    box = given.box if given.box in (None, "picture") else _four("--box", given.box, "120,40,310,460 or --box picture")
    if isinstance(box, tuple):
        check_box("--box", box)
    segment = _segment(given)
    found = find_images(given.images, ABOUT)
    files = found.files
    boxes = None if given.boxes is None else read_boxes(Path(given.boxes).expanduser(), files)
    check_out(Path(out))

    import torch

    from hcmoco.finetuning.saved_model import load_model
    from hcmoco.inference.adapter import PredictOptions
    from hcmoco.inference.masks import make_mask
    from hcmoco.inference.run import make_adapter, predict_images

    saved = load_model(weights)
    task = saved.task()
    if given.task not in (None, task.name):
        raise UserError(
            f"--weights {weights} are of {task.name}, --task says {given.task}; drop --task, or give other weights"
        )
    for name, tasks in _OF_TASKS.items():
        if (
            getattr(given, name) is not None
            and task.name not in tasks
            and not (name == "camera" and name in task.columns)
        ):
            raise UserError(
                f"--{name.replace('_', '-')} is for {' and '.join(tasks)}; the weights are of {task.name}: drop it"
            )
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; give --device cpu")
    mask, mask_facts = None, dict[str, Any]()
    if segment is not None:
        request, settings = segment
        mask, mask_facts = make_mask(request, files, unit=given.depth_unit, rgb=given.rgb, **settings)
    min_score = 0.3 if given.min_score is None else given.min_score
    options = PredictOptions(box, boxes, camera, given.depth_unit, min_score, mask)
    adapter = make_adapter(task, options)
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(threads)
    model = saved.model().to(device)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else _count(threads, "thread")
    _say(f"{task.name} of {saved.folder} on {device.type} ({what}): {_count(len(files), 'picture')}")
    for each in found.passed_over:
        _say(f"passed over: {_text(each)}")
    passed_over = [_text(each) for each in found.passed_over]
    facts = {**_facts(task.name, saved, given, adapter.facts()), "passed_over": passed_over}
    output = Output(out, {**facts, "mask": mask_facts} if mask_facts else facts)
    progress = Progress("predict", len(files), "pictures")
    try:
        summary = predict_images(
            adapter, model, device, files, output, batch=given.batch, threads=threads, done=progress.add
        )
    except KeyboardInterrupt:
        progress.close()
        raise KeyboardInterrupt(f"{out}/{LINES} has what was predicted so far, the same command starts again") from None
    finally:
        output.close()
    progress.close()
    counts = {"pictures": summary.predicted, "people": summary.people, "set_aside": len(summary.rejected)}
    told = "" if task.modality != "depth" else _masking_warning(saved, summary.predicted, summary.unmasked)
    if task.modality == "depth":
        counts["unmasked"] = summary.unmasked
    output.finish({**counts, **({"warning": told} if told else {})}, adapter.legend())
    for name, reason in summary.rejected[:_SHOWN]:
        print(f"rejected {_text(name)}: {reason}", file=sys.stderr)
    if len(summary.rejected) > _SHOWN:
        print(f"rejected {len(summary.rejected) - _SHOWN} more; {out}/{LINES} says why", file=sys.stderr)
    if not summary.predicted:
        name, reason = summary.rejected[0]
        raise UserError(f"none of {_count(len(files), 'picture')} could be used; {_text(name)}: {reason}")
    rejected = f", {len(summary.rejected)} rejected" if summary.rejected else ""
    _say(f"{_count(summary.predicted, 'picture')}, {_count(summary.people, 'person', 'people')}{rejected}")
    if told:
        _say(told)
    _say(f"results   {out}/{LINES}\npictures  {out}/{INDEX}")
    return 0


def _segment(given: argparse.Namespace) -> tuple[Request, dict[str, Any]] | None:
    """What --mask asks for, and its settings; None without it."""
    settings = mask_settings(given)
    if given.mask is None:
        if given.rgb is not None:
            raise UserError("--rgb is for --mask with the weight file of a Mask R-CNN: give it, or drop --rgb")
        return None
    return parse(given.mask, "--mask"), settings


def _masking_warning(saved: Any, pictures: int, unmasked: int) -> str:
    """A line where the pictures show more, or less, than those that the model was trained on."""
    data = f"{unmasked} of {_count(pictures, 'picture')}" if unmasked else _count(pictures, "picture")
    shown = "unmasked" if unmasked else "masked"
    advice = "give --mask, as --help says"
    if not pictures:
        return ""
    return warning(f"the model of {saved.folder}", masking_of(saved.about), data, shown, advice)


def read_boxes(path: Path, files: list[ImageFile]) -> dict[str, list[Box]]:
    """Read the boxes of a JSON Lines file.

    Args:
        files: the images that the boxes may be of.
    Returns:
        (x0, y0, x1, y1) in pixels, by name of the image.
    Raises:
        UserError: a line is not of the form that predict.py describes, or of no image.
    """
    if not path.is_file():
        raise UserError(f"--boxes {path} does not exist; write one JSON object per person into it, as --help shows")
    names = {each.name for each in files}
    found = defaultdict(list)
    for number, text in text_lines(path, f"--boxes {path}"):
        where = f"--boxes {path} line {number}"
        try:
            values = unique_keys.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid JSON: {one_line(error)}") from None
        try:
            name, box = values["image"], tuple(float(each) for each in values["box"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f'{where} is not of the form {{"image": "a.jpg", "box": [x0, y0, x1, y1]}}') from None
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise UserError(f"{where}: the box must be four numbers, x0, y0, x1, y1; it is {list(box)}")
        check_box(where, box)
        if name not in names:
            raise UserError(
                f"{where}: {name!r} is none of the {_count(len(names), 'picture')}, for example {min(names)!r}"
            )
        found[name].append(box)
    if not found:
        raise UserError(f"--boxes {path} has no line; write one JSON object per person into it, as --help shows")
    return dict(found)


def _unit_of(units_per_meter: str) -> str:
    """The unit that version 0.1 called so many units per meter; mm for what it did not accept."""
    try:
        unit = unit_name(1000 / float(units_per_meter))
        millimeters(unit)
    except (ValueError, ZeroDivisionError, OverflowError):
        return "mm"
    return unit


def _four(option: str, text: str, example: str) -> Box:
    try:
        a, b, c, d = (cli.number(each) for each in text.split(","))
        if not all(map(math.isfinite, (a, b, c, d))):
            raise ValueError
    except (ValueError, argparse.ArgumentTypeError):
        raise UserError(
            f"{option} {text!r}: must be four numbers with commas between them, for example {option} {example}"
        ) from None
    return a, b, c, d


def _facts(task: str, saved: Any, given: argparse.Namespace, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "hcmoco": hcmoco.__version__,
        "task": task,
        "weights": {"folder": saved.folder, "sha256": saved.digest},
        "images": given.images,
        "coordinates": "x, y in pixels of the upright picture (EXIF orientation applied), from its upper left corner: "
        "the first pixel's center is at 0.5, 0.5",
        **facts,
    }


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _text(name: str) -> str:
    """Return a file's name as one line of text, whatever bytes it has."""
    return " ".join(name.split()).encode(errors="backslashreplace").decode()


def _say(text: str) -> None:
    print(text.encode(errors="backslashreplace").decode(), flush=True)
