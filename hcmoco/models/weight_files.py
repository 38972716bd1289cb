"""Read files of weights: safetensors, or what torch.save wrote of tensors. Nothing is unpickled.

How a file begins tells whether it is of its format and damaged, or of another one: torch.save writes a ZIP archive
(before PyTorch 1.6 pickles, whose first byte is 0x80); safetensors has the length of its header in 8 bytes and then a
JSON object. https://huggingface.co/docs/safetensors (Format).
"""

import io
import pickle
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hcmoco.errors import UserError, one_line
from hcmoco.storage import absolute, base_name, is_local, read_file

# What safetensors, PyTorch's unpickler and its reader of archives raise for damaged files, besides UnpicklingError.
_DAMAGE = (
    SafetensorError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    AssertionError, OverflowError, MemoryError, struct.error,
)  # fmt: skip
# Under which keys a training checkpoint keeps the state of its model.
_WRAPPERS = ("state_dict", "model")
_SAFETENSORS = ".safetensors"
_HRNET = "https://github.com/HRNet/HRNet-Image-Classification"
_IMAGENET = re.compile(r"hrnetv2_w\d+_imagenet_pretrained\.pth")
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


@dataclass(frozen=True)
class WeightsReport:
    """What one file gave an encoder or a whole model. Every loader tells it in the same words.

    Attributes:
        source: the file's path or URI.
        prefix: what stood before the encoder's keys in the file.
        loaded: tensors taken.
        head_keys: keys of the backbone's classification or segmentation head, which a feature pyramid does not have.
        other_keys: keys of the file outside the prefix: other encoders, mappers, detection heads.
        fresh_counters: batch counters of normalization layers that the file, older than they are, does not hold.
        fresh: keys of a part of the encoder that the file does not have at all, whose weights stay as they were drawn.
    """

    source: str
    prefix: str
    loaded: int
    head_keys: tuple[str, ...] = ()
    other_keys: tuple[str, ...] = ()
    fresh_counters: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        under = f" under {self.prefix!r}" if self.prefix else ""
        heads, others = listed(_first_parts(self.head_keys)), listed(_first_parts(self.other_keys))
        named = [f"head {heads}"] * bool(heads) + [f"elsewhere {others}"] * bool(others)
        left = f"{len(self.head_keys) + len(self.other_keys)} left" + (f" ({'; '.join(named)})" if named else "")
        drawn, counters = listed(_first_parts(self.fresh)), len(self.fresh_counters)
        named = [f"drawn: {drawn}"] * bool(drawn) + [f"{counters} batch counters, set to 0"] * bool(counters)
        missing = f"{len(self.fresh) + counters} missing" + (f" ({'; '.join(named)})" if named else "")
        return f"{self.loaded} tensors taken from {self.source}{under}, {left}, {missing}"


def listed(keys: Iterable[str], max_keys: int = 3) -> str:
    """Return the first few of several names, and how many there are."""
    keys = list(keys)
    return ", ".join(keys[:max_keys]) + (f", ... ({len(keys)} in all)" if len(keys) > max_keys else "")


def _first_parts(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in keys))


def read_tensors(source: str) -> dict[str, Tensor]:
    """Return the tensors of a file by key, on the CPU.

    Args:
        source: path or URI of a file as of `parse_tensors`.

    Raises:
        UserError: the file cannot be read, or see `parse_tensors`.
    """
    try:
        data = read_file(source)
    except FileNotFoundError:
        raise UserError(_missing(source)) from None
    except OSError as error:
        raise UserError(f"weights {source} cannot be read: {one_line(error)}") from None
    return parse_tensors(data, base_name(source), f"weights {source}")


def _missing(source: str) -> str:
    """What to do about a file that does not exist. Of HRNet's ImageNet weights it is known where they are."""
    name = base_name(source)
    fetch = f"fetch {name} from {_HRNET} (a link of its README) and put it there" if _IMAGENET.fullmatch(name) else ""
    keys = "imagenet_weights or init of a fine-tuning, model.rgb.init and model.depth.init of a pre-training"
    where = absolute(source) if is_local(source) else source
    looked = "" if where == source else f" (looked for as {where})"
    return (
        f"weights {source} do not exist{looked}; {fetch or 'put the file there'}, or name another file, a run's folder "
        f"or weights in the package ({keys})"
    )


def parse_tensors(data: bytes, name: str, what: str) -> dict[str, Tensor]:
    """Return the tensors of a file's bytes by key, on the CPU.

    Args:
        data: of a file of safetensors, or of a torch file that holds a mapping of tensors, alone or as its entry
            "state_dict" or "model".
        name: of the file; ending in .safetensors it is one, else a torch file.
        what: how messages begin: what the file is for, and where it is.

    Raises:
        UserError: the file is damaged or incomplete, of another format, or holds Python objects or no tensors.
    """
    is_safetensors = name.lower().endswith(_SAFETENSORS)
    if not data:
        raise UserError(f"{what} is empty; copy or download it again")
    try:
        content = (
            safetensors.torch.load(data)
            if is_safetensors
            else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError:
        raise UserError(
            f"{what} is not a torch file, or one that holds more than tensors, which is never unpickled; give a file "
            "that torch.save(model.state_dict(), ...) wrote, or safetensors"
        ) from None
    except _DAMAGE as error:
        if is_safetensors and data[8:9] not in (b"", b"{"):
            raise UserError(
                f"{what} is not a safetensors file, as its name says; give one, or a torch file by another name"
            ) from None
        if not is_safetensors and not data.startswith((_ZIP, _PICKLE)):
            raise UserError(f"{what} is not a torch file; give one, or safetensors by their own name") from None
        reason = one_line(error).partition(". ")[0]  # PyTorch's further sentences are guesses
        raise UserError(
            f"{what} is damaged or incomplete ({len(data):,} bytes: {reason}); copy or download it again"
        ) from None
    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not (
        tensors := {key: value for key, value in content.items() if isinstance(value, Tensor)}
    ):
        raise UserError(f"{what} holds no mapping of names to tensors; save a model's state_dict")
    return tensors
