"""What a plain ViT has as an encoder beside timm's own arguments, and which of timm's models are plain ViTs."""

from typing import Any, Literal

import timm
from pydantic import Field

from hcmoco.config import Config

# Modules of timm whose models keep one grid of patches from the first block to the last: ViT and DINOv2, DeiT, and
# EVA, DINOv3 and Sapiens2, whose positions are rotary.
_MODULES = ("vision_transformer", "deit", "eva")


class VitConfig(Config):
    """The pyramid on a plain ViT's last map, and how images are cut into patches."""

    pyramid_channels: int = Field(
        256, ge=1, description="channels of each map; source: Li et al., 2022, section 3, as ViTDet has them"
    )
    pyramid_levels: Literal[3, 4] = Field(
        4, description="maps: 4 at strides 4 to 32; 3 at strides 4 to 16, for sides that 16 divides and 32 does not"
    )
    position_grid: tuple[int, int] | None = Field(
        None,
        description="rows and columns of the table of positions in a weights file; null: a square. Sapiens' for poses "
        "(1024 x 768 pixels): [64, 48]; ViTPose's: [16, 12]",
    )
    pixels: Literal["imagenet", "half"] = Field(
        "imagenet",
        description="what a weights file was trained on: RGB less ImageNet's mean over its deviation (DeiT, DINO, MAE, "
        "Sapiens), or half: less 0.5, over 0.5 (timm's ViTs of Google's weights, SigLIP); converted when it loads",
    )
    patch_padding: int = Field(
        0, ge=0, description="pixels of zeros around the image before it is cut; the weights of Sapiens and ViTPose: 2"
    )


def is_plain_vit(name: str) -> bool:
    """Return whether a timm model, with or without a tag, is a plain ViT: one map, at the stride of its patches."""
    return timm.models.is_model_in_modules(name, _MODULES)


def vit_arguments() -> dict[str, Any]:
    """Return the arguments of `timm.create_model` for a plain ViT without a classifier that takes images of any size.

    Its table of positions has the grid of timm's image size, or of `img_size`, and is resized in each pass.
    """
    return {"num_classes": 0, "dynamic_img_size": True}
