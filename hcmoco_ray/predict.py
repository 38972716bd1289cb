"""Predict on a user's own images and videos. Files are checked before PyTorch is loaded, which takes seconds."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hcmoco
from hcmoco.data.depth_masking import masking_of, warning
from hcmoco.errors import UserError
from hcmoco.inference.coco import image_ids
from hcmoco.inference.inputs import LISTED, FoundInputs, VideoFile, find_inputs
from hcmoco.inference.people import FLAG, read_boxes
from hcmoco.inference.video.frames import VideoFacts, look_at
from hcmoco.inference.writer import ABOUT, INDEX, LINES, Output, check_out, video_name
from hcmoco_ray.cluster.cpus import cpus_here
from hcmoco_ray.predict_options import check_options, check_task, detect_options, mask_request
from hcmoco_ray.tracking.progress import Progress

_SHOWN = 5


def run(given: argparse.Namespace, *, weights: str, images: Sequence[str], out: str) -> int:
    """Predict, and write the results.

    Args:
        given: the arguments of predict.py.
        weights: name, folder or URI of the model.
        images: what to predict on, see `find_inputs`.
        out: folder of the results.
    Returns:
        The exit status.
    Raises:
        UserError: an argument, an image or the weights are bad.
    """
    threads = given.threads if given.threads is not None else cpus_here()
    box, camera = check_options(given, threads, out)
    segment = mask_request(given)
    found = find_inputs(images, ABOUT, _listed() if LISTED in images else b"")
    boxes = None if given.boxes is None else read_boxes(Path(given.boxes).expanduser(), found.files)
    detect = detect_options(given)
    check_out(Path(out))

    import torch

    from hcmoco.finetuning.saved_model import load_model
    from hcmoco.inference.adapter import PredictOptions
    from hcmoco.inference.masks import make_mask
    from hcmoco.inference.people import make_finder
    from hcmoco.inference.run import make_adapter, predict_images

    saved = load_model(weights)
    task = saved.task()
    check_task(given, weights, task)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; give --device cpu")
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(threads)
    found, videos = _usable(found, task.modality)
    mask, finder, mask_facts = None, None, dict[str, Any]()
    if detect is not None:
        if task.modality == "depth" and given.rgb is None:
            raise UserError(f"{FLAG} looks at RGB: name the folder of pictures that show the same with --rgb")
        rgb = given.rgb if task.modality == "depth" else None
        finder = make_finder(detect, threads=threads, cuda=device.type == "cuda", rgb=rgb)
    if segment is not None:
        request, settings = segment
        rgb = given.rgb if request.kind == "mask-rcnn" or finder is None else None
        mask, mask_facts = make_mask(request, found.images, unit=given.depth_unit, rgb=rgb, **settings)
    min_score = 0.3 if given.min_score is None else given.min_score
    adapter = make_adapter(
        task, PredictOptions(box, boxes, camera, given.depth_unit, min_score, mask=mask, people=finder)
    )
    model = saved.model().to(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else _count(threads, "thread")
    _say(f"{task.name} of {saved.folder} on {device.type} ({where}): {_inputs_text(found)}")
    if finder is not None:
        _say(f"people by {finder.path}: {finder.model.kind}, --min-score {finder.min_score:g}")
    passed_over = [_text(each) for each in found.passed_over]
    for each in passed_over:
        _say(f"passed over: {each}")
    facts = {
        **_facts(task.name, saved, images, adapter.facts()),
        "passed_over": passed_over,
        **({"mask": mask_facts} if mask_facts else {}),
        **({"person_detector": finder.facts()} if finder else {}),
    }
    output = Output(
        out,
        facts,
        form=adapter.coco,
        ids=None if found.videos else image_ids([each.name for each in found.files]),
        legend=adapter.legend,
        threads=threads,
    )
    for name, reason in found.rejected:
        print(f"rejected {_text(name)}: {reason}", file=sys.stderr)
        output.add_error(None, {"image": name.partition(", ")[2], "task": task.name, "error": reason, "people": []})
    every = given.every or 1
    frames = sum(-(-each.declared // every) for each in videos)
    unit = " and ".join([*(["pictures"] if found.images else []), *(["frames"] if videos else [])])
    progress = Progress("predict", len(found.images) + frames, unit)
    try:
        summary = predict_images(
            adapter,
            model,
            device,
            found.files,
            output,
            batch=given.batch,
            threads=threads,
            every=every,
            done=progress.add,
        )
        counts = {
            "pictures": summary.predicted,
            **({"frames": summary.frames} if found.videos else {}),
            "people": summary.people,
            "set_aside": len(summary.rejected) + len(found.rejected) + summary.rejected_frames,
        }
        told = "" if task.modality != "depth" else _masking_warning(saved, summary.predicted, summary.unmasked)
        if task.modality == "depth":
            counts["unmasked"] = summary.unmasked
        output.finish({**counts, **({"warning": told} if told else {})})
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{out}/{LINES} has what was predicted so far, the same command starts again") from None
    finally:
        progress.close()
        output.close()
    _report(found, summary, out)
    if told:
        _say(told)
    for video in summary.videos:
        if video.seen:
            _say(f"video     {_text(f'{out}/{video_name(video)}')}, of {_count(video.seen, 'frame')}")
    _say(f"results   {out}/{LINES}\npictures  {out}/{INDEX}")
    return 0


def _report(found: FoundInputs, summary: Any, out: str) -> None:
    """Say what was rejected, and how much was predicted. Raises UserError if nothing was."""
    shown = len(summary.rejected) if found.listed else _SHOWN
    for name, reason in summary.rejected[:shown]:
        print(f"rejected {_text(name)}: {reason}", file=sys.stderr)
    if len(summary.rejected) > shown:
        print(f"rejected {len(summary.rejected) - shown} more; {out}/{LINES} says why", file=sys.stderr)
    for video in summary.videos:
        for fault in video.faults():
            print(f"video {_text(video.name)}: {fault}", file=sys.stderr)
    rejected = len(summary.rejected) + len(found.rejected) + summary.rejected_frames
    if not summary.predicted + summary.frames:
        reasons = [*summary.rejected, *((each.name, fault) for each in summary.videos for fault in each.faults())]
        name, reason = reasons[0] if reasons else ("the video", summary.first_reason)
        raise UserError(f"none of {_inputs_text(found)} could be used; {_text(name)}: {reason}")
    done = [(summary.predicted, "picture")] if summary.predicted or not summary.videos else []
    done += [(summary.frames, "frame")] if summary.videos else []
    what = " and ".join(_count(*each) for each in done)
    more = f", {rejected} rejected" if rejected else ""
    if summary.skipped:
        more += f", {_count(summary.skipped, 'person', 'people')} of the detector without a usable reading skipped"
    _say(f"{what}, {_count(summary.people, 'person', 'people')}{more}")


def _usable(found: FoundInputs, modality: str) -> tuple[FoundInputs, list[VideoFacts]]:
    """Return the inputs without those that the task cannot read, and what the videos declare.

    Raises:
        UserError: nothing is left.
    """
    if modality == "depth" and found.videos:
        reason = "a video has no depth; give depth pictures, or take a model that looks at RGB"
        if not found.images:
            raise UserError(f"images: {_text(found.videos[0].name)}: {reason}")
        left = [each for each in found.files if not isinstance(each, VideoFile)]
        rejected = [*found.rejected, *((f"{each.place or 'given'}, {each.name}", reason) for each in found.videos)]
        found = FoundInputs(list(left), found.passed_over, rejected, found.listed)
    return found, [look_at(each) for each in found.videos]


def _listed() -> bytes:
    """The list on standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(
            f"{LISTED} reads a list of files from standard input, which is the keyboard; pipe one, such as that of "
            "find . -name '*.jpg'"
        )
    return sys.stdin.buffer.read()


