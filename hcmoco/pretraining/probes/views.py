"""The held-out people that probes look at: two different crops of each, made once from stored records.

Shape suffixes: N people, S side of a crop in pixels, J joints; a 2 or 3 is that many rows or columns. The source image
of an affine is the record's own image.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import islice

import numpy as np
from pydantic import Field, ValidationError, model_validator

from hcmoco.config import Config
from hcmoco.config_errors import rule_of
from hcmoco.data.body_parts import IGNORE
from hcmoco.data.codecs import decode_depth, decode_labels, decode_rgb
from hcmoco.data.points import crop_rays, draw_points, require_camera
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import convert, joint_set
from hcmoco.data.transforms import (
    AugmentConfig,
    center_affine,
    draw_affine,
    warp_depth,
    warp_keypoints,
    warp_labels,
    warp_rgb,
)
from hcmoco.errors import UserError
from hcmoco.pretraining.probes.correspondence import STRIDE
from hcmoco.rng import make_rng

PICTURE_PEOPLE = 8


class CropConfig(Config):
    """How the two crops of a person are drawn. It is a setting of the probe and not of the run, so that runs with
    different augmentation can be compared. Never mirrored: a mirrored person's left arm looks like a right arm, and has
    no right answer."""

    seed: int = Field(0, ge=0, description="of the crops and of the partners for the joints")
    scale: tuple[float, float] = Field((1.0, 1.4), description="see AugmentConfig")
    shift: float = Field(0.05, ge=0, description="see AugmentConfig")
    rotation: float = Field(30.0, ge=0, description="standard deviation, degrees, cut to 60; every crop is turned")

    @model_validator(mode="after")
    def _allowed(self) -> "CropConfig":
        try:
            self.augment(AugmentConfig().size)
        except ValidationError as error:
            raise ValueError(rule_of(error.errors()[0])) from None
        return self

    def augment(self, size: int) -> AugmentConfig:
        """The transforms' own config for crops of `size` pixels."""
        return AugmentConfig(
            size=size, scale=self.scale, shift=self.shift, rotation=self.rotation, rotation_probability=1.0
        )


