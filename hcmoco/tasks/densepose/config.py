"""Settings of the DensePose R-CNN. Defaults fit scenes of 192 pixels on a CPU; descriptions have the published values.

Published: detectron2's Base-DensePose-RCNN-FPN with the DensePoseV1ConvX head, as the paper's DensePose rows use it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hcmoco.tasks.base import TaskConfig

PEOPLE = "people"
"""The charts of the synthetic people, in place of a folder of published files."""

LEVELS = 5
"""Maps of the feature pyramid: strides 4, 8, 16, 32, 64."""

Pixels = Annotated[int, Field(ge=32)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class DensePoseConfig(TaskConfig):
    """Detector of persons and dense surface coordinates inside each box."""

    name: Literal["densepose"] = "densepose"

    charts: str = Field(
        PEOPLE,
        min_length=1,
        description="surface that the labels are on: people (our own), or the folder of DensePose's published files "
        "(docs/data/densepose-coco.md)",
    )
    short_sides: tuple[Pixels, ...] = Field(
        (192,), min_length=1, description="pixels; one is drawn per training image. Published: 640 to 800"
    )
    test_short_side: Pixels = Field(192, description="pixels. Published: 800")
    long_side: Pixels = Field(
        192, description="pixels; images whose longer side would exceed it are made smaller still. Published: 1333"
    )
    flip_probability: Share = Field(
        0.5,
        description="share of training images that are mirrored; on published charts by the table "
        "UV_symmetry_transforms.mat in their folder. Published: 0.5",
    )

    weights: str | None = Field(
        None,
        min_length=1,
        description="checkpoint of a whole DensePose R-CNN of detectron2, encoder included (.pth, safetensors, or the "
        "model zoo's .pkl, which is not unpickled); null: fresh heads on the encoder of init",
    )
    pyramid: Literal["published"] | None = Field(
        None,
        description="published: detectron2's HRFPN, which the paper trained; null: that of HRNet's authors, which "
        "costs less and has a cell for every pixel",
    )
    pyramid_channels: int = Field(48, ge=1, description="channels of each map. Published: 256")
    anchor_sizes: tuple[tuple[Positive, ...], ...] = Field(
        ((24.0,), (40.0,), (60.0,), (84.0,), (120.0,)),
        description=f"pixels, roots of the areas, for each of the {LEVELS} maps. Published: 32, 64, 128, 256, 512",
    )
    anchor_ratios: tuple[Positive, ...] = Field(
        (1.0, 2.0, 3.0), min_length=1, description="heights over widths. Published: 0.5, 1, 2"
    )
    anchor_samples: int = Field(64, ge=2, description="anchors per image in the proposal loss. Published: 256")
    proposals_per_level: int = Field(
        200, ge=1, description="best anchors of each map before suppression. Published: 2000, 1000 in tests"
    )
    proposals: int = Field(200, ge=1, description="proposals per image after suppression. Published: 1000")
    proposals_per_level_test: int = Field(100, ge=1, description="as above, in evaluation. Published: 1000")
    proposals_test: int = Field(50, ge=1, description="as above, in evaluation. Published: 1000")

    box_samples: int = Field(
        32, ge=2, description="proposals per image in the box loss, at most a quarter of them persons. Published: 512"
    )
    box_width: int = Field(256, ge=1, description="of the box head's two layers. Published: 1024")
    score_threshold: Share = Field(0.05, description="detections below are dropped. Published: 0.05")
    nms_threshold: Share = Field(
        0.5, description="detections that overlap a better one by more are dropped. Published: 0.5"
    )
    detections: int = Field(20, ge=1, description="per image, at most. Published: 100")

    chart_depth: int = Field(4, ge=1, description="3 x 3 convolutions of the chart head. Published: 8")
    chart_width: int = Field(64, ge=1, description="channels of each. Published: 512")
    chart_norm: Literal["none", "group"] = Field(
        "group", description="normalization after each of them. Published: none"
    )
    chart_cells: int = Field(14, ge=2, description="side of the region features. Published: 28")
    chart_upscale: int = Field(
        2, ge=1, description="bilinear, after a transposed convolution has doubled the side. Published: 2"
    )
    chart_samples: int = Field(
        8, ge=1, description="persons' proposals per image in the chart losses. Published: all, at most 128"
    )
    chart_overlap: Share = Field(
        0.7, description="least overlap with a person of a proposal in the chart losses. Published: 0.7"
    )

    coarse_weight: float = Field(
        5.0, ge=0, description="of the cross entropy of foreground and background. Published: 5"
    )
    part_weight: float = Field(
        1.0, ge=0, description="of the cross entropy of the 25 parts at the annotated points. Published: 1"
    )
    uv_weight: float = Field(
        0.1,
        ge=0,
        description="of the sum of smooth L1 over the points, per image. Published: 0.02 (0.01 of the sum over a GPU's "
        "2 images)",
    )

    @field_validator("anchor_sizes")
    @classmethod
    def _one_row_per_map(cls, sizes: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if len(sizes) != LEVELS or len({len(each) for each in sizes}) != 1 or not sizes[0]:
            raise ValueError(
                f"needs {LEVELS} lists of equal length, one for each map, for example [[24], [40], [60], [84], [120]]"
            )
        return sizes

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. Without `weights` and `pyramid` it is what it was before there were such keys."""
        named = super().identity()
        return {key: value for key, value in named.items() if key not in ("weights", "pyramid") or value is not None}

    def first_weights(self) -> str | None:
        return self.weights

    def with_paths(self, resolve: Callable[[str], str]) -> Self:
        charts = self.charts if self.charts == PEOPLE else resolve(self.charts)
        return self.model_copy(update={"charts": charts, "weights": self.weights and resolve(self.weights)})

    @property
    def least_side(self) -> int:
        """Pixels that a padded side has at least: of fewer the published pyramid's coarsest map has no cell."""
        return (4 << LEVELS) if self.pyramid == "published" else 0

    def input_sizes(self, stride: int) -> list[tuple[int, int]]:
        step = 4 << (LEVELS - 1)  # the model pads to it
        sides = min(*self.short_sides, self.test_short_side), self.long_side
        short, long = (max(-(-side // step) * step, self.least_side) for side in sides)
        return [(short, long), (long, short), (long, long)]

    @model_validator(mode="after")
    def _consistent(self) -> "DensePoseConfig":
        shortest = max(*self.short_sides, self.test_short_side)
        if self.long_side < shortest:
            raise ValueError(f"long_side = {self.long_side}: must be at least the largest short side, {shortest}")
        if self.weights and (self.pyramid, self.chart_norm) != ("published", "none"):
            raise ValueError(
                "weights: detectron2's have its pyramid and no normalization in the chart head; set pyramid=published "
                "and chart_norm=none"
            )
        return self
