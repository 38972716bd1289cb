"""Weights from a file (weight_files.py) into an encoder, under timm's, the published or our own key names.

Nothing is loaded in part: a file whose keys and shapes do not cover the encoder is refused with the list.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from hcmoco.errors import UserError
from hcmoco.models.weight_files import WeightsReport, listed, read_tensors


def load_weights(
    trunk: nn.Module,
    source: str,
    *,
    name: str,
    head_names: Callable[[], set[str]] = set,
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None,
    fresh: str | None = None,
) -> WeightsReport:
    """Copies a file's weights into a timm feature pyramid, all of them or none.

    The prefix of the encoder's keys (`module.`, `encoder1.`, `backbone.bottom_up.`, ...) is found by itself. A file
    with several fitting encoders needs it told: `file#encoder2.` (the published checkpoints: encoder1 RGB, encoder2
    depth), `file#` for none.

    Args:
        trunk: what `timm.create_model(..., features_only=True)` returns.
        source: path or URI, see `read_tensors`, with an optional `#prefix`.
        name: what to call the encoder in an error.
        head_names: gives the keys of the backbone's heads, or the first parts of them; called only if the trunk lacks
            keys of the file.
        convert: gives the file's tensors the trunk's names and sizes; raises ValueError for what it cannot.
        fresh: beginning of the keys that a file may lack together; None: it may not lack any.
    Raises:
        UserError: a file that cannot be read, or keys and shapes that do not fit, with the first few and their number.
    """
    path, told, prefix = source.partition("#")
    tensors = read_tensors(path)
    if convert:
        try:
            tensors = convert(tensors)
        except ValueError as error:
            raise UserError(f"weights {source} do not fit {name}: {error}") from None
    wanted = trunk.state_dict()
    optional = [key for key in wanted if fresh and key.startswith(fresh)]
    needed = {key: value for key, value in wanted.items() if key not in set(optional)}
    prefix = prefix if told else _find_prefix(tensors, needed, path)
    state, strange = {}, []
    for key in [key for key in tensors if key.startswith(prefix)]:
        ours = trunk_key(key.removeprefix(prefix), wanted)
        if ours is None:
            strange.append(key)
        else:
            state[ours] = tensors[key]
    heads = head_names() if strange else set()
    head_keys = tuple(
        key for key in strange if not heads.isdisjoint((bare := key.removeprefix(prefix), bare.split(".")[0]))
    )
    unexpected = [key for key in strange if key not in set(head_keys)]
    untouched = tuple(optional) if state.keys().isdisjoint(optional) else ()
    absent = [key for key in wanted if key not in state and key not in set(untouched)]
    counters = tuple(key for key in absent if key.endswith(".num_batches_tracked"))
    problems = {
        "missing": [key for key in absent if key not in set(counters)],
        "unexpected": unexpected,
        "of another shape": [
            f"{key} is {_shape(value)}, wanted {_shape(wanted[key])}"
            for key, value in state.items()
            if value.shape != wanted[key].shape
        ],
    }
    if any(problems.values()):
        problem = "; ".join(f"{len(keys)} {what}: {listed(keys)}" for what, keys in problems.items() if keys)
        raise UserError(
            f"weights {source} do not fit {name}: {problem}; give weights of {name}, or set its init to scratch"
        )
    trunk.load_state_dict(state, strict=False)
    other_keys = tuple(key for key in tensors if not key.startswith(prefix))
    return WeightsReport(path, prefix, len(state), head_keys, other_keys, counters, untouched)


def trunk_key(key: str, wanted: Mapping[str, Tensor]) -> str | None:
    """The trunk's name for a key of the whole backbone.

    Timm flattens the first level of some trunks and wraps others in `model`.
    """
    return next((each for each in (key, key.replace(".", "_", 1), f"model.{key}") if each in wanted), None)


def _find_prefix(tensors: Iterable[str], wanted: Mapping[str, Tensor], path: str) -> str:
    """The prefix under which most keys of the encoder stand. UserError if several hold all of them."""
    counts = Counter(
        ".".join([*key.split(".")[:depth], ""]) for key in tensors for depth in range(1, min(5, key.count(".") + 1))
    )
    candidates = ["", *(prefix for prefix, count in counts.items() if 2 * count >= len(wanted))]
    found = {
        prefix: len({trunk_key(key.removeprefix(prefix), wanted) for key in tensors if key.startswith(prefix)} - {None})
        for prefix in candidates
    }
    complete = [prefix for prefix, count in found.items() if count == len(wanted)]
    # The same tensors, see `trunk_key`.
    complete = [prefix for prefix in complete if prefix.removesuffix("model.") not in {*complete} - {prefix}]
    if len(complete) > 1:
        choices = ", ".join(f"{path}#{prefix}" for prefix in complete)
        raise UserError(f"weights {path} hold {len(complete)} encoders that fit; say which: {choices}")
    return max(found, key=lambda prefix: found[prefix])


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
