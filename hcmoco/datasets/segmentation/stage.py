"""The stage before reading: what --segment needs is measured or checked once, and handed to every item.

It is a calibration of the reader (`DatasetReader.calibrations`), so the manifest keeps what came out: the background
and its tolerance, or the hash of a network's weights.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.data.depth_units import default_unit, in_millimeters
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.few import FEW, readable, spread
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.person_lines import FolderConfig, FolderItem
from hcmoco.datasets.recorded_person import measured
from hcmoco.datasets.segmentation import Background, MaskFolder, MaskRcnn, Request, Segmenter, parse
from hcmoco.datasets.segmentation.background import LEAST_FRAMES, MAX_FRAMES
from hcmoco.datasets.segmentation.request import FRAMES, pictures_in
from hcmoco.errors import UserError
from hcmoco.unused_options import check_unused

NAME = "segmentation"
_FEW_OF_NETWORK = 2  # pictures: seconds each
_EMPTY_SCENE = "give a depth picture of the empty scene: --segment FILE"


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        request: the way of segmentation.
        config: of the reader.
        items: on which it is measured: a spread of people's pictures, or one video.
    """

    request: Request
    config: FolderConfig
    items: tuple[Any, ...] = ()


def calibrations(config: FolderConfig, items: Sequence[Any]) -> dict[str, Job]:
    """Return what to measure, by name: nothing without --segment; of videos one background each.

    Raises:
        UserError: --segment names nothing that can be used on these items.
    """
    if not config.segment:
        check_unused(config, ("background_tolerance", "min_person_score", "segment_side"), "--segment")
        return {}
    request = parse(config.segment, "--segment")
    if request.kind not in ("frames", "empty scene"):
        check_unused(config, ("background_tolerance",), f"--segment {FRAMES}, or a picture of the empty scene")
    if request.kind != "mask-rcnn":
        check_unused(config, ("min_person_score", "segment_side"), "--segment WEIGHTS of a Mask R-CNN")
    if request.kind == "masks" and Path(request.path).is_file():
        raise UserError(f"--segment {config.segment} is the mask of one picture; give the folder of all masks")
    everybody = readable(items)
    pictures = [each for each in everybody if isinstance(each, FolderItem)]
    own = [each for each in pictures if each.line.mask is None]
    if request.kind == "mask-rcnn" and own and not any(each.line.rgb for each in own):
        raise UserError(
            f"--segment {config.segment}: a Mask R-CNN looks at RGB, and there is depth alone; give --segment "
            f"{FRAMES}, or a folder of masks"
        )
    if request.kind != "frames":
        return {NAME: Job(request, config, tuple(everybody[:1]))}
    if len(pictures) < len(everybody):
        return {f"{NAME}-{number}": Job(request, config, (each,)) for number, each in enumerate(everybody)}
    files = {each.line.depth: each for each in own if each.line.depth is not None}
    if own and len(files) < LEAST_FRAMES:
        raise UserError(
            f"--segment {FRAMES}: {len(files)} depth pictures are too few to tell what stays behind, {LEAST_FRAMES} "
            f"are the least; {_EMPTY_SCENE}"
        )
    return {NAME: Job(request, config, tuple(spread(list(files.values()), MAX_FRAMES)))} if own else {}


def check(
    found: Inventory, config: FolderConfig, items: Sequence[Any], pictures: Sequence[str], formats: Iterable[str]
) -> None:
    """Check what --segment names, for `prepare --check`: that masks are there, and that a file opens as what it is.

    The background of the frames themselves is not measured.

    Args:
        found: what is added to.
        config: of the reader.
        items: of the reader.
        pictures: paths of the pictures that need a mask.
        formats: that masks may have.

    Raises:
        UserError: see `calibrations`.
    """
    job = next(iter(calibrations(config, items).values()), None)
    if job is None or job.request.kind == "frames":
        return
    request = job.request
    if request.kind == "masks":
        masks, named = MaskFolder(request.path), []
        for picture in pictures:
            try:
                named.append(masks.find(picture)[1])
            except ValueError as error:
                found.faults.append(Fault(picture, str(error)))
        if pictures:
            found.check_files("masks of --segment", request.path, named, *formats)
        return
    found.counts[f"{'weight files' if request.kind == 'mask-rcnn' else 'empty scenes'} of --segment"] = 1
    try:
        calibrate(job)
    except UserError as error:
        text = str(error).removeprefix(f"weights {request.path} ").removeprefix(f"--segment {config.segment}: ")
        found.faults.append(Fault(request.path, text))


def depth_frames(items: Iterable[FolderItem]) -> Iterator[np.ndarray]:
    """Yield the depth pictures of people in millimeters; what cannot be read is rejected later, one by one."""
    for item in items:
        camera = item.recorded_by.depth if item.recorded_by else None
        size = (camera.width, camera.height) if camera else None
        try:
            stored = read_depth_file(item.config.path, item.line.depth or "", size, upright=item.config.upright)
            yield measured(item, stored)[0]
        except ValueError:
            continue


