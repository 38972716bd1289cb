"""Read files of weights: safetensors, or what torch.save wrote of tensors. Nothing is unpickled.

How a file begins tells whether it is of its format and damaged, or of another one: torch.save writes a ZIP archive
(before PyTorch 1.6 pickles, whose first byte is 0x80); safetensors has the length of its header in 8 bytes and then a
JSON object. https://huggingface.co/docs/safetensors (Format).
"""

import io
import pickle
import re
import struct

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hcmoco.errors import UserError, one_line
from hcmoco.storage import base_name, read_file

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
    return f"weights {source} do not exist; {fetch or 'put the file there'}, or name another file ({keys})"


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
