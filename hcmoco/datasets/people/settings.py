"""What can be set about synthetic people."""

from typing import Literal

from pydantic import Field

from hcmoco.codecs import JPEG_QUALITY
from hcmoco.config import Config


class PeopleConfig(Config):
    """Synthetic people.

    Attributes:
        domain: "indoor" is a room seen by a Kinect-like camera, with depth; "wild" is any camera outdoors, without depth.
        size: pixels, side of the square image.
        masked_depth: whether depth is zero outside the person, as in NTU RGB+D's masked depth maps.
        seed: person `number` is a function of the domain, this seed and the number.
        jpeg_quality: 1..100.
    """

    domain: Literal["indoor", "wild"] = Field("indoor", description="indoor (RGB and depth, a room) or wild (RGB, outdoors)")
    size: int = Field(128, ge=32, le=2048, description="side of the square image, 32 to 2048 pixels")
    masked_depth: bool = Field(True, description="depth is zero outside the person: true or false")
    seed: int = Field(0, description="which people; the same seed and number are the same person")
    jpeg_quality: int = Field(JPEG_QUALITY, ge=1, le=100, description="of RGB, 1 to 100")