def thinned(frames: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return MAX_FRAMES / 2 to MAX_FRAMES frames, evenly spread over a stream of unknown length; all of a short one."""
    kept: list[np.ndarray] = []
    step = 1
    for number, frame in enumerate(frames):
        if number % step:
            continue
        kept.append(frame)
        if len(kept) > MAX_FRAMES:
            kept, step = kept[::2], 2 * step
    return kept


def calibrate(job: Job, frames_of: Callable[[Iterable[Any]], Iterator[np.ndarray]] = depth_frames) -> dict[str, Any]:
    """Measure or check what segments, as JSON values.

    Args:
        job: of `calibrations`.
        frames_of: items -> their depth in millimeters.

    Raises:
        UserError: it cannot be used.
    """
    request, config = job.request, job.config
    if request.kind == "masks":
        return MaskFolder(request.path).facts()
    if request.kind == "mask-rcnn":
        return MaskRcnn(request.path, config.min_person_score, config.segment_side).facts()
    try:
        if request.kind == "empty scene":
            return empty_scene(request.path, _unit(job), config.background_tolerance, config.upright).to_json()
        frames = thinned(frames_of(job.items))
        return of_frames(frames, config.background_tolerance, "--segment").to_json()
    except ValueError as error:
        raise UserError(f"--segment {config.segment}: {error}") from None


def sampled(
    config: FolderConfig,
    items: Sequence[Any],
    frames_of: Callable[[Iterable[Any]], Iterator[np.ndarray]] = depth_frames,
) -> Sequence[Any]:
    """Return the few items that `prepare --check` reads, with what segments them.

    The background of a video is not measured, since that decodes all of it: its first frames show whether there is
    depth, and are read with their background.

    Args:
        config: of the reader.
        items: that it returned.
        frames_of: as of `calibrate`.

    Raises:
        UserError: see `calibrations` and `calibrate`.
    """
    jobs = calibrations(config, items)
    if not jobs or NAME in jobs:
        few = spread(readable(items), _FEW_OF_NETWORK if jobs and jobs[NAME].request.kind == "mask-rcnn" else FEW)
        return with_calibrations(config, few, {NAME: calibrate(jobs[NAME], frames_of)} if jobs else {})
    few = spread([job.items[0] for job in jobs.values()])
    for item in few:
        try:
            first = list(islice(frames_of([item]), LEAST_FRAMES))
            _check_enough(first, "--segment")
        except ValueError as error:
            raise UserError(f"--segment {config.segment}: {error}") from None
    return [replace(item, config=item.config.model_copy(update={"depth_masking": ""})) for item in few]


def _check_enough(frames: Sequence[np.ndarray], option: str) -> None:
    if len(frames) < LEAST_FRAMES:
        raise ValueError(
            f"{len(frames)} depth pictures are too few to tell what stays behind, {LEAST_FRAMES} are the least; give a "
            f"depth picture of the empty scene: {option} FILE"
        )


def of_frames(frames: Sequence[np.ndarray], tolerance_mm: float, option: str) -> Background:
    """Return the background of frames in which people move.

    Args:
        frames: [H, W] each, millimeters.
        tolerance_mm: see `Background`.
        option: what messages call it.

    Raises:
        ValueError: there are too few, or nothing moves.
    """
    _check_enough(frames, option)
    background = Background.of_frames(frames, tolerance_mm, "background of the frames themselves")
    if not any(background.foreground(each).any() for each in frames):
        raise ValueError(
            f"nothing moves in front of the background in {len(frames)} depth pictures; people who stand still count "
            f"as background: give a depth picture of the empty scene: {option} FILE"
        )
    return background


def empty_scene(path: str, unit: str | None, tolerance_mm: float, upright: bool) -> Background:
    """Return the background that pictures of the empty scene show.

    Args:
        path: a depth picture, or a folder of them.
        unit: of their numbers; None: mm for whole numbers, m for floating point.
        tolerance_mm: see `Background`.
        upright: turn files as their orientation says.

    Raises:
        ValueError: a file cannot be used.
    """
    frames = []
    for name in pictures_in(path)[:MAX_FRAMES]:
        stored = read_depth_file(Path(name).parent, Path(name).name, upright=upright)
        frames.append(in_millimeters(stored, unit or default_unit(stored)))
    return Background.of_frames(frames, tolerance_mm, "depth pictures of the empty scene")


def _unit(job: Job) -> str | None:
    by = next((each.recorded_by for each in job.items if each.recorded_by), None) or RecordedBy()
    return job.config.depth_unit or by.depth_unit


def with_calibrations(config: FolderConfig, items: Sequence[Any], measured: Mapping[str, dict]) -> list[Any]:
    """Return items that hold what segments them; the same ones without --segment."""
    if not measured:
        return list(items)
    num_readable = len(readable(items))
    segmenters = [_segmenter(measured.get(f"{NAME}-{number}") or measured[NAME]) for number in _numbers(measured)]
    of_item = iter(segmenters if len(segmenters) > 1 else segmenters * num_readable)
    return [each if isinstance(each, Rejected | Skipped) else replace(each, segmenter=next(of_item)) for each in items]


def _numbers(measured: Mapping[str, dict]) -> range:
    return range(1 if NAME in measured else len(measured))


def _segmenter(facts: dict[str, Any]) -> Segmenter:
    if "background" in facts:
        return Background.from_json(facts)
    if "sha256" in facts:
        return MaskRcnn(facts["path"], facts["min_person_score"], facts["segment_side"], facts["sha256"])
    return MaskFolder(facts["path"])
