"""The records: one person in one view (`Person`) and one uncropped image with its people (`Scene`); and the `Batch`.

In storage and on the way through a cluster, pixels stay encoded, and null means that a modality is absent. Only a Batch
holds decoded pixels. Its flags say which of them are real.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from hcmoco.data.encoded_images import EncodedImages, concatenate

SCHEMA_VERSION = 1
Modality = str  # one of MODALITIES
MODALITIES: tuple[Modality, ...] = ("rgb", "depth", "keypoints")
"""What pre-training contrasts, in the order in which all lists have them."""
MAP_STRIDE = 4
"""Stride of the finest feature map in pixels of the input; anchors, part logits and 3D anchors lie on it."""


@dataclass
class Person:
    """One person in one view, cropped to a square of about 1.5 times the person's box. None means absent.

    Attributes:
        id: stable and unique, `<dataset>/<source key>`.
        dataset, split, subject: where the row comes from; subject is "" if unknown.
        size: int, side of the square image in pixels; RGB, depth, parts and iuv all have it.
        rgb: JPEG or PNG bytes, RGB.
        depth: 16-bit image bytes in the codec that the manifest names; millimeters along the optical axis, 0 = no
            reading.
        camera: float32 [4], fx, fy, cx, cy in pixels of this image.
        crop: float32 [5], x0, y0, side, width, height: where this image lies in its source image of width x height.
        box: float32 [4], x0, y0, x1, y1: the person's box in pixels of this image.
        keypoints: float32 [J, 3], x, y in pixels of this image (a pixel's center is at +0.5), visibility 0 or 1.
        joints3d: float32 [J3, 3], meters in the camera frame (x right, y down, z forward).
        parts: 8-bit PNG bytes, 0 = background, 255 = ignore, else the parts of the label map that the manifest names;
            by default 1..24, the parts of Human3.6M in the order of its published table.
        iuv: 8-bit 3-channel PNG bytes, channels I (chart 0..24), U, V (0..255 for 0..1).
        dp_points: float32 [N, 5], x, y in pixels, I, U, V: annotated surface points as COCO-DensePose has them.
        mask: 8-bit PNG bytes, 255 on the person.
    """

    id: str
    dataset: str
    split: str
    size: int
    subject: str = ""
    rgb: bytes | None = None
    depth: bytes | None = None
    camera: np.ndarray | None = None
    crop: np.ndarray | None = None
    box: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    joints3d: np.ndarray | None = None
    parts: bytes | None = None
    iuv: bytes | None = None
    dp_points: np.ndarray | None = None
    mask: bytes | None = None

    def to_row(self, index: int) -> dict:
        """Return the row of `person_schema` for this record; `index` is its dense number in its data set."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("camera", "crop", "box", "keypoints", "joints3d", "dp_points"):
            if row[name] is not None:
                row[name] = np.asarray(row[name], np.float32).ravel()
        return {**row, "index": index}

    @classmethod
    def from_row(cls, row: dict) -> "Person":
        """Return the record of one row, a dict of Python or NumPy values as Arrow's to_pylist gives."""
        values = {field.name: row.get(field.name) for field in fields(cls)}
        for name, width in (
            ("camera", None),
            ("crop", None),
            ("box", None),
            ("keypoints", 3),
            ("joints3d", 3),
            ("dp_points", 5),
        ):
            if values[name] is not None:
                array = np.asarray(values[name], np.float32)
                values[name] = array if width is None else array.reshape(-1, width)
        return cls(**values)


def person_schema(joints: int, joints3d: int = 0) -> pa.Schema:
    """Return the Arrow schema of a shard of persons.

    Args:
        joints: number of 2D joints.
        joints3d: number of 3D joints; 0: the column is all null.
    """

    def floats(name: str, length: int) -> pa.Field:
        # Arrow C++ up to 25 cannot read a null fixed-size list from Parquet (apache/arrow#35692), so the length stands
        # beside the type.
        return pa.field(name, pa.list_(pa.float32()), metadata={"length": str(length)} if length else None)

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("dataset", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("subject", pa.string(), nullable=False),
            pa.field("size", pa.int32(), nullable=False),
            pa.field("rgb", pa.binary()),
            pa.field("depth", pa.binary()),
            floats("camera", 4),
            floats("crop", 5),
            floats("box", 4),
            floats("keypoints", 3 * joints),
            floats("joints3d", 3 * joints3d),
            pa.field("parts", pa.binary()),
            pa.field("iuv", pa.binary()),
            floats("dp_points", 0),
            pa.field("mask", pa.binary()),
        ]
    )


@dataclass
class Instance:
    """One annotated person of a scene.

    Attributes:
        box: float32 [4], x0, y0, x1, y1: around what is visible of the person, outer edges of pixels of the image.
        mask: 8-bit PNG bytes of the image's size, 255 on the visible person. None: not annotated.
        dp_points: float32 [N, 5], x, y in pixels of the image (a pixel's center is at +0.5), chart I 1..24, U and V
            0..1: points of the visible surface, annotated as COCO-DensePose has them. None: not annotated.
        crowd: the box holds people that are not told apart; what is detected there is neither right nor wrong.
    """

    box: np.ndarray
    mask: bytes | None = None
    dp_points: np.ndarray | None = None
    crowd: bool = False


