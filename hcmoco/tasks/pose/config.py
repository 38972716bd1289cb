"""Settings of 3D pose from depth.

Defaults are the published ITOP protocol without its leaks and defects; each field says what was published.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hcmoco.config import Config
from hcmoco.data.schema import MAP_STRIDE
from hcmoco.data.skeletons import JOINT_SETS
from hcmoco.data.transforms import InputSide
from hcmoco.tasks.base import TaskConfig

STRIDE = MAP_STRIDE
"""Pixels of the input between cells of the finest map, on which the anchors stand."""


class HeadConfig(Config):
    """Three branches on the encoder's merged map; of an encoder of points (docs/points.md), layers on each point, for
    which `num_convolutions` and `channels` alone apply.

    Published: 4 convolutions of 256 channels, 9 anchors in a cell, no reduction.
    """

    renamed: ClassVar = {"convolutions": "num_convolutions"}

    num_convolutions: int = Field(
        4, ge=0, le=8, description="3x3 convolutions with batch norm and ReLU in each branch, before its last one"
    )
    channels: int = Field(256, ge=1, description="channels of these convolutions")
    anchor_offsets: tuple[float, ...] = Field(
        (1.0, 2.0, 3.0),
        min_length=1,
        description="anchors of a 4 px cell stand at each pair of these along x and y, pixels, 0 to 4",
    )
    reduce: int | None = Field(
        None,
        ge=1,
        description="channels to which the maps are reduced first, each at its own size; null: concatenated as "
        "published",
    )

    @field_validator("anchor_offsets")
    @classmethod
    def _inside_a_cell(cls, offsets: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(offsets)) != len(offsets) or not all(0 <= offset < STRIDE for offset in offsets):
            raise ValueError(f"must be distinct numbers from 0 to below {STRIDE}, for example (1, 2, 3) or (2,)")
        return offsets


class PoseConfig(TaskConfig):
    """3D pose of one person from one depth image, by weighted anchors (A2J: Xiong et al., ICCV 2019).

    The published ITOP protocol is `margin_unit: pixels, margin: (25, 15), jitter: 10, test_margin: (0, 0)` at 320 x
    240, with `background: ground-truth`, which leaks labels, and `interpolation: bilinear`, which smears silhouettes.
    """

    name: Literal["pose"] = "pose"
    joints: str = Field("itop-15", description="joint set that is predicted, gathered by name from that of the labels")
    size: InputSide = Field(288, description="side of the input, pixels; a multiple of 32")
    head: HeadConfig = HeadConfig()
    margin_unit: Literal["box", "pixels"] = Field(
        "box",
        description="unit of margins and jitter: longest sides of the person's box, or pixels of the stored image",
    )
    margin: tuple[float, float] = Field(
        (0.14, 0.08),
        description="training crops reach this far beyond the box to the left and right, and above and below",
    )
    test_margin: tuple[float, float] | None = Field(
        None, description="the same for evaluation and prediction; null: as in training"
    )
    jitter: float = Field(
        0.055, ge=0, description="each side of a training crop moves by up to this, in or out; uniform"
    )
    rotation: float = Field(15.0, ge=0, le=180, description="training crops are turned by up to this, degrees; uniform")
    scale: tuple[float, float] = Field(
        (0.5, 1.5), description="range of the magnification of training crops about their center; uniform"
    )
    flip_probability: float = Field(
        0.0, ge=0, le=1, description="share of training crops that are mirrored, left and right exchanged"
    )
    interpolation: Literal["nearest", "bilinear"] = Field(
        "nearest", description="how turned and scaled crops are read; bilinear as released, it smears silhouettes"
    )
    background: Literal["none", "box-depth", "ground-truth"] = Field(
        "box-depth",
        description="what is removed before depth is normalized: nothing; what lies further than depth_range from the "
        "median depth in the middle of the person's box; or, as released, what lies 5 cm behind the labeled joints, "
        "which leaks labels into the input",
    )
    depth_range: float = Field(
        1.5,
        gt=0,
        description="meters; of background=box-depth. People lying along the view reach 1.4; where all stand, as in "
        "ITOP, 0.7 keeps them and removes a near wall",
    )
    depth_scale: float = Field(
        50.0, gt=0, description="the network's depths are meters from the input's mean depth times this"
    )

    @field_validator("joints")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in JOINT_SETS:
            raise ValueError(f"allowed are {', '.join(JOINT_SETS)}")
        return name

    @field_validator("margin", "test_margin")
    @classmethod
    def _not_negative(cls, margin: tuple[float, float] | None) -> tuple[float, float] | None:
        if margin is not None and min(margin) < 0:
            raise ValueError("must be 0 or more: crops never cut the person's box")
        return margin

    @field_validator("scale")
    @classmethod
    def _scale_ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        low, high = scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError("must be low <= high within 0.1 and 10")
        return scale

    def input_sizes(self, stride: int) -> list[tuple[int, int]]:
        return [(self.size, self.size)]

    @model_validator(mode="after")
    def _jitter_within_margin(self) -> "PoseConfig":
        if self.jitter > min(self.margin):
            raise ValueError(
                f"jitter = {self.jitter:g} exceeds the smaller margin, {min(self.margin):g}: crops would cut the "
                "person's box"
            )
        return self
