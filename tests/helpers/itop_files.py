"""ITOP as it is published, a few frames of it: HDF5 files of depth and labels, and A2J's MATLAB file of boxes, of
synthetic people.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from hcmoco.data.codecs import decode_depth
from hcmoco.data.skeletons import convert
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person

HEIGHT, WIDTH, CONSTANT = 240, 320, 0.0035
WALL = 4.5


@dataclass(frozen=True)
class Frames:
    """What lies in the files, in the order of the label file.

    Attributes:
        ids: bytes [N].
        depth: float16 [N, 240, 320], meters; a wall behind the person.
        valid: uint8 [N]; xy: int16 [N, 15, 2]; world: float16 [N, 15, 3], y up; visible: int16 [N, 15].
        boxes: float32 [valid frames, 4].
    """

    ids: np.ndarray
    depth: np.ndarray
    valid: np.ndarray
    xy: np.ndarray
    world: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray


@cache
def frames(count: int = 12, seed: int = 3) -> Frames:
    """`count` people in front of ITOP's camera; every third frame is not valid. The same arrays each time: not to be
    changed.
    """
    config = PeopleConfig(size=128, seed=seed)
    depth = np.full((count, HEIGHT, WIDTH), WALL, np.float16)
    world = np.zeros((count, 15, 3), np.float16)
    xy = np.zeros((count, 15, 2), np.int16)
    boxes = np.zeros((count, 4), np.float32)
    for number in range(count):
        person = make_person(config, number, dataset="people", split="train")
        joints = convert(np.pad(person.joints3d, ((0, 0), (0, 1)), constant_values=1), "people-31", "itop-15")[:, :3]
        depth[number], world[number], boxes[number] = _seen_by_itop(person, joints)
        z = world[number, :, 2].astype(float)
        u, v = world[number, :, 0] / (z * CONSTANT) + 160, 120 - world[number, :, 1] / (z * CONSTANT)
        xy[number] = np.rint(np.column_stack([u, v]))
    inside = ((xy >= 0) & (xy < (WIDTH, HEIGHT))).all(-1)
    valid = (np.arange(count) % 3 != 2).astype(np.uint8)
    ids = np.array([f"{number // 5:02d}_{53 + 2 * number:05d}" for number in range(count)], "S8")
    return Frames(ids, depth, valid, xy, world, inside.astype(np.int16), boxes[valid == 1])


def _seen_by_itop(person, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The person moved to 3.6 m before ITOP's camera: meters [240, 320], joints [15, 3] with y up, and the person's
    box.
    """
    meters = decode_depth(person.depth, DEPTH_CODEC) / 1000
    away = 3.6 - float(np.median(meters[meters > 0]))
    fx, fy, cx, cy = person.camera
    v, u = np.mgrid[: person.size, : person.size] + 0.5
    on = meters > 0
    points = np.stack([(u[on] - cx) / fx * meters[on], (v[on] - cy) / fy * meters[on], meters[on]], -1)
    # The middle of what is seen, before the camera; and away.
    shift = np.array([*-np.median(points[:, :2], 0), away])
    points, joints = points + shift, joints + shift
    # The published maps are made like this: from points, at the pixel whose number is nearest.
    column = np.rint(points[:, 0] / (points[:, 2] * CONSTANT) + 160).astype(int)
    row = np.rint(points[:, 1] / (points[:, 2] * CONSTANT) + 120).astype(int)
    shown = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    seen = np.full((HEIGHT, WIDTH), np.inf)
    np.minimum.at(seen, (row[shown], column[shown]), points[shown, 2])
    # Points are sparser than pixels here and there: holes inside the person take their neighbours' depth.
    hole = ~np.isfinite(seen)
    closed = cv2.morphologyEx((~hole).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    near = -cv2.dilate(-np.where(hole, 1e3, seen), np.ones((5, 5)))
    result = np.full((HEIGHT, WIDTH), WALL)
    result[~hole] = seen[~hole]
    filled = hole & closed & (near < 100)
    result[filled] = near[filled]
    ys, xs = np.nonzero(result < WALL)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    return result.astype(np.float16), (joints * (1, -1, 1)).astype(np.float16), box


def write_split(
    folder: Path, split: str, content: Frames, *, order: np.ndarray | None = None, ids: bool = True, **storage
) -> None:
    """The two files of a split; `order` is that of the depth file's rows, `storage` goes to its data set, e.g. chunks
    and compression.
    """
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    order = np.arange(len(content.ids)) if order is None else order
    with h5py.File(folder / f"ITOP_side_{split}_depth_map.h5", "w") as file:
        file.create_dataset("data", data=content.depth[order], **storage)
        if ids:
            file.create_dataset("id", data=content.ids[order])
    with h5py.File(folder / f"ITOP_side_{split}_labels.h5", "w") as file:
        file.create_dataset("is_valid", data=content.valid)
        file.create_dataset("image_coordinates", data=content.xy)
        file.create_dataset("real_world_coordinates", data=content.world)
        file.create_dataset("visible_joints", data=content.visible)
        file.create_dataset(
            "segmentation", data=np.full((len(content.ids), HEIGHT, WIDTH), -1, np.int8), compression="gzip"
        )
        if ids:
            file.create_dataset("id", data=content.ids)


def write_boxes(folder: Path, boxes: np.ndarray) -> None:
    """A2J's file of test boxes."""
    from scipy.io import savemat

    savemat(folder / "itop_side_bndbox_test.mat", {"FRbndbox_test": boxes.astype(np.float64)})
