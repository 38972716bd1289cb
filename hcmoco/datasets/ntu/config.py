"""Config of the NTU RGB+D reader."""

from typing import Literal

from pydantic import Field

from hcmoco.config import Config
from hcmoco.data.codecs import DepthCodec

WIDTH, HEIGHT = 512, 424
"""Pixels of the depth camera, and of every record's source picture."""
COLOR_WIDTH, COLOR_HEIGHT = 1920, 1080
"""Pixels of the color camera, in which skeleton files give color positions."""
TWO_PERSON_ACTIONS = frozenset({*range(50, 61), *range(106, 121)})
"""Actions of two people: mutual actions of NTU RGB+D 60 and of 120."""


class NtuConfig(Config):
    """Where NTU RGB+D is, which of it is read and how it is cropped."""

    source: str = Field(
        description="folder of the download: it holds nturgb+d_rgb and its siblings, or NTURGBD and NTURGBD120 with "
        "them"
    )
    rgb: str = Field("nturgb+d_rgb", description="folder of <tag>_rgb.avi, in the source")
    depth: str = Field("nturgb+d_depth_masked", description="folder of <tag>/MDepth-00000001.png ..., in the source")
    skeletons: str = Field("nturgb+d_skeletons", description="folder of <tag>.skeleton, in the source")
    use: Literal["both", "rgb"] = Field(
        "both",
        description="both (RGB registered onto depth) or rgb (the color picture with its joints; no depth is needed)",
    )
    exclude: str = Field(
        "",
        description="text file with tags to skip, such as the official list of missing skeletons; in the source",
    )
    dataset: Literal[60, 120] = Field(
        120, description="120: every clip that is there; 60: setups 1 to 17 and actions 1 to 60 of them"
    )
    setups: tuple[int, ...] = Field((), description="only these setups, for example 1,2; none given: all")
    performers: tuple[int, ...] = Field((), description="only these performers; none given: all")
    actions: tuple[int, ...] = Field((), description="only these actions; none given: all")
    two_person_actions: bool = Field(False, description="read the clips of actions 50-60 and 106-120, too")
    people: Literal["one", "first"] = Field(
        "one",
        description="one: frames with more than one body are skipped; first: their first body is taken, as in the "
        "published scripts",
    )
    stride: int = Field(
        10, ge=1, le=1000, description="every how many frames one is read: 10 reads frames 10, 20, ... counted from 1"
    )
    split: str = Field("train", min_length=1, description="written into the rows")
    size: int = Field(480, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field(
        "zstd-delta", description="codec of the stored depth; zstd-delta is smaller and decodes in half the time"
    )
    max_residual: float = Field(
        1.0, gt=0, description="a registration whose median residual is larger is refused, pixels of the depth picture"
    )
    max_residual_p90: float = Field(
        3.0, gt=0, description="the same for the residual that 9 of 10 pairs keep below, outliers excluded"
    )
    max_clip_residual: float = Field(
        2.0, gt=0, description="a clip whose own median residual is larger is rejected, pixels of the depth picture"
    )
