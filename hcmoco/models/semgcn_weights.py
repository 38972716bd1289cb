"""Load a file of weights into the skeleton encoder, under our own key names or the published ones.

The published names are those of SemGCN (Zhao et al., CVPR 2019): `gconv_input.0.gconv.W`, `gconv_layers.3.gconv2.bn...`
and `gconv_output.W`. The edge weights `e` stand there as one row, over the entries of A + I row by row, as ours do.
"""

import re

from torch import Tensor

from hcmoco.errors import UserError
from hcmoco.models.semgcn import SemGCN
from hcmoco.models.weight_files import WeightsReport, read_tensors

_PUBLISHED = re.compile(
    r"gconv_(?:(?P<stem>input\.0\.)|layers\.(?P<block>\d+)\.gconv(?P<half>[12])\.|(?P<head>output\.))"
    r"(?P<part>gconv\.|bn\.|)(?P<leaf>\w+)"
)
_LEAVES = {"W": "weight", "e": "edges", "bias": "bias"}
_FIRST = "gconv_input.0.gconv.W"


def published_key(key: str) -> str | None:
    """Return our name of a published key, None for any other key."""
    found = _PUBLISHED.fullmatch(key)
    if not found:
        return None
    if found["head"]:
        return f"head.{_LEAVES[found['leaf']]}" if not found["part"] and found["leaf"] in _LEAVES else None
    layer = "stem" if found["stem"] else f"blocks.{found['block']}.{int(found['half']) - 1}"
    if found["part"] == "bn.":
        return f"{layer}.norm.{found['leaf']}"
    return f"{layer}.conv.{_LEAVES[found['leaf']]}" if found["part"] and found["leaf"] in _LEAVES else None


def load_skeleton_weights(net: SemGCN, source: str) -> WeightsReport:
    """Copy a file's weights into the skeleton encoder, all of them or none.

    Args:
        net: the encoder.
        source: path or URI of a file, see `read_tensors`, with an optional `#prefix` of the encoder's keys in it. In
            published names the prefix is found without being told.

    Returns:
        What was taken, and what was left.

    Raises:
        UserError: the file cannot be read, or its keys and shapes do not fit, as those of another joint set.
    """
    path, told, prefix = source.partition("#")
    tensors = read_tensors(path)
    if not told:
        starts = [key.removesuffix(_FIRST) for key in tensors if key.endswith(_FIRST)]
        prefix = starts[0] if len(starts) == 1 else ""
    given = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    wanted = net.state_dict()
    state: dict[str, Tensor] = {}
    for key, value in given.items():
        ours = key if key in wanted else published_key(key)
        if ours in wanted:
            state[ours] = value[0] if ours.endswith(".edges") and value.ndim == 2 else value
    missing = [key for key in wanted if key not in state]
    wrong = [
        f"{key} is {list(value.shape)}, wanted {list(wanted[key].shape)}"
        for key, value in state.items()
        if value.shape != wanted[key].shape
    ]
    if missing or wrong:
        first = wrong[0] if wrong else f"{missing[0]} is missing"
        raise UserError(
            f"weights {source} do not fit the skeleton encoder of {net.joint_set.name}: {first} "
            f"({len(missing)} missing, {len(wrong)} of another shape); give weights of the same joint set and size, or "
            "set model.skeleton.init to null"
        )
    net.load_state_dict(state)
    strange = tuple(key for key in given if key not in wanted and published_key(key) not in wanted)
    others = tuple(key for key in tensors if not key.startswith(prefix))
    return WeightsReport(path, prefix, len(state), other_keys=others + strange)
