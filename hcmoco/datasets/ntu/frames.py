"""Single frames of clips that a list names, whatever their action: RGB registered onto depth, mirrored as stored."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hcmoco.data.codecs import decode_depth
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.io import video
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.ntu.calibration import NEAR, Calibration, calibrations, with_calibrations
from hcmoco.datasets.ntu.clip import registered
from hcmoco.datasets.ntu.config import HEIGHT, WIDTH, NtuConfig
from hcmoco.datasets.ntu.layout import NtuItem, depth_name, items


def download_clips(source: str, frames: Sequence[str]) -> list[NtuItem | Rejected | Skipped]:
    """List the clips of frames in a download.

    Args:
        source: folder of the download, as `NtuConfig.source`.
        frames: names such as S001C001P001R001A001F060.

    Returns:
        The clips, without registration.

    Raises:
        UserError: the download lacks a kind of files, or has none of the clips.
    """
    if not frames:
        return []
    numbers = {frame[1:4] for frame in frames}, {frame[17:20] for frame in frames}
    setups, actions = (tuple(sorted(map(int, each))) for each in numbers)
    tags = {f"ntu/{frame[:20]}" for frame in frames}
    config = NtuConfig(source=source, setups=setups, actions=actions, two_person_actions=True)
    return [item for item in items(config) if item.id in tags]


def registrations(clips: Iterable[NtuItem | None]) -> dict[str, Calibration]:
    """Return the registrations to measure for the clips of frames, see `calibrations`; none without a clip."""
    found = {clip.id: clip for clip in clips if clip}
    return calibrations(next(iter(found.values())).config, list(found.values())) if found else {}


def with_registrations(
    clips: Iterable[NtuItem | None], results: Mapping[str, dict]
) -> dict[str, NtuItem | Rejected | Skipped]:
    """Return the clips of frames with their registration, by id, see `with_calibrations`."""
    found = {clip.id: clip for clip in clips if clip}
    if not found:
        return {}
    config = next(iter(found.values())).config
    return {each.id: each for each in with_calibrations(config, list(found.values()), results)}


def check_frames(found: Inventory, clips: Sequence[tuple[NtuItem, int]]) -> None:
    """Check the files of frames, given as clip and number: videos, skeleton files and depth pictures."""
    kinds = {
        "RGB videos": (lambda clip, _: (clip.rgb, f"{clip.tag.text}_rgb.avi"), ("AVI",)),
        "skeleton files": (lambda clip, _: (clip.skeletons, f"{clip.tag.text}.skeleton"), ()),
        "depth pictures": (lambda clip, number: (clip.depth, depth_name(clip.tag, number)), ("PNG",)),
    }
    for what, (place, formats) in kinds.items():
        places = dict.fromkeys(place(clip, number) for clip, number in clips)
        for folder in sorted({folder for folder, _ in places}):
            found.check_files(what, folder, [name for each, name in places if each == folder], *formats)


def registered_frame(item: NtuItem, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB uint8 [424, 512, 3], registered onto depth, and depth uint16 [424, 512], mm; both mirrored as stored.

    Args:
        item: the clip, with its registration.
        number: of the frame, counted from 1.

    Raises:
        ValueError: a file is missing or damaged, or depth shows nobody.
    """
    depth = decode_depth(read_inside(item.depth, depth_name(item.tag, number)), "png16")
    if depth.shape != (HEIGHT, WIDTH):
        raise ValueError(
            f"the depth picture is {depth.shape[1]} x {depth.shape[0]} pixels, Kinect's are {WIDTH} x {HEIGHT}"
        )
    if not depth.any():
        raise ValueError("the depth picture has no reading")
    distance = max(float(np.median(depth[depth > 0])) / 1000, NEAR)
    for _, image in video.frames(item.rgb, f"{item.tag.text}_rgb.avi", [number]):
        return registered(image, np.array(item.matrix).reshape(3, 4), distance)[:, ::-1], depth
    raise ValueError("the video has no such frame, or ends before it is whole")
