"""What of an encoder's settings applies to the one that reads points."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

POINTS = "pointnet2_msg"
"""Name of the encoder that reads depth as points; it is not a timm model."""
MAX_POINTS = 4096
"""Points of a large crop; the paper's number."""
MIN_POINTS = 256
"""Fewest points: a 64th of them, four, is what the last level keeps, and three are interpolated."""
NUM_POINTS = "num_points"


_SETTLED = {"fusion": ("nearest",)}
"""Values that a recorded run has in place of a default."""


class _Settings(Protocol):
    @property
    def args(self) -> dict[str, Any]: ...

    @property
    def init(self) -> str: ...


def check_point_settings(config: _Settings, defaults: Mapping[str, Any]) -> None:
    """Check the settings of an encoder of points.

    Args:
        config: the settings.
        defaults: of its fields; what belongs to encoders of pictures has to be left at them.

    Raises:
        ValueError: a setting that the encoder does not have, or a value that it does not take.
    """
    if strange := [key for key in config.args if key != NUM_POINTS]:
        raise ValueError(f"args: {POINTS} has {NUM_POINTS} alone, not {', '.join(strange)}; leave it out")
    count = config.args.get(NUM_POINTS, MIN_POINTS)
    if isinstance(count, bool) or not isinstance(count, int) or count < MIN_POINTS or count % 64:
        raise ValueError(f"args.{NUM_POINTS} = {count}: must be a multiple of 64, at least {MIN_POINTS}")
    for key in ("in_chans", "fusion", "conv_init"):
        if getattr(config, key) not in (defaults[key], *_SETTLED.get(key, ())):
            raise ValueError(f"{key} is of encoders of pictures, {POINTS} reads points; leave it at {defaults[key]}")
    if config.init == "timm":
        raise ValueError(f"init=timm: timm publishes no weights for {POINTS}; use scratch or a weights file")


def points_of_crop(args: Mapping[str, Any], size: int) -> int:
    """Return how many points are drawn of a crop: as many as `args` says, or a ninth of its pixels as a power of 2.

    A person fills about a third of a crop, so that is about every third pixel of the person.

    Args:
        args: of the encoder.
        size: side of the crop, pixels.
    """
    ninth = 2 ** int(math.log2(max(1, size * size // 9)))
    return int(args.get(NUM_POINTS, min(MAX_POINTS, max(MIN_POINTS, ninth))))
