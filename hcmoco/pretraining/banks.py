"""The memory banks of a run, and how much memory they take."""

import torch

from hcmoco.objectives import MODALITIES, Bank, ObjectiveConfig, choose_members, new_bank
from hcmoco.rng import make_rng


def make_banks(
    config: ObjectiveConfig, *, samples: int, width: int, seed: int, device: torch.device | str
) -> dict[str, Bank]:
    """Make the banks that a run starts with, the same on every worker, whatever their number.

    Args:
        config: of the objective.
        samples: people of the run, in all its data sets.
        width: of an embedding.
        seed: of the run; which people a bounded bank holds depends on it and on the number of samples alone, and is the
            same for all modalities.
        device: where the banks live.

    Returns:
        Modality -> its bank; empty where the objective has none.
    """
    if not config.needs_bank:
        return {}
    members = choose_members(samples, config.bank_rows, make_rng(seed, "bank members"))
    return {
        name: new_bank(config, samples, width, make_rng(seed, "bank", number), device, members)
        for number, name in enumerate(MODALITIES)
    }


def bank_size(config: ObjectiveConfig, samples: int) -> int:
    """Return the rows of each bank; 0 where the objective has none."""
    return min(samples, config.bank_rows or samples) if config.needs_bank else 0


def bank_bytes(config: ObjectiveConfig, *, samples: int, width: int) -> int:
    """Return the bytes of all banks of one worker: per row and modality a float32 embedding, whether it was visited,
    and its place in the order of visits. A train state holds as many."""
    size = bank_size(config, samples)
    return len(MODALITIES) * (size * (4 * width + 1 + 8) + 16) if size else 0
