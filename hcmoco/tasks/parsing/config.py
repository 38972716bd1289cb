"""Settings of human parsing: the input, its augmentation, the loss and the evaluation."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hcmoco.config import Config
from hcmoco.tasks.base import TaskConfig

PARSING_4K_WEIGHTS = (
    1.448, 49.234, 49.483, 48.030, 49.247, 49.492, 48.018, 49.704, 50.052, 49.369, 49.694, 50.090, 49.425,
    49.459, 45.846, 47.156, 45.868, 47.197, 44.167, 42.789, 44.341, 48.632, 48.873, 48.644, 49.004,
)  # fmt: skip
"""Class weights that were published for the training half of NTURGBD-Parsing-4K. The rule `frequency` over its labels
gives the same."""

ClassWeights = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2, max_length=255)]


class ParsingAugment(Config):
    """Augmentation of a training image. Lengths are shares of the stored image's side.

    `square` is one affine map: the image around a random center, zoomed and rotated, in one sampling. `multi-scale` is
    the published way: the image is resized to the network's size, then to a random one, padded at the right and at the
    bottom, and cropped. Pixels outside the image have the label IGNORE and do not enter the loss.
    """

    geometry: Literal["square", "multi-scale"] = Field(
        "square", description="square (one affine map) or multi-scale (as published)"
    )
    flip_probability: float = Field(
        0.5, ge=0, le=1, description="share of samples that are mirrored, with left and right exchanged"
    )
    scale: tuple[float, float] = Field(
        (0.8, 1.3), description="range of the zoom, above 1 enlarges; published 0.5 to 1.6"
    )
    scale_step: float = Field(
        0.0, ge=0, description="zooms are whole steps above the lowest; published 0.1; 0: any zoom of the range"
    )
    shift: float = Field(0.1, ge=0, le=1, description="largest move of the center along x and y; square only")
    rotation: float = Field(15.0, ge=0, description="standard deviation of the rotation, degrees; normal; square only")
    rotation_limit: float = Field(45.0, ge=0, le=180, description="rotations beyond this are cut to it, degrees")
    brightness: float = Field(0.2, ge=0, lt=1, description="RGB gain is drawn from 1 - this to 1 + this")
    contrast: float = Field(0.2, ge=0, lt=1, description="likewise for the distance to mid-gray")
    saturation: float = Field(0.2, ge=0, le=1, description="likewise for the distance to the pixel's own gray")
    padding: Literal["mean", "black"] = Field(
        "mean", description="RGB outside the image: ImageNet's mean, or black as published"
    )
    depth_resize: Literal["nearest", "bilinear"] = Field(
        "nearest",
        description="second resize of multi-scale; bilinear, as published, blends a silhouette's depth with "
        "'no reading'",
    )

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= scale[0] <= scale[1] <= 10:
            raise ValueError("must be low <= high within 0.1 and 10")
        return scale

    @model_validator(mode="after")
    def _of_one_geometry(self) -> "ParsingAugment":
        if self.geometry == "multi-scale" and (self.shift or self.rotation):
            raise ValueError(
                "geometry=multi-scale neither moves nor turns: set shift and rotation to 0, or take geometry=square"
            )
        if self.geometry == "square" and self.depth_resize == "bilinear":
            raise ValueError(
                "depth_resize=bilinear is of geometry=multi-scale; with geometry=square leave it at nearest"
            )
        return self


class ParsingConfig(TaskConfig):
    """Human parsing into the classes of the data set's label map, from RGB or from depth: 25 by default.

    Published protocol: size 473, label size 1000, flip test, geometry multi-scale with zooms 0.5 to 1.6 in steps of
    0.1, black padding, convolutions of the head from N(0, 0.001), no class weights for RGB and `parsing-4k` for depth.
    """

    name: Literal["parsing-rgb", "parsing-depth"]
    size: int = Field(128, ge=32, le=2048, description="side of the network's input, pixels; published 473")
    label_size: int | Literal["record"] = Field(
        "record",
        description="side at which predictions are made and scored, pixels; published 1000; record: each image's own",
    )
    flip_test: bool = Field(
        False, description="predict from the mean of the logits of the image and of its mirror image"
    )
    class_weights: Literal["none", "frequency", "parsing-4k"] | ClassWeights = Field(
        "none",
        description="none, frequency (1 / ln(1.02 + share of the labeled pixels)), parsing-4k (published, of "
        "human3.6m's 25 classes), or a number for each class",
    )
    head_std: float | None = Field(
        None,
        gt=0,
        description="initial convolutions of the head are normal with this deviation, published 0.001; null: PyTorch's "
        "own",
    )
    augment: ParsingAugment = ParsingAugment()

    def input_sizes(self, stride: int) -> list[tuple[int, int]]:
        side = -(-self.size // stride) * stride
        return [(side, side)]

    @field_validator("label_size")
    @classmethod
    def _label_size_is_a_side(cls, label_size: int | str, info: ValidationInfo) -> int | str:
        if isinstance(label_size, int) and not 16 <= label_size <= 4096:
            raise ValueError("must be 16 to 4096 pixels, or record")
        return label_size
