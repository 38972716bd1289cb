"""DensePose from RGB: people's boxes, and the part and surface coordinates of every pixel on them."""

from typing import TYPE_CHECKING, Any

from hcmoco.tasks.densepose.config import DensePoseConfig

if TYPE_CHECKING:
    from hcmoco.tasks.densepose.task import DensePose

__all__ = ["DensePose", "DensePoseConfig"]


def __getattr__(name: str) -> Any:
    # Settings are read by every fine-tuning; the detection modules behind the task are loaded where they are used.
    if name == "DensePose":
        from hcmoco.tasks.densepose.task import DensePose

        return DensePose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
