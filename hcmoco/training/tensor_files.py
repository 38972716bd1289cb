"""Write named tensors as a safetensors file, one tensor at a time: never a second copy of all of them in memory.

Format: 8 bytes, little endian, with the length of the header; the header, JSON of name -> dtype, shape and offsets,
padded with spaces to a multiple of 8; the bytes of the tensors. See https://huggingface.co/docs/safetensors (Format).
The library's own writer takes all tensors as one block of bytes, or a path on a local disk.
"""

import json
from collections.abc import Mapping
from typing import Protocol

import torch

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Bytes that are handed on at a time, so that a digest and an upload go beside each other in small pieces.
_BLOCK = 16 << 20


class Sink(Protocol):
    """Something that bytes are written to."""

    def write(self, data: bytes, /) -> object: ...


def write_tensors(sink: Sink, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors in the safetensors format.

    Args:
        sink: takes the bytes in order.
        tensors: by name, on any device and in any memory layout.

    Raises:
        KeyError: a dtype that the format does not have.
    """
    # The widest first, as the library has it, so that every tensor begins at a multiple of its width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, end = {}, 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sink.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        data = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        for start in range(0, len(data), _BLOCK):
            sink.write(data[start : start + _BLOCK].tobytes())
