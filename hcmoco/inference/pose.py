"""Joints of people on depth pictures: metres in the camera's frame, and pixels of the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hcmoco.errors import UserError
from hcmoco.inference.adapter import Answer, Asked, Asking, Place, draw_box, numbers
from hcmoco.inference.person import PersonView
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.pose.sheet import depth_colors, draw_skeleton, side_view
from hcmoco.tasks.pose.task import PoseBatch, PoseTask

_SIDES = 3  # people that are also drawn from the side


class JointsView(PersonView):
    """`pose`."""

    task: PoseTask

    def __init__(self, task: PoseTask, asking: Asking):
        super().__init__(task, asking)
        if asking.camera is None:
            raise UserError(
                "pose needs the depth camera: --camera fx,fy,cx,cy, focal lengths and centre in pixels of the whole picture, "
                "for example --camera 365.5,365.5,256.3,208.5"
            )

    def make_batch(self, row: dict, place: Place) -> PoseBatch:
        del place
        batch = self.task.make_batch([row], None)
        if not batch.mean[0]:
            raise ValueError("nothing of the person is left in the crop: no reading is near the middle of the box")
        return batch

    def draw_input(self, image: np.ndarray) -> np.ndarray:
        return depth_colors(image)

    def answer(self, asked: Asked, predictions: Sequence[Prediction]) -> Answer:
        people, front, sides = [], (asked.drawn * 0.45).astype(np.uint8), []
        zoom_2 = np.array(asked.drawn.shape[1::-1]) / (asked.width, asked.height)
        for prediction, place, known in zip(predictions, asked.places, asked.known, strict=True):
            facts = {key: value for key, value in known.items() if key != "row_side"}
            xy_J2, xyz_J3 = place.to_picture(prediction["joints2d"]), np.asarray(prediction["joints3d"], np.float64)
            people.append({**facts, "joints2d": numbers(xy_J2), "joints3d": numbers(xyz_J3, 4)})
            draw_box(front, facts["box"], (asked.width, asked.height))
            drawn_J = np.isfinite(xyz_J3).all(1) & np.isfinite(xy_J2).all(1)
            draw_skeleton(front, xy_J2 * zoom_2, drawn_J, self.task.joints)
            sides.append(side_view(xyz_J3, drawn_J, self.task.joints, len(front)))
        return Answer(people, {}, np.concatenate([asked.drawn, front, *sides[:_SIDES]], axis=1))

    def facts(self) -> dict[str, Any]:
        return {
            "joint_names": list(self.task.joints.joints),
            "joints2d": "x, y in pixels of the picture",
            "joints3d": "x (right), y (down), z (forward) in metres from the camera",
            "camera": list(self.asking.camera or ()),
        }
