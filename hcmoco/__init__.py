"""HCMoCo: contrastive pre-training across RGB, depth and 2D keypoints of people.

This package is the method alone: PyTorch, NumPy and Arrow. It knows no cluster (`hcmoco_ray` does).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcmoco.pretrained import Embedded, Embeddings, Pretrained, load
    from hcmoco.weights import list_weights

__version__ = "0.2.0"
__all__ = ["Embedded", "Embeddings", "Pretrained", "list_weights", "load"]

_HOME = {"list_weights": "hcmoco.weights"}


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: many processes import parts of this package and never PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME.get(name, "hcmoco.pretrained")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
