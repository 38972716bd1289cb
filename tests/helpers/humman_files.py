"""HuMMan-Recon's files as its toolbox describes them: a person-sized box, seen by two Kinects."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from hcmoco.data import codecs
from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.registration import Rig
from tests.helpers.rgbd_scene import hit, pixels, seen_by_depth, turned

SEQUENCE = "p000455_a000986"
COLOR = Camera(160, 90, 75.2, 75.4, 80.1, 44.6)
DEPTH = Camera(640, 576, 252.3, 252.5, 322.0, 290.5)
RIG = Rig(DEPTH, COLOR, tuple(float(each) for each in turned(5.9, -0.1, 0.1).ravel()), (-32.0, -2.1, 3.9))


@cache
def seen() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint16 [576, 640], millimeters, of the box alone; uint8 [90, 160, 3], where the box is red; its mask, 255."""
    depth = np.rint(seen_by_depth(RIG)).astype(np.uint16)
    rotation, translation = np.array(RIG.rotation).reshape(3, 3), np.array(RIG.translation_mm)
    rays = COLOR.rays(pixels(COLOR))
    directions, origin = np.column_stack([rays, np.ones(len(rays))]) @ rotation, -rotation.T @ translation
    z = hit(origin, directions) * directions[:, 2] + origin[2]
    box = (np.abs(z - 1800) < 1).reshape(COLOR.height, COLOR.width)
    rgb = np.full((*box.shape, 3), 120, np.uint8)
    rgb[box] = (230, 30, 30)
    return np.where(np.abs(depth.astype(int) - 1800) < 60, depth, 0).astype(np.uint16), rgb, np.uint8(255) * box


def cameras(kinects: int = 2) -> dict:
    """cameras.json: each Kinect's depth camera is placed somewhere in the world; the color camera is beside it."""
    found = {}
    between, move = np.array(RIG.rotation).reshape(3, 3), np.array(RIG.translation_mm) / 1000
    for kinect in range(kinects):
        rotation, translation = turned(3, 36 * kinect, -2), np.array([0.3, -1.1, 2.5 + kinect])
        for kind, camera, r, t in (
            ("depth", DEPTH, rotation, translation),
            ("color", COLOR, between @ rotation, between @ translation + move),
        ):
            matrix = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
            found[f"kinect_{kind}_{kinect:03d}"] = {"K": matrix, "R": r.tolist(), "T": t.tolist()}
    return found


def write_humman(root: Path, frames: tuple[int, ...] = (0,), kinects: int = 2) -> None:
    """One sequence."""
    depth, rgb, mask = seen()
    for kinect in range(kinects):
        for frame in frames:
            for folder, data in (
                ("kinect_color", codecs.encode_png(rgb)),
                ("kinect_depth", codecs.encode_depth(depth, "png16")),
                ("kinect_mask", codecs.encode_labels(mask)),
            ):
                path = root / SEQUENCE / folder / f"kinect_{kinect:03d}" / f"{frame:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    (root / SEQUENCE / "cameras.json").write_text(json.dumps(cameras(kinects)))