@dataclass
class Scene:
    """One uncropped image and all people that can be recognized in it.

    Attributes:
        id: stable and unique, `<dataset>/<source key>`.
        dataset, split: where the row comes from.
        rgb: JPEG or PNG bytes, RGB, of width x height pixels.
        width, height: pixels.
        instances: the people, in no particular order.
    """

    id: str
    dataset: str
    split: str
    rgb: bytes
    width: int
    height: int
    instances: list[Instance]

    def to_row(self, index: int) -> dict:
        """Return the row of `scene_schema` for this record; `index` is its dense number in its data set."""

        def numbers(values: np.ndarray | None) -> list[float] | None:
            return None if values is None else np.asarray(values, np.float32).ravel().tolist()

        instances = [
            {
                "box": numbers(instance.box),
                "mask": instance.mask,
                "dp_points": numbers(instance.dp_points),
                "crowd": bool(instance.crowd),
            }
            for instance in self.instances
        ]
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "instances": instances,
            "index": index,
        }

    @classmethod
    def from_row(cls, row: dict) -> "Scene":
        """Return the record of one row, a dict of Python or NumPy values as Arrow's to_pylist gives.

        Raises:
            ValueError: the surface points are not rows of 5 numbers.
        """
        instances = [
            Instance(
                box=np.asarray(instance["box"], np.float32),
                mask=instance["mask"],
                dp_points=None
                if instance["dp_points"] is None
                else np.asarray(instance["dp_points"], np.float32).reshape(-1, 5),
                crowd=bool(instance["crowd"]),
            )
            for instance in row["instances"]
        ]
        return cls(**{**{field.name: row[field.name] for field in fields(cls)}, "instances": instances})


def scene_schema() -> pa.Schema:
    """Return the Arrow schema of a shard of scenes: one uncropped image and its annotated people."""
    instance = pa.struct(
        [
            ("box", pa.list_(pa.float32())),
            ("mask", pa.binary()),
            ("dp_points", pa.list_(pa.float32())),
            ("crowd", pa.bool_()),
        ]
    )
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("dataset", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("rgb", pa.binary(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("instances", pa.list_(instance), nullable=False),
        ]
    )


@dataclass
class Batch:
    """What one worker consumes in one step: B rows cut to S x S pixels, in host memory, not yet normalized.

    A row without a modality has zeros in its array and False in its flag. Readers of an array must check the flag.

    Attributes:
        step: global step.
        rgb: uint8 [B, S, S, 3], RGB; or the same, still encoded, where the training device decodes.
        depth: uint16 [B, S, S], millimeters, 0 = no reading.
        keypoints: float32 [B, J, 3], x, y in pixels of the S x S image, visibility 0 or 1 (0 outside the image): what
            the skeleton encoder reads.
        rgb_keypoints, depth_keypoints: float32 [B, J, 3], the same joints in pixels of the RGB and of the depth crop;
            equal to `keypoints` unless each modality has a crop of its own (`AugmentConfig.independent`).
        released_keypoints: float32 [B, J, 2], row, column of the same joints as the published code normalizes them,
            before the augmentation (see hcmoco.data.released_keypoints). For `model.polluted_keypoints`, which zeroes
            those that are not visible.
        has_rgb, has_depth, has_keypoints: bool [B].
        index: int64 [B], row of the memory bank (dense over all data sets of the run).
        source: int64 [B], number of the data set in the run's mixture.
        anchors: int64 [B, P], valid positions of the stride-4 map, row * (S // 4) + column. They are distinct, with -1
            if there are fewer than P, or drawn with replacement. For the dense terms; all -1 for a row without depth.
            They are cells of the depth map.
        rgb_anchors: int64 [B, P], the cells of the RGB map that show the same places, -1 where `anchors` is. Equal to
            `anchors` where RGB and depth share their crop.
        rgb_to_depth: float32 [B, 2, 3], the affine from pixels of the RGB crop to pixels of the depth crop; the
            identity where they share one.
        points: int64 [B, N], pixels of the depth that are read as points, row * S + column; the first P lie in the
            cells of the anchors. All -1 for a row without depth; N is 0 where depth is read as a picture.
        rays: float32 [B, 2, 3], x, y in pixels of the S x S image to x / z, y / z (see hcmoco.data.points); 0 where N
            is 0 and for a row without depth.
    """

    step: int
    rgb: np.ndarray | EncodedImages
    depth: np.ndarray
    keypoints: np.ndarray
    rgb_keypoints: np.ndarray
    depth_keypoints: np.ndarray
    released_keypoints: np.ndarray
    has_rgb: np.ndarray
    has_depth: np.ndarray
    has_keypoints: np.ndarray
    index: np.ndarray
    source: np.ndarray
    anchors: np.ndarray
    rgb_anchors: np.ndarray
    rgb_to_depth: np.ndarray
    points: np.ndarray
    rays: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def decoded_rgb(self) -> np.ndarray:
        """Return `rgb` where it is decoded, as in all batches but those for a device that decodes."""
        if isinstance(self.rgb, EncodedImages):
            raise TypeError("the RGB pictures of this batch are encoded")
        return self.rgb

    def part(self, rows: slice) -> "Batch":
        """Return some of the rows; the arrays are views of this batch's."""
        arrays = [field.name for field in fields(Batch) if field.name != "step"]
        return Batch(self.step, **{name: getattr(self, name)[rows] for name in arrays})

    @staticmethod
    def concatenate(batches: "list[Batch]") -> "Batch":
        """Concatenate the micro-batches of one step, in order; raise ValueError if they are of several steps."""
        if len({batch.step for batch in batches}) != 1:
            raise ValueError(f"micro-batches of different steps: {[batch.step for batch in batches]}")
        arrays = [field.name for field in fields(Batch) if field.name != "step"]
        return Batch(
            batches[0].step, **{name: concatenate([getattr(batch, name) for batch in batches]) for name in arrays}
        )
