"""Files of ViT weights under other names than timm's, and of other image sizes.

timm's own filters read the names of DINO, DINOv2, DINOv3, MAE and Sapiens2, and resize tables of positions. The names
of OpenMMLab's backbones, which Sapiens and ViTPose have, are read here; source: mmpretrain,
`mmpretrain/models/backbones/vision_transformer.py`.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from timm.layers import resample_abs_pos_embed
from torch import Tensor

_CUT = "patch_embed.proj.weight"
_MM_CUT, _MM_FIRST = "patch_embed.projection.weight", "layers.0.ln1.weight"
# In this order: a block's MLP has numbered layers as well.
_MM_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
        (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
        (r"^layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2."),
        (r"^layers\.(\d+)\.", r"blocks.\1."),
        (r"^ln1\.", "norm."),
    )
]


def timm_names(
    model: Any, position_grid: tuple[int, int] | None = None
) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Return a function that gives a file's tensors the names and sizes of a ViT of timm, under whatever prefix.

    Tables of positions are resized as timm does. The function raises ValueError for patches of another size, and for
    positions that are not the grid that they should be.

    Args:
        model: timm's ViT.
        position_grid: rows and columns of the file's table of positions; None: as many rows as columns.
    """

    def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        converted = dict(tensors)
        for cut in (_CUT, _MM_CUT):
            for prefix in [key.removesuffix(cut) for key in tensors if key == cut or key.endswith(f".{cut}")]:
                inside = {key: value for key, value in tensors.items() if key.startswith(prefix)}
                for key in inside:
                    converted.pop(key, None)
                state = {key.removeprefix(prefix): value for key, value in inside.items()}
                converted |= {prefix + key: value for key, value in _converted(state, model, position_grid).items()}
        return converted

    return convert


def _converted(state: dict[str, Tensor], model: Any, position_grid: tuple[int, int] | None) -> dict[str, Tensor]:
    if _MM_FIRST in state:
        state = {_renamed(key): value for key, value in state.items()}
    patch = next((state[key] for key in (_CUT, _MM_CUT) if key in state and state[key].ndim == 4), None)
    wanted = model.patch_embed.proj.weight.shape[2:]
    if patch is not None and patch.shape[2:] != wanted:
        there, here = (" x ".join(map(str, shape)) for shape in (patch.shape[2:], wanted))
        raise ValueError(f"its patches are {there} pixels, those of the model {here}")
    # DINOv2's files with registers keep a position of the class token, which timm's models add to the token itself;
    # timm's filter does that, and resizes.
    if "pos_embed" in state and model.pos_embed is not None and "register_tokens" not in state:
        state["pos_embed"] = _on_grid(state["pos_embed"], model, position_grid)
    return sys.modules[type(model).__module__].checkpoint_filter_fn(state, model)


def _renamed(key: str) -> str:
    for pattern, name in _MM_NAMES:
        key = pattern.sub(name, key)
    return key


def _on_grid(positions_1NC: Tensor, model: Any, grid: tuple[int, int] | None) -> Tensor:
    """Return the table of positions on the model's grid."""
    before = 0 if model.no_embed_class else model.num_prefix_tokens
    patches = positions_1NC.shape[1] - before
    side = math.isqrt(max(patches, 0))
    rows, columns = grid or (side, side)
    if rows * columns != patches or not patches:
        tokens = f"{before} for the tokens before the patches and {patches} for patches"
        raise ValueError(
            f"it has {positions_1NC.shape[1]} positions, {tokens}, which are not "
            f"{f'{rows} x {columns}' if grid else 'a square'}; set vit.position_grid=[rows, columns] "
            "to the grid of its patches, or args.class_token to what it has"
        )
    return resample_abs_pos_embed(
        positions_1NC, new_size=list(model.patch_embed.grid_size), old_size=[rows, columns], num_prefix_tokens=before
    )
