"""What can be chosen about a detector. What is not given is None, as in manifests from before these options."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator

from hcmoco.config import Config

Colors = Literal["rgb-imagenet", "rgb-0-1", "rgb-0-255", "bgr-imagenet", "bgr-0-1", "bgr-0-255"]
PICTURE, LINES = "picture", "lines"
"""Values of `detect_boxes`: a picture shows one person, all over it; every line says where its person is."""
_Side = Annotated[int, Field(ge=32, le=8192)]


class DetectOptions(Config):
    """The detector that finds the keypoints of people for whom none are given."""

    detect: str | None = Field(
        None,
        description="find the people that have no keypoints with this detector: torchvision's Keypoint R-CNN "
        "(a state dict, .pth or .safetensors), or a pose model (.onnx)",
    )
    detect_boxes: str | None = Field(
        None,
        description="where people are that have no box and no mask, for an .onnx model that finds the joints of one "
        "person: picture (each picture shows one, all over it), or the weights of another detector",
    )
    detect_input: Colors | None = Field(
        None,
        description="colors that an .onnx model expects, which its file does not say: rgb or bgr, and imagenet (its "
        "mean and deviation), 0-1 or 0-255",
    )
    detect_size: tuple[_Side, _Side] | None = Field(
        None,
        description="width,height of an .onnx model's input if its file leaves them open; of a Keypoint R-CNN the "
        "shorter side that pictures are resized to, and the most for the longer (default 800,1333)",
    )
    min_score: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = Field(
        None, description="least score of a person that --detect finds; default: the detector's, which is printed"
    )

    @field_validator("detect_size", mode="before")
    @classmethod
    def _two_sides(cls, value: object) -> object:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 2):
            raise ValueError("must be two numbers, such as 192,256")
        return value

    detect_sha256: str | None = Field(
        None, description="SHA-256 of the weights, which is filled in; given, other weights are refused"
    )
    detect_boxes_sha256: str | None = Field(None, description="the same of the weights of --detect-boxes")
