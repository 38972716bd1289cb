"""Names that tensors of torchvision's R-CNNs had before torchvision 0.13, as in the files that were released then."""

from collections.abc import Mapping

from torch import Tensor


def old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under their old names."""
    renamed = {"rpn.head.conv.0.0.weight": "rpn.head.conv.weight", "rpn.head.conv.0.0.bias": "rpn.head.conv.bias"}
    for number in range(4):
        for kind in ("weight", "bias"):
            for blocks in ("inner_blocks", "layer_blocks"):
                renamed[f"backbone.fpn.{blocks}.{number}.0.{kind}"] = f"backbone.fpn.{blocks}.{number}.{kind}"
            renamed[f"roi_heads.mask_head.{number}.0.{kind}"] = f"roi_heads.mask_head.mask_fcn{number + 1}.{kind}"
    return {renamed.get(name, name): value for name, value in state.items()}
