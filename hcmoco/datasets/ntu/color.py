"""Frames of a clip as the color camera sees them: without depth, joints lie where the skeleton file says in color.

Kinect's color picture is mirrored as its depth picture is. Both RGB and x of the joints are mirrored back here.
"""

import cv2
import numpy as np

from hcmoco.data.schema import Person
from hcmoco.datasets.ntu import skeleton_file
from hcmoco.datasets.ntu.config import COLOR_HEIGHT, COLOR_WIDTH
from hcmoco.datasets.ntu.layout import NtuItem
from hcmoco.datasets.person_crop import PersonImages, crop_person
from hcmoco.datasets.person_files import find_box


def color_keypoints(joints: skeleton_file.Joints) -> np.ndarray:
    """Return float64 [25, 3], x, y, visibility, in the unmirrored 1920 x 1080 picture; a pixel's center is at +0.5.

    Raises:
        ValueError: no joint is tracked inside the picture.
    """
    xy = joints.color_xy
    with np.errstate(invalid="ignore"):
        unmirrored = np.column_stack([COLOR_WIDTH - (xy[:, 0] + 0.5), xy[:, 1] + 0.5])
        # A joint that was not found is NaN in some files, a line of zeros in others.
        inside = xy.any(1) & (unmirrored >= 0).all(1) & (unmirrored < (COLOR_WIDTH, COLOR_HEIGHT)).all(1)
    visible = (joints.state > 0) & inside
    if not visible.any():
        raise ValueError("no joint is tracked inside the picture")
    return np.where(visible[:, None], np.column_stack([unmirrored, np.ones(len(xy))]), 0.0)


def color_person(item: NtuItem, id: str, keypoints: np.ndarray, image: np.ndarray) -> Person:
    """Return the record of one frame.

    Args:
        item: the clip.
        id: of the record.
        keypoints: of `color_keypoints`.
        image: uint8 [h, w, 3] BGR, the color picture or a smaller copy of it, mirrored.

    Raises:
        ValueError: the joints span no box.
    """
    rgb = cv2.cvtColor(np.ascontiguousarray(image[:, ::-1]), cv2.COLOR_BGR2RGB)
    keypoints = keypoints * (rgb.shape[1] / COLOR_WIDTH, rgb.shape[0] / COLOR_HEIGHT, 1)
    person = Person(**item.of_record(id), box=find_box(None, keypoints, None, rgb), keypoints=keypoints)
    return crop_person(person, PersonImages(rgb=rgb), item.config.depth_codec)
