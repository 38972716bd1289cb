"""Predict the joints of people on depth images: meters in the camera's frame, and pixels of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hcmoco.errors import UserError
from hcmoco.inference.adapter import ImageResult, ImageTransform, PredictOptions, PreparedImage, draw_box, rounded
from hcmoco.inference.coco import CocoForm, keypoint_form, keypoint_result
from hcmoco.inference.person import PersonAdapter
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.pose.sheet import draw_skeleton, side_legend, side_view
from hcmoco.tasks.pose.task import PoseBatch, PoseTask
from hcmoco.visualization.sheet import depth_colors

_SIDES = 3  # people that are also drawn from the side


class PoseAdapter(PersonAdapter):
    """The adapter of `pose`."""

    task: PoseTask

    def __init__(self, task: PoseTask, options: PredictOptions):
        super().__init__(task, options)
        if options.camera is None:
            raise UserError(
                "pose needs the depth camera: --camera fx,fy,cx,cy, focal lengths and center in pixels of the whole "
                "picture, for example --camera 365.5,365.5,256.3,208.5"
            )

    def make_batch(self, row: dict, transform: ImageTransform) -> PoseBatch:
        del transform
        batch = self.task.make_batch([row], None)
        if not batch.mean[0]:
            raise ValueError("nothing of the person is left in the crop: no reading is near the middle of the box")
        return batch

    def draw_input(self, image: np.ndarray) -> np.ndarray:
        return depth_colors(image)

    def to_result(self, prepared: PreparedImage, predictions: Sequence[Prediction]) -> ImageResult:
        people, sides, coco = list[dict[str, Any]](), list[np.ndarray](), list[dict[str, Any]]()
        front = (prepared.shown * 0.45).astype(np.uint8)
        zoom_2 = np.array(prepared.shown.shape[1::-1]) / (prepared.width, prepared.height)
        for prediction, transform, known in zip(predictions, prepared.transforms, prepared.known, strict=True):
            facts = {key: value for key, value in known.items() if key != "row_side"}
            xy_J2, xyz_J3 = transform.to_picture(prediction["joints2d"]), np.asarray(prediction["joints3d"], np.float64)
            people.append({**facts, "joints2d": rounded(xy_J2), "joints3d": rounded(xyz_J3, 4)})
            draw_box(front, facts["box"], (prepared.width, prepared.height))
            drawn_J = np.isfinite(xyz_J3).all(1) & np.isfinite(xy_J2).all(1)
            draw_skeleton(front, xy_J2 * zoom_2, drawn_J, self.task.joints)
            sides.append(side_view(xyz_J3, drawn_J, self.task.joints, len(front)))
            coco.append(keypoint_result(np.where(drawn_J[:, None], xy_J2, np.nan), len(coco), facts.get("score", 1.0)))
        return ImageResult(people, {}, front, sides[:_SIDES], coco)

    def legend(self, width: int) -> np.ndarray:
        return side_legend(width)

    @property
    def coco(self) -> CocoForm:
        return keypoint_form(self.task.joints)

    def facts(self) -> dict[str, Any]:
        return {
            "joint_names": list(self.task.joints.joints),
            "joints2d": "x, y in pixels of the picture",
            "joints3d": "x (right), y (down), z (forward) in meters from the camera",
            "camera": list(self.options.camera or ()),
        }