@dataclass(frozen=True)
class Crops:
    """One crop of each person, all modalities cut alike.

    Attributes:
        rgb: uint8 [N, S, S, 3], RGB.
        depth: uint16 [N, S, S], millimeters, 0 = no reading.
        keypoints: float32 [N, J, 3], x, y in pixels of the crop, visibility 0 or 1 (0 outside).
        silhouettes: bool [N, S, S], pixels on the person.
        affines: float64 [N, 2, 3], source image -> crop.
        points: int64 [N, M], pixels that are read as points, see `Batch`; M is 0 where depth is read as a picture.
        rays: float32 [N, 2, 3], see `Batch`.
    """

    rgb: np.ndarray
    depth: np.ndarray
    keypoints: np.ndarray
    silhouettes: np.ndarray
    affines: np.ndarray
    points: np.ndarray
    rays: np.ndarray

    @property
    def body(self) -> np.ndarray:
        """bool [N, S / 4, S / 4]: cells whose middle is on the person."""
        return self.silhouettes[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]

    def rows(self, rows: slice) -> "Crops":
        """The crops of some of the people."""
        return Crops(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class ProbeViews:
    """Held-out people with RGB, depth and keypoints, each in two crops: about 12 S² bytes a person.

    Attributes:
        first_crop, second_crop: "same crop" probes see the first alone.
        upright: centered crops, not turned, of the first PICTURE_PEOPLE people: what the picture shows.
        heights: float64 [N], the longest side of the person's box in pixels of the source image: their height, whatever
            way they lie.
        subjects: who it is, "" where unknown.
        joint_set: name of the keypoints' joint set.
        seed: of what else is drawn about these people.
    """

    first_crop: Crops
    second_crop: Crops
    upright: Crops
    heights: np.ndarray
    subjects: tuple[str, ...]
    joint_set: str
    seed: int

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.first_crop.rgb.shape[1]

    def first(self, count: int) -> "ProbeViews":
        """The first `count` people, or all where there are fewer."""
        rows = slice(count)
        return replace(
            self,
            first_crop=self.first_crop.rows(rows),
            second_crop=self.second_crop.rows(rows),
            upright=self.upright.rows(rows),
            heights=self.heights[rows],
            subjects=self.subjects[rows],
        )


def make_views(
    people: Iterable[Person],
    *,
    joints: str,
    target_joints: str,
    depth_codec: str,
    size: int,
    count: int,
    crops: CropConfig | None = None,
    num_points: int = 0,
) -> ProbeViews:
    """Two crops of the first `count` people that have RGB, depth and keypoints.

    The silhouette is the record's mask, else its parts, else where depth has a reading (stored depth is masked to the
    person).

    Args:
        people: records; read only as far as needed.
        joints, target_joints: joint set of the records, and of the model.
        depth_codec: as the manifest names it.
        size: side of the crops in pixels, as the model is trained on.
        num_points: of each crop, for a model that reads depth as points; else 0.
    Raises:
        UserError: fewer than 2 such people, a record that does not decode, or with `num_points` one without a camera.
    """
    crops = CropConfig() if crops is None else crops
    augment = crops.augment(size)
    seen = 0
    heights, subjects = [], []
    views: tuple[list, list, list] = ([], [], [])
    flip_J = joint_set(target_joints).flip

    def whole() -> Iterable[Person]:
        nonlocal seen
        for person in people:
            seen += 1
            if person.rgb is not None and person.depth is not None and person.keypoints is not None:
                yield person

    for row, person in enumerate(islice(whole(), count)):
        assert person.rgb is not None
        assert person.depth is not None
        assert person.keypoints is not None
        try:
            rgb = decode_rgb(person.rgb, person.size)
            depth = decode_depth(person.depth, depth_codec, person.size)
            silhouette = _silhouette(person, depth)
        except ValueError as error:
            raise UserError(f"held-out person {person.id} is damaged: {error}; prepare the data set again") from None
        keypoints = convert(person.keypoints, joints, target_joints)
        image_size = (person.size, person.size)
        ways = [
            draw_affine(augment, person.box, image_size, make_rng(crops.seed, "probe", row, number))
            for number in (0, 1)
        ]
        if row < PICTURE_PEOPLE:
            ways.append(center_affine(augment, person.box, image_size))
        for number, (crop, way) in enumerate(zip(views, ways, strict=False)):
            crop_depth = warp_depth(depth, way, size)
            rng = make_rng(crops.seed, "probe points", row, number)
            crop.append(
                (
                    warp_rgb(rgb, way, size),
                    crop_depth,
                    warp_keypoints(keypoints, way, size, flip_J),
                    warp_labels(silhouette, way, size) > 0,
                    way.matrix_23,
                    draw_points(crop_depth, num_points, 0, rng)[0],
                    crop_rays(require_camera(person.__dict__), way.matrix_23).astype(np.float32)
                    if num_points
                    else np.zeros((2, 3), np.float32),
                )
            )
        heights.append(_height(person, silhouette))
        subjects.append(person.subject)
    if len(subjects) < 2:
        raise UserError(
            f"{len(subjects)} of the {seen} held-out people have RGB, depth and keypoints; the probes need at least 2: "
            "name another data set as data.held_out, or none"
        )
    first, second, upright = (Crops(*(np.stack(column) for column in zip(*crop, strict=True))) for crop in views)
    return ProbeViews(first, second, upright, np.array(heights, np.float64), tuple(subjects), target_joints, crops.seed)


def _silhouette(person: Person, depth_HW: np.ndarray) -> np.ndarray:
    """uint8 [H, W], 1 on the person."""
    if person.mask is not None:
        return (decode_labels(person.mask, person.size) > 0).astype(np.uint8)
    if person.parts is not None:
        parts_HW = decode_labels(person.parts, person.size)
        return ((parts_HW > 0) & (parts_HW != IGNORE)).astype(np.uint8)
    return (depth_HW > 0).astype(np.uint8)


def _height(person: Person, silhouette_HW: np.ndarray) -> float:
    if person.box is not None:
        x0, y0, x1, y1 = (float(value) for value in person.box)
        return max(x1 - x0, y1 - y0)
    extents = [np.flatnonzero(silhouette_HW.any(axis=axis)) for axis in (0, 1)]
    return max((float(each[-1] - each[0] + 1) for each in extents if len(each)), default=float(person.size))
