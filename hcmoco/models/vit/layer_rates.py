"""Layer-wise learning rates of a plain ViT: the nearer a block is to the image, the less it changes.

Clark et al., 2020, ELECTRA; for ViTs Bao et al., 2022, BEiT.
"""

from typing import Any


def layer_rates(trunk: Any, decay: float) -> dict[str, float]:
    """Return the learning rate of each layer relative to the encoder's.

    Args:
        trunk: a `PlainVit` with n blocks.
        decay: of block k relative to block k + 1, in (0, 1].

    Returns:
        Names of modules and parameters in the trunk -> decay^(n - k) for block k of 1 to n, decay^n for everything
        before the blocks (patches, positions, tokens). What is not named, the final norm and the pyramid, has the
        encoder's own.
    """
    last = len(trunk.model.blocks)
    rates = {f"model.blocks.{index}": decay ** (last - 1 - index) for index in range(last)}
    after = ("blocks", "norm", "pool", "fc_norm", "head")
    before = dict.fromkeys(
        name.partition(".")[0] for name, _ in trunk.model.named_parameters() if name.partition(".")[0] not in after
    )
    return rates | {f"model.{name}": decay**last for name in before}
