"""What a detector of people and joints is to the rest of the project.

Shapes: H, W of a picture, K people, J joints.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Detected:
    """One person that was found in a picture.

    Attributes:
        box: float64 [4], x0, y0, x1, y1 in pixels of the picture, whose upper left corner is 0, 0.
        score: confidence that this is a person, 0 to 1.
        joints: float64 [J, 3], x and y in the same pixels, so that the first pixel's center is (0.5, 0.5), and the
            confidence of the joint, 0 to 1.
    """

    box: np.ndarray
    score: float
    joints: np.ndarray


class Detector(Protocol):
    """Finds people and their joints."""

    @property
    def num_joints(self) -> int:
        """Return the number of joints of a person."""

    @property
    def finds_people(self) -> bool:
        """Return whether it finds people by itself; else it is told where each is (a top-down model)."""

    @property
    def takes_boxes(self) -> bool:
        """Return whether it can be told where people are."""

    def detect(self, rgb: np.ndarray, boxes: np.ndarray | None = None) -> list[Detected]:
        """Return the people of a picture, those of the highest scores first.

        Args:
            rgb: uint8 [H, W, 3], RGB.
            boxes: float [K, 4], x0, y0, x1, y1 in pixels, of the people whose joints are asked for, by one that
                `takes_boxes`: they come in this order then, each with the score 1. None: the people are found, by one
                that `finds_people`.

        Raises:
            ValueError: the model's output cannot be what it is read as.
        """


@dataclass(frozen=True)
class Model:
    """What a file of weights is, as far as the file itself says.

    Attributes:
        kind: what it is called in messages, e.g. "Keypoint R-CNN".
        num_joints: of a person.
        joint_set: name of the set that the file says its joints are; "": it does not say.
        finds_people: see `Detector`.
        min_confidence: from which confidence on a joint counts, where the user does not choose.
        min_score: the same of a person; 0 for a model that is told who is there.
        whose: whose defaults these are.
        sha256: of the file.
    """

    kind: str
    num_joints: int
    joint_set: str
    finds_people: bool
    min_confidence: float
    min_score: float
    whose: str
    sha256: str
