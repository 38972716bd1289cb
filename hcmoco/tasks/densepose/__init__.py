"""DensePose from RGB: people's boxes, and the part and surface coordinates of every pixel on them."""

from hcmoco.tasks.densepose.config import DensePoseConfig
from hcmoco.tasks.densepose.task import DensePose

__all__ = ["DensePose", "DensePoseConfig"]
