"""Configs of synthetic people and scenes."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from hcmoco.config import Config
from hcmoco.data.codecs import JPEG_QUALITY

MAX_PEOPLE = 5


class PeopleConfig(Config):
    """Configure single synthetic people.

    Attributes:
        domain: "indoor" is a room seen by a Kinect-like camera, with depth; "wild" is any camera outdoors, without
            depth.
        size: side of the square image in pixels, 32..2048.
        masked_depth: depth is zero outside the person, as in the masked depth maps of NTU RGB+D.
        seed: person `number` is a function of the domain, this seed and the number.
        jpeg_quality: quality of the RGB image, 1..100.
    """

    domain: Literal["indoor", "wild"] = Field(
        "indoor", description="indoor (RGB and depth, a room) or wild (RGB, outdoors)"
    )
    size: int = Field(128, ge=32, le=2048, description="side of the square image, 32 to 2048 pixels")
    masked_depth: bool = Field(True, description="depth is zero outside the person: true or false")
    seed: int = Field(0, description="which people; the same seed and number are the same person")
    jpeg_quality: int = Field(JPEG_QUALITY, ge=1, le=100, description="of RGB, 1 to 100")


class ScenesConfig(Config):
    """Configure synthetic scenes of several people, which detection and DensePose are trained on.

    Attributes:
        domain: "indoor" is a room, "wild" is outdoors, "mixed" chooses by the scene's number, 1 : 2. No scene has
            depth.
        size: side of the square image in pixels, 64..2048.
        min_people: smallest number of people in a scene. All numbers up to `max_people` are equally likely.
        max_people: largest number of people in a scene.
        num_points: largest number of annotated surface points on each of a person's 14 body parts; small parts get
            fewer.
        seed: scene `number` is a function of the domain, this seed and the number.
        jpeg_quality: quality of the RGB image, 1..100.
    """

    renamed: ClassVar = {"least": "min_people", "most": "max_people", "points": "num_points"}

    domain: Literal["mixed", "indoor", "wild"] = Field(
        "mixed", description="indoor (rooms), wild (outdoors) or mixed (1 : 2)"
    )
    size: int = Field(192, ge=64, le=2048, description="side of the square image, 64 to 2048 pixels")
    min_people: int = Field(1, ge=1, le=MAX_PEOPLE, description=f"people in a scene at least, 1 to {MAX_PEOPLE}")
    max_people: int = Field(3, ge=1, le=MAX_PEOPLE, description=f"people in a scene at most, 1 to {MAX_PEOPLE}")
    num_points: int = Field(14, ge=1, le=100, description="surface points annotated on a body part at most, 1 to 100")
    seed: int = Field(0, description="which scenes; the same seed and number are the same scene")
    jpeg_quality: int = Field(JPEG_QUALITY, ge=1, le=100, description="of RGB, 1 to 100")

    @model_validator(mode="after")
    def _range(self) -> "ScenesConfig":
        if self.min_people > self.max_people:
            raise ValueError(f"min_people = {self.min_people} is more than max_people = {self.max_people}")
        return self
