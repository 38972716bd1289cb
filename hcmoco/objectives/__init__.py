"""The objective: each term a function of tensors, the memory bank, and their weighted sum.

Nothing here draws a random number or reads a value from the device; draws are arguments.
"""

from hcmoco.data.schema import MODALITIES
from hcmoco.objectives.config import ObjectiveConfig, ReleaseOptions
from hcmoco.objectives.dense import dense_intra, soft_target
from hcmoco.objectives.loss_terms import Terms
from hcmoco.objectives.memory_bank import (
    Bank,
    Drawn,
    DrawnPerSample,
    Stale,
    bank_state,
    choose_members,
    load_bank_state,
)
from hcmoco.objectives.objective import (
    dense_terms,
    draw_shape,
    new_bank,
    sample_terms,
    sparse_terms,
    total,
    update_banks,
    weight_of,
)
from hcmoco.objectives.sample import sample_level
from hcmoco.objectives.scope import LOCAL, Scope
from hcmoco.objectives.sparse import joint_inter, joint_intra

__all__ = [
    "LOCAL",
    "MODALITIES",
    "Bank",
    "Drawn",
    "DrawnPerSample",
    "ObjectiveConfig",
    "ReleaseOptions",
    "Scope",
    "Stale",
    "Terms",
    "bank_state",
    "choose_members",
    "dense_intra",
    "dense_terms",
    "draw_shape",
    "joint_inter",
    "joint_intra",
    "load_bank_state",
    "new_bank",
    "sample_level",
    "sample_terms",
    "soft_target",
    "sparse_terms",
    "total",
    "update_banks",
    "weight_of",
]
