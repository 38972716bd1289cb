"""HuMMan-Recon: color, depth and masks of one person, seen by ten Azure Kinects; no joints.

Layout: "Data Structure" and "cameras.json" in humman_recon/README.md of github.com/caizhongang/humman_toolbox:

    p000455_a000986/kinect_color/kinect_000/000000.png     RGB; every sixth frame has a file
    p000455_a000986/kinect_depth/kinect_000/000000.png     16 bits, 640 x 576
    p000455_a000986/kinect_mask/kinect_000/000000.png      of color, above 0 on the person; also kinect_mask_manual/
    p000455_a000986/cameras.json                           "kinect_color_000", "kinect_depth_000": K, R and T

Cameras are pinholes in OpenCV's convention; R and T take points of the world to the camera. Two units follow from what
humman_recon/tools/visualizer_3d.py does: depth is in millimeters (it goes to Open3D's create_from_depth_image with the
default scale of 1000), T in meters (SMPL's vertices, which are meters, are moved by it). So depth is registered to
color. Depth off the mask is dropped.

Joints are given as SMPL parameters alone, which need a body model of other terms: they are not read. HuMMan-Point,
whose color is in videos, is not read either: see docs/data/humman.md.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, FiniteFloat

from hcmoco import unique_keys
from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec
from hcmoco.data.depth_masking import MASKED
from hcmoco.data.depth_units import FURTHEST_MM, in_millimeters, rounded
from hcmoco.data.schema import Person
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.cameras.camera_file import CameraConfig, DepthToColor
from hcmoco.datasets.cameras.registration import Rig, register_depth
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.datasets.person_files import find_box, read_person_files
from hcmoco.datasets.recorded_person import check_depth_in_box
from hcmoco.errors import UserError

CAMERAS = "cameras.json"
DEPTH_SIZE = (640, 576)
_SEQUENCE = re.compile(r"(p\d{6})_a\d{6}")
_KINECT = re.compile(r"kinect_\d{3}")
_FRAME = re.compile(r"\d{6}\.png")
_Row = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_Matrix = tuple[_Row, _Row, _Row]


class HummanConfig(Config):
    """Where HuMMan-Recon is and what of it is read."""

    source: str = Field(".", description="folder with the sequences, such as p000455_a000986")
    kinects: tuple[int, ...] = Field((), description="only these Kinects, for example 0,5; none given: all")
    mask: Literal["kinect_mask", "kinect_mask_manual"] = Field(
        "kinect_mask", description="folder of the masks: kinect_mask, or kinect_mask_manual (of the test split alone)"
    )
    split: str = Field("train", min_length=1, description="written into the rows; the folder says nothing of splits")
    stride: int = Field(1, ge=1, description="every so many of a Kinect's frames one is read")
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")


class _Placed(Config):
    """One camera of cameras.json."""

    K: _Matrix
    R: _Matrix
    T: _Row


@dataclass(frozen=True)
class HummanItem:
    """What one Kinect saw at one moment; not read yet.

    Attributes:
        id: `humman/<sequence>/<kinect>/<frame, 6 digits>`.
        source, sequence, kinect, frame: which files; `frame` is their name.
        config: of the reader.
    """

    id: str
    source: str
    sequence: str
    kinect: str
    frame: str
    config: HummanConfig

    def path(self, folder: str) -> str:
        """Return a file of the moment, below `source`; `folder` is kinect_color and so on."""
        return f"{self.sequence}/{folder}/{self.kinect}/{self.frame}"


def items(config: HummanConfig) -> list[HummanItem | Rejected]:
    """List the frames by sequence, Kinect and number: all for which color or depth has a file.

    Raises:
        UserError: the folder is missing, holds no sequence, or is of HuMMan-Point.
    """
    root = Path(config.source)
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give the folder with HuMMan-Recon's sequences")
    sequences = sorted(each.name for each in os.scandir(root) if each.is_dir() and _SEQUENCE.fullmatch(each.name))
    found: list[HummanItem | Rejected] = []
    seen: set[str] = set()
    for sequence in sequences:
        color, depth = (root / sequence / name for name in ("kinect_color", "kinect_depth"))
        names = _names(color)
        if video := next((name for name in names if name.endswith(".mp4")), None):
            raise UserError(
                f"{color / video} is a video, so this is HuMMan-Point, which is not read: its frames are counted from "
                "0 in depth and from 1 where its video_splitter.py saved color; take HuMMan-Recon, whose color is "
                "pictures"
            )
        kinects = sorted(filter(_KINECT.fullmatch, {*names, *_names(depth)}))
        seen |= {*kinects}
        for kinect in kinects:
            if config.kinects and int(kinect[-3:]) not in config.kinects:
                continue
            frames = sorted({*filter(_FRAME.fullmatch, [*_names(color / kinect), *_names(depth / kinect)])})
            found += [
                HummanItem(f"humman/{sequence}/{kinect}/{frame[:6]}", config.source, sequence, kinect, frame, config)
                for frame in frames[:: config.stride]
            ]
    there = sorted({int(kinect[-3:]) for kinect in seen})
    if there and (missing := [number for number in config.kinects if number not in there]):
        raise UserError(
            f"--kinects {missing[0]}: {root} has {', '.join(map(str, there))}; choose among them, or leave it out"
        )
    if not found:
        raise UserError(
            f"{root} holds no frame of HuMMan-Recon; expected are "
            "p000455_a000986/kinect_color/kinect_000/000000.png and so on: unpack its archives there"
        )
    return found


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def inventory(config: HummanConfig) -> Inventory:
    """Check the pictures and cameras of all frames."""
    found = Inventory()
    frames = [each for each in items(config) if isinstance(each, HummanItem)]
    for what, folder in (("RGB", "kinect_color"), ("depth", "kinect_depth"), ("mask", config.mask)):
        found.check_files(f"{what} pictures", config.source, [each.path(folder) for each in frames], "PNG")
    for sequence in dict.fromkeys(each.sequence for each in frames):
        try:
            for kinect in dict.fromkeys(each.kinect for each in frames if each.sequence == sequence):
                _cameras(config.source, sequence, kinect)
        except ValueError as error:
            found.faults.append(Fault(str(Path(config.source) / sequence / CAMERAS), str(error)))
    found.counts["sequences"] = len({each.sequence for each in frames})
    return found


def read(item: HummanItem | Rejected) -> Person | Rejected:
    """Return the record of a frame; Rejected if a file is missing, damaged or of another convention."""
    if isinstance(item, Rejected):
        return item
    return checked(item.id, 0, lambda: _person(item), item.config.depth_codec)


def _person(item: HummanItem) -> Person:
    config = item.config
    placed = _cameras(item.source, item.sequence, item.kinect)
    files = {"rgb": "kinect_color", "depth": "kinect_depth", "mask": config.mask}
    pictures = read_person_files(
        {name: (item.source, item.path(folder)) for name, folder in files.items()}, upright=False
    )
    rgb, stored, mask = pictures.rgb, pictures.stored_depth, pictures.mask
    assert rgb is not None and stored is not None and mask is not None  # noqa: PT018  all three were asked for
    if stored.shape != DEPTH_SIZE[::-1]:
        raise ValueError(
            f"the depth picture is {stored.shape[1]} x {stored.shape[0]} pixels; HuMMan's are {DEPTH_SIZE[0]} x "
            f"{DEPTH_SIZE[1]}, which their cameras are of"
        )
    rig = _rig(placed, rgb.shape[1::-1])
    depth = register_depth(in_millimeters(stored, "mm"), rig)
    PersonImages(rgb=rgb, mask=mask).width_height  # noqa: B018  raises where they differ in size
    depth = np.where(mask > 0, depth, 0.0)
    camera = rig.color.record_camera
    box = find_box(mask, None, depth, rgb)
    fix = "look at the files, since HuMMan's are in mm and these seem to be in {unit}"
    check_depth_in_box(depth, "mm", fix, box, camera, shown=True, whole=True)
    subject = _SEQUENCE.fullmatch(item.sequence)
    person = Person(
        item.id,
        "humman",
        config.split,
        config.size,
        subject=subject[1] if subject else "",
        camera=np.array(camera),
        box=box,
    )
    images = PersonImages(rgb=rgb, depth=rounded(depth, FURTHEST_MM), mask=mask)
    return crop_person(person, images, config.depth_codec)


def _cameras(source: str, sequence: str, kinect: str) -> tuple[_Placed, _Placed]:
    """The color and the depth camera of a Kinect. ValueError: cameras.json is missing or lacks them."""
    name = f"{sequence}/{CAMERAS}"
    try:
        values = unique_keys.loads(read_inside(source, name).decode())
        color, depth = (values[kinect.replace("kinect_", f"kinect_{kind}_")] for kind in ("color", "depth"))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} lacks the cameras of {kinect}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    try:
        return build(_Placed, color, name), build(_Placed, depth, name)
    except UserError as error:
        raise ValueError(str(error)) from None


def _rig(placed: tuple[_Placed, _Placed], color_size: tuple[int, ...]) -> Rig:
    """Both cameras of a Kinect as they see each other. ValueError: they cannot be right."""
    color, depth = placed
    rotation = np.array(color.R) @ np.array(depth.R).T
    translation = np.array(color.T) - rotation @ np.array(depth.T)
    try:
        for each in placed:
            build(DepthToColor, {"rotation": each.R, "translation_m": (0.0, 0.0, 0.0)}, f"R in {CAMERAS}")
        given = {"rotation": tuple(map(tuple, rotation.tolist())), "translation_m": tuple(translation.tolist())}
        between = build(DepthToColor, given, f"color and depth of a Kinect in {CAMERAS}")
        depth_camera = build(CameraConfig, _intrinsics(depth.K, DEPTH_SIZE), CAMERAS).camera()
        color_camera = build(CameraConfig, _intrinsics(color.K, color_size), CAMERAS).camera()
    except UserError as error:
        raise ValueError(str(error)) from None
    return Rig(depth_camera, color_camera, tuple(rotation.ravel().tolist()), between.millimeters)


def _intrinsics(matrix: _Matrix, size: tuple[int, ...]) -> dict[str, float]:
    (fx, skew, cx), (a, fy, cy), last = matrix
    if (skew, a, *last) != (0, 0, 0, 0, 1):
        raise ValueError(f"K in {CAMERAS} must be fx 0 cx, 0 fy cy, 0 0 1, row by row")
    return {"width": size[0], "height": size[1], "fx": fx, "fy": fy, "cx": cx, "cy": cy}


READER = DatasetReader(
    HummanConfig,
    items,
    read,
    inventory,
    unit="frames",
    depth_codec=lambda config: config.depth_codec,
    depth_masking=MASKED,
)
