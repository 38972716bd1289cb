"""NTU RGB+D as its release has it, written from synthetic people: what is true of every frame is known.

A clip's person stands as it was rendered and slides over the picture from frame to frame, so that a frame that is taken
for its neighbor shows. Pictures are mirrored as Kinect's are. Each (setup, camera) has a rig of its own: two pinhole
cameras 5 cm apart, a little turned.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from hcmoco.data.skeletons import convert
from hcmoco.rng import make_rng
from hcmoco.synthetic import PeopleConfig, render_person

WIDTH, HEIGHT = 512, 424
SLIDE = 1.5  # pixels of the depth picture per frame
STRANGER = 72057594037930000
_SIZE = 192


@dataclass(frozen=True)
class Rig:
    """The two cameras of one Kinect; pixels count from 0 at the center of the first, on mirrored pictures.

    Attributes:
        camera: fx, fy, cx, cy of the depth picture. matrix: [3, 4], color ~ matrix @ [x, y, 1, 1 / z].
    """

    camera: np.ndarray
    matrix: np.ndarray

    def color(self, xy_N2: np.ndarray, z_N: np.ndarray) -> np.ndarray:
        flat = np.column_stack([xy_N2, np.ones(len(xy_N2)), 1 / z_N]) @ self.matrix.T
        return flat[:, :2] / flat[:, 2:]


def rig(setup: int, camera: int) -> Rig:
    rng = make_rng(0, "rig", setup, camera)
    focal, cx, cy = 366 + rng.uniform(-2, 2), 256 + rng.uniform(-6, 6), 208 + rng.uniform(-4, 4)
    depth = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    color = np.array([[1060 + rng.uniform(-5, 5), 0, 960], [0, 1060, 540], [0, 0, 1]])
    turned = cv2.Rodrigues(rng.uniform(-0.02, 0.02, 3))[0]
    apart = np.array([0.052, 0.001, 0.001])
    return Rig(
        np.array([focal, focal, cx, cy]), np.column_stack([color @ turned @ np.linalg.inv(depth), color @ apart])
    )


@dataclass(frozen=True)
class Clip:
    """What a clip shall hold.

    Attributes:
        bodies: number of bodies of a frame where it is not 1. lost: joints of a frame whose numbers are NaN; zeros:
            those whose line is all zeros.
        shift: the color positions in its skeleton file lie this many pixels off, as if the camera had been knocked.
    """

    tag: str
    frames: int = 20
    person: int = 0
    bodies: dict[int, int] = field(default_factory=dict)
    lost: dict[int, tuple[int, ...]] = field(default_factory=dict)
    zeros: dict[int, tuple[int, ...]] = field(default_factory=dict)
    shift: float = 0.0

    @property
    def rig(self) -> Rig:
        return rig(int(self.tag[1:4]), int(self.tag[5:8]))


@dataclass(frozen=True)
class Truth:
    """One frame, not mirrored, a pixel's center at +0.5: rgb [424, 512, 3], depth [424, 512] mm, keypoints [25, 3] with
    visibility 0 where it is only inferred, joints3d [25, 3], camera [4].
    """

    rgb: np.ndarray
    depth: np.ndarray
    keypoints: np.ndarray
    joints3d: np.ndarray
    camera: np.ndarray


@cache
def _rendered(person: int):
    return render_person(PeopleConfig(size=_SIZE, seed=11), person)


def truth(clip: Clip, number: int) -> Truth:
    """Frame `number`, counted from 1."""
    person = _rendered(clip.person)
    fx, fy, cx, cy = clip.rig.camera
    camera = np.array([fx, fy, WIDTH - (cx + 0.5), cy + 0.5])
    zoom = fx / person.camera[0]
    slide = SLIDE * (number - clip.frames / 2)
    corner = camera[2:] - zoom * person.camera[2:] + (slide, 0)
    keypoints = convert(person.keypoints, "people-31", "kinect-25").astype(float)
    keypoints[:, :2] = keypoints[:, :2] * zoom + corner
    joints3d = convert(np.column_stack([person.joints3d, np.ones(31)]), "people-31", "kinect-25")[:, :3].astype(float)
    joints3d[:, 0] += slide / fx * joints3d[:, 2]

    def placed(image: np.ndarray, how: int, border: int) -> np.ndarray:
        # OpenCV counts from 0 at a pixel's center.
        affine = np.array([[zoom, 0, corner[0] + 0.5 * zoom - 0.5], [0, zoom, corner[1] + 0.5 * zoom - 0.5]])
        return cv2.warpAffine(image, affine, (WIDTH, HEIGHT), flags=how, borderMode=border)

    rgb = placed(person.rgb, cv2.INTER_CUBIC, cv2.BORDER_REFLECT)
    depth = placed(person.depth, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return Truth(rgb, depth, keypoints, joints3d, camera)


def color_picture(clip: Clip, seen: Truth, width: int) -> np.ndarray:
    """uint8 [h, width, 3] BGR, what the color camera sees: everything as far away as the person's skin."""
    plane = clip.rig.matrix[:, :3].copy()
    plane[:, 2] += clip.rig.matrix[:, 3] / (np.median(seen.depth[seen.depth > 0]) / 1000)
    scale = width / 1920
    to_video = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    mirrored = np.ascontiguousarray(seen.rgb[:, ::-1, ::-1])
    return cv2.warpPerspective(
        mirrored, to_video @ plane, (width, width * 9 // 16), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def skeleton_lines(clip: Clip, seen: Truth, number: int) -> list[str]:
    """The lines of one frame of a skeleton file."""
    count = clip.bodies.get(number, 1)
    lines = [str(count)]
    for body in range(count):
        moved = seen.joints3d * (-1, -1, 1) + (body * 0.7, 0, 0)  # x to the sensor's left, y up
        fx, fy, cx, cy = clip.rig.camera
        depth_xy = np.column_stack([cx + fx * moved[:, 0] / moved[:, 2], cy - fy * moved[:, 1] / moved[:, 2]])
        color_xy = clip.rig.color(depth_xy, moved[:, 2]) + clip.shift
        lines.append(f"{STRANGER + body} 0 1 1 1 1 0 0.01 -0.2 2")
        lines.append("25")
        values = np.column_stack([moved, depth_xy, color_xy, np.tile([0.1, -0.2, 0.3, 0.9], (25, 1))])
        if body == 0:
            values[list(clip.lost.get(number, ()))] = np.nan
            values[list(clip.zeros.get(number, ()))] = 0
        for joint, row in enumerate(values):
            lines.append(
                " ".join(f"{value:.7g}" for value in row) + f" {(1 + int(seen.keypoints[joint, 2])) * bool(row.any())}"
            )
    return lines


def write_clip(root: Path, clip: Clip, *, width: int = 1920, codec: str = "XVID") -> None:
    """The three files of a clip below `root`, in the layout of the release."""
    for name in ("nturgb+d_rgb", "nturgb+d_skeletons", f"nturgb+d_depth_masked/{clip.tag}"):
        (root / name).mkdir(parents=True, exist_ok=True)
    video = str(root / "nturgb+d_rgb" / f"{clip.tag}_rgb.avi")
    writer = cv2.VideoWriter(video, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 30, (width, width * 9 // 16))
    assert writer.isOpened()
    lines = [str(clip.frames)]
    for number in range(1, clip.frames + 1):
        seen = truth(clip, number)
        writer.write(color_picture(clip, seen, width))
        lines += skeleton_lines(clip, seen, number)
        depth = np.ascontiguousarray(seen.depth[:, ::-1]) * (clip.bodies.get(number, 1) > 0)
        data = cv2.imencode(".png", depth.astype(np.uint16))[1].tobytes()
        (root / "nturgb+d_depth_masked" / clip.tag / f"MDepth-{number:08d}.png").write_bytes(data)
    writer.release()
    (root / "nturgb+d_skeletons" / f"{clip.tag}.skeleton").write_bytes("\r\n".join([*lines, ""]).encode())


def write(root: Path, clips: list[Clip], **options) -> None:
    """A data set of these clips."""
    for clip in clips:
        write_clip(root, clip, **options)