def _masking_warning(saved: Any, pictures: int, unmasked: int) -> str:
    """A line where the pictures show more, or less, than those that the model was trained on."""
    data = f"{unmasked} of {_count(pictures, 'picture')}" if unmasked else _count(pictures, "picture")
    shown = "unmasked" if unmasked else "masked"
    advice = "give --mask, as --help says"
    if not pictures:
        return ""
    return warning(f"the model of {saved.folder}", masking_of(saved.about), data, shown, advice)


def _facts(task: str, saved: Any, images: Sequence[str], facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "hcmoco": hcmoco.__version__,
        "task": task,
        "weights": {"folder": saved.folder, "sha256": saved.digest},
        "images": images[0] if len(images) == 1 else list(images),
        "coordinates": "x, y in pixels of the upright picture (EXIF orientation applied), from its upper left corner: "
        "the first pixel's center is at 0.5, 0.5",
        **facts,
    }


def _inputs_text(found: FoundInputs) -> str:
    pictures, videos = len(found.images), len(found.videos)
    said = [_count(pictures, "picture")] if pictures or not videos else []
    return " and ".join([*said, *([_count(videos, "video")] if videos else [])])


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _text(name: str) -> str:
    """Return a file's name as one line of text, whatever bytes it has."""
    return " ".join(name.split()).encode(errors="backslashreplace").decode()


def _say(text: str) -> None:
    print(text.encode(errors="backslashreplace").decode(), flush=True)
