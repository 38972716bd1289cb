"""The frames of ROS bags as people: as those of videos, with depth."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from hcmoco.data.depth_units import default_unit, in_millimeters
from hcmoco.datasets.base import Outcome, Rejected, Shown, Skipped
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.recording import ros_bag, ros_messages
from hcmoco.datasets.recording.frames_item import ALONE, NO_LINE, FramesItem, frame_records, not_reached, to_find


class BagItem(FramesItem):
    """One ROS bag; what camera.json says of its cameras goes before what the bag says."""


@contextmanager
def _opened(item: BagItem) -> Iterator[tuple[Any, ros_bag.Streams]]:
    """A bag's reader, and the streams of it that are read. Raises ValueError if it cannot be used."""
    config = item.config
    with ros_bag.open_bag(config.path, item.name) as reader:
        yield reader, ros_bag.streams(reader, config.use, config.color_topic, config.depth_topic)


def depth_frames(items: Iterable[BagItem]) -> Iterator[np.ndarray]:
    """Yield the depth of bags in millimeters, of every `stride`-th moment that has it.

    Raises:
        ValueError: a bag cannot be used, or has no depth.
    """
    for item in items:
        config = item.config
        with _opened(item) as (reader, streams):
            if streams.depth is None:
                raise ValueError(f"the bag {item.name!r} has no depth, so it has no background to remove")
            unit = config.depth_unit or cameras(item.recorded_by, streams).depth_unit
            for number, (_, depth) in enumerate(ros_bag.pairs(reader, streams)):
                if number % config.stride == 0 and depth is not None:
                    stored = ros_messages.depth_picture(depth)
                    yield in_millimeters(stored, unit or default_unit(stored))


def read(item: BagItem) -> Iterator[Outcome]:
    """Yield the records of every `stride`-th moment, in order; the whole bag is Rejected if it cannot be used."""
    config, last = item.config, -1
    try:
        with _opened(item) as (reader, streams):
            by = cameras(item.recorded_by, streams)
            for number, (color, depth) in enumerate(ros_bag.pairs(reader, streams)):
                if number % config.stride == 0:
                    both = bool(streams.color and streams.depth)
                    yield from _frame(item, number, color, depth, by, paired=both)
                    last = number
            yield from not_reached(item, last)
    except ValueError as error:
        yield Rejected(item.id, str(error))
    else:
        if last < 0 and not item.lines:
            yield Rejected(item.id, f"the bag {item.name!r} has no frame")


def shown(item: BagItem) -> Iterator[Shown]:
    """Yield the color pictures of which somebody's keypoints are not known, for a detector.

    Raises:
        ValueError: the bag cannot be used.
    """
    config = item.config
    with _opened(item) as (reader, streams):
        for number, (color, depth) in enumerate(ros_bag.pairs(reader, streams)):
            if number % config.stride or color is None or (streams.depth and depth is None):
                continue
            frame = f"{number:06d}"
            try:
                picture = to_find(item, frame, ros_messages.color_picture(color))
            except ValueError:
                continue  # `read` says it
            if picture is not None:
                yield picture


def cameras(given: RecordedBy | None, streams: ros_bag.Streams) -> RecordedBy:
    """Return what is known of the cameras: what camera.json says, else the bag.

    Raises:
        ValueError: there are color and depth, and neither says how they belong together.
    """
    of_bag = streams.recorded_by
    if given is None:
        by = of_bag
    else:
        knows = given.rig is not None or given.registered is not None
        by = replace(
            given,
            depth_unit=given.depth_unit or of_bag.depth_unit,
            color=given.color or of_bag.color,
            depth=given.depth or of_bag.depth,
            rig=given.rig if knows else of_bag.rig,
            registered=given.registered if knows else of_bag.registered,
        )
    if streams.color and streams.depth and not (by.rig or by.registered):
        raise ValueError(
            f"nothing says how depth ({streams.depth.name}) lies on color ({streams.color.name}): the bag has no "
            "/tf_static (or tf of RealSense's SDK) with both, or no camera_info of them; record depth that is aligned "
            'to color, or write depth_to_color or "registered" into camera.json (docs/data/recordings.md), or read one '
            "of them with --use rgb or --use depth"
        )
    return by


def describe(item: BagItem) -> list[str]:
    """Return which topics are read and what is known of their cameras, a line each; none if the bag cannot be read."""
    try:
        with _opened(item) as (_, streams):
            by = cameras(item.recorded_by, streams)
    except ValueError:
        return []  # `fault` says why
    lines = [
        f"{item.name}: {kind} {topic.name} ({topic.count} pictures"
        + (")" if topic.camera else ", no calibrated camera_info)")
        for kind, topic in (("color", streams.color), ("depth", streams.depth))
        if topic
    ]
    if streams.color and streams.depth:
        lines.append(
            f"depth is registered to color with the cameras of {by.file}"
            if by.rig
            else f"depth is registered to color already ({by.file})"
        )
    return lines


def fault(item: BagItem) -> str:
    """Return why a bag cannot be read; "" if it can."""
    try:
        with _opened(item) as (_, streams):
            cameras(item.recorded_by, streams)
    except ValueError as error:
        return str(error)
    return ""


def _frame(item: BagItem, number: int, color: Any, depth: Any, by: RecordedBy, *, paired: bool) -> list[Outcome]:
    frame = f"{number:06d}"
    id = f"{item.id}/{frame}"
    if not item.people(frame):
        return [Skipped(id, NO_LINE)]
    if paired and (color is None or depth is None):
        return [Skipped(id, ALONE)]
    try:
        rgb = None if color is None else ros_messages.color_picture(color)
        stored = None if depth is None else ros_messages.depth_picture(depth)
    except ValueError as error:
        return [Rejected(id, str(error))]
    return frame_records(item, frame, rgb, stored, by)
