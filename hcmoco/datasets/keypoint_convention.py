"""How keypoints are written, and a refusal, with what was probably meant, where they are written otherwise.

Shapes: J joints; a 3 is x, y and confidence as the file has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from hcmoco.config import Config
from hcmoco.datasets.conventions import inside

# Joints from which on "most of them" proves something.
_ENOUGH, _ENOUGH_IN_BOX = 3, 5
# Shares of a picture reach a little beyond it where a joint is guessed outside; no person is this few pixels large.
_LARGEST_SHARE = 1.5
# Detectors that do not end their scores in a sigmoid reach a little above 1.
_LARGEST_CONFIDENCE = 1.5
_SIZE_RATIOS = (1.25, 1.5, 2, 2.25, 2.5, 3, 3.75, 4, 5, 6, 7.5, 8, 10, 12, 16)


class KeypointOptions(Config):
    """How the keypoints of a file are written. What is not given is None, as in manifests from before these options."""

    min_confidence: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = Field(
        None,
        description="a joint is visible from this confidence on; default: the format's, which is printed and stands in "
        "the manifest",
    )
    full_confidence: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="the confidence that means certain: 100 where the tool writes percent; default: 1"
    )
    coordinates: Literal["pixels", "normalized"] | None = Field(
        None, description="pixels, or normalized: shares of the picture's width and height; default: the format's"
    )
    axes: Literal["xy", "yx"] | None = Field(None, description="which coordinate is first; yx: the row; default: xy")
    keypoint_size: tuple[int, int] | None = Field(
        None, description="width,height of the pictures that the keypoints were found in, if these have another size"
    )


@dataclass(frozen=True)
class Convention:
    """How the keypoints of a file are written, with the format's defaults filled in.

    Attributes:
        normalized: coordinates are shares of the picture, not pixels.
        offset: what is added to pixels: 0.5 where they count pixels' centers from 0.
        min_confidence: a joint is visible from it on, 0 to 1; a joint of confidence 0 never is.
        full_confidence: the confidence that means certain.
        swapped: the row is first.
        axes_known: the user says which is first.
        size: width and height of the picture that pixels belong to, or None: the picture's own.
    """

    normalized: bool = False
    offset: float = 0.0
    min_confidence: float = 0.0
    full_confidence: float = 1.0
    swapped: bool = False
    axes_known: bool = False
    size: tuple[int, int] | None = None

    @staticmethod
    def of(options: KeypointOptions, normalized: bool, offset: float) -> "Convention":
        """Return the convention of `options`; `normalized` and `offset` are the format's."""
        chosen = normalized if options.coordinates is None else options.coordinates == "normalized"
        return Convention(
            chosen,
            0.0 if chosen else offset,
            options.min_confidence or 0.0,
            options.full_confidence or 1.0,
            options.axes == "yx",
            options.axes is not None,
            options.keypoint_size,
        )

    def seen(self, joints_J3: np.ndarray) -> np.ndarray:
        """Return which joints are confident enough and have a place, bool [J]."""
        confidence_J = joints_J3[:, 2] / self.full_confidence
        return np.isfinite(joints_J3).all(1) & (confidence_J > 0) & (confidence_J >= self.min_confidence)

    def xy(self, xy_J2: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
        """Return points in pixels of the picture, a pixel's center at +0.5.

        Args:
            xy_J2: float [J, 2], as the file has them.
            picture: its width and height.
        """
        xy_J2 = xy_J2[:, ::-1] if self.swapped else xy_J2
        if self.normalized:
            return xy_J2 * picture
        scale = np.array(picture) / self.size if self.size else 1.0
        return (xy_J2 + self.offset) * scale

    def placed(self, joints_J3: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
        """Return joints in pixels of the picture; visibility 0 or 1, and 0, 0, 0 for what is absent or outside."""
        seen_J = self.seen(joints_J3)
        xy_J2 = self.xy(np.where(seen_J[:, None], joints_J3[:, :2], 0.0), picture)
        seen_J &= inside(xy_J2, *picture)
        return np.where(seen_J[:, None], np.column_stack([xy_J2, seen_J]), 0.0)


@dataclass(frozen=True)
class Misread:
    """Keypoints that cannot be what they are read as.

    Attributes:
        what: is seen in them.
        remedy: the option that helps.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def value_fault(people: Sequence[np.ndarray], convention: Convention) -> Misread | None:
    """Return why these values cannot be what the convention says, whatever the picture; None if they can.

    Args:
        people: each float [J, 3].
        convention: what they are read as.
    """
    joints = np.concatenate([np.empty((0, 3)), *people])
    joints = joints[np.isfinite(joints).all(1)]
    if not len(joints):
        return None
    highest = float(joints[:, 2].max()) / convention.full_confidence
    if highest > _LARGEST_CONFIDENCE:
        meant = 100 if highest > 10 else float(np.ceil(highest))
        what = "percent" if highest > 10 else "on another scale"
        return Misread(
            f"confidences reach {joints[:, 2].max():g}, and {convention.full_confidence:g} means certain; "
            f"they are {what}",
            f"give --full-confidence {meant * convention.full_confidence:g}",
        )
    if float(joints[:, 2].min()) < -0.5:
        return Misread(
            f"confidences reach down to {joints[:, 2].min():g}; they are scores without a scale (logits)",
            "write them as 0 to 1",
        )
    xy = joints[convention.seen(joints), :2]
    if not len(xy):
        return None
    low, high = float(xy.min()), float(xy.max())
    if not convention.normalized and max(-low, high) <= _LARGEST_SHARE:
        if low < -0.05:
            return Misread(
                f"all coordinates lie within {low:.3g} and {high:.3g}, as OpenPose's --keypoint_scale 4 writes them, "
                "and are read as pixels",
                "run it with --keypoint_scale 0",
            )
        return Misread(
            f"all coordinates lie within {low:.3g} and {high:.3g}, as shares of the picture do, and are read as pixels",
            "give --coordinates normalized",
        )
    if convention.normalized and float(np.median(np.abs(xy).max(1))) > 2:
        return Misread(
            f"coordinates reach {high:.4g}, as pixels do, and are read as shares of the picture, 0 to 1",
            "give --coordinates pixels",
        )
    return None


def exchanged_fault(joints_J3: np.ndarray, convention: Convention, picture: tuple[int, int]) -> Misread | None:
    """Find joints of which most lie outside the picture, and with x and y exchanged all inside; None if they do not.

    Args:
        joints_J3: float [J, 3], of one person.
        convention: what they are read as.
        picture: its width and height.
    """
    xy = joints_J3[convention.seen(joints_J3), :2]
    there = int(inside(convention.xy(xy, picture), *picture).sum())
    if convention.axes_known or len(xy) < _ENOUGH or 2 * there >= len(xy):
        return None
    return _exchanged(convention, there > 0) if inside(convention.xy(xy[:, ::-1], picture), *picture).all() else None


def exchanged_in_box_fault(
    joints_J3: np.ndarray, convention: Convention, picture: tuple[int, int], box: Sequence[float]
) -> Misread | None:
    """Find joints of which most lie beside the person's box, and with x and y exchanged all in it; None if they do not.

    Args:
        joints_J3, convention, picture: as of `exchanged_fault`.
        box: x0, y0, x1, y1 of the person, pixels.
    """
    xy = joints_J3[convention.seen(joints_J3), :2]
    if convention.axes_known or len(xy) < _ENOUGH_IN_BOX:
        return None
    low, high = np.array(box[:2], np.float64), np.array(box[2:], np.float64)
    room = _BESIDE * (high - low).max()

    def in_box(places: np.ndarray) -> np.ndarray:
        return ((places >= low - room) & (places <= high + room)).all(1)

    if 2 * in_box(convention.xy(xy, picture)).sum() >= len(xy) or not in_box(convention.xy(xy[:, ::-1], picture)).all():
        return None
    right = "xy" if convention.swapped else "yx"
    return Misread(
        "most joints lie beside the given box, and all in it with x and y exchanged",
        f"give --axes {right}, or --axes xy if they are as they should be",
    )


def picture_fault(joints_J3: np.ndarray, convention: Convention, picture: tuple[int, int]) -> Misread | None:
    """Find joints that cannot be of this picture: of another convention, or none of them in it; None if they can.

    Arguments as of `exchanged_fault`.
    """
    if fault := value_fault([joints_J3], convention) or exchanged_fault(joints_J3, convention, picture):
        return fault
    if not convention.seen(joints_J3).any() or convention.placed(joints_J3, picture)[:, 2].any():
        return None
    return sample_fault([(joints_J3, picture)], convention) or Misread(
        f"all joints lie outside the {picture[0]} x {picture[1]} picture", "check that it is the right one"
    )


def sample_fault(people: Sequence[tuple[np.ndarray, tuple[int, int]]], convention: Convention) -> Misread | None:
    """Return why the joints of several people cannot belong to their pictures; None if they can.

    Args:
        people: of each float [J, 3] and the picture's width and height.
        convention: what they are read as.
    """
    places, in_picture, exchanged = [], [], []
    for joints_J3, picture in people:
        xy = joints_J3[convention.seen(joints_J3), :2]
        places.append(convention.xy(xy, picture) / picture)
        in_picture.append(inside(convention.xy(xy, picture), *picture))
        exchanged.append(inside(convention.xy(xy[:, ::-1], picture), *picture))
    if not sum(map(len, places)):
        return None
    inside_N, exchanged_N, share_N2 = np.concatenate(in_picture), np.concatenate(exchanged), np.concatenate(places)
    # In a picture that is not square, some exchanged joints lie outside, and exchanged again none does. Somebody who is
    # cut off by the edge may look alike.
    if not convention.axes_known and exchanged_N.all() and (~inside_N).sum() >= max(3, 0.01 * len(inside_N)):
        return _exchanged(convention, doubtful=True)
    if inside_N.mean() > 0.5 or convention.normalized:
        return None
    width, height = people[0][1]
    reach = float(share_N2.max())
    if reach <= 1:
        return Misread(
            f"{(~inside_N).mean():.0%} of the joints lie outside their pictures, on the left or above",
            "coordinates count from the picture's upper left corner",
        )
    meant = next((ratio for ratio in _SIZE_RATIOS if ratio >= 0.98 * reach), np.ceil(reach))
    x, y = share_N2.max(0) * (width, height)
    return Misread(
        f"{(~inside_N).mean():.0%} of the joints lie outside their pictures, up to x = {x:.0f} and y = {y:.0f} in "
        f"pictures such as {width} x {height}",
        "if the keypoints were found in larger ones, give their size, probably "
        f"--keypoint-size {width * meant:.0f},{height * meant:.0f}",
    )


# Of the box's longest side: a joint may lie as far beside the box.
_BESIDE = 0.1


def _exchanged(convention: Convention, doubtful: bool) -> Misread:
    right = "xy" if convention.swapped else "yx"
    other = ", or --axes xy if they are as they should be" if doubtful else ""
    return Misread(
        "joints lie outside the picture, and all inside with x and y exchanged", f"give --axes {right}{other}"
    )
