"""Copy a batch's arrays to the device that trains, without anybody waiting for it.

A copy is begun where the batch is made, in a thread of the loader, while earlier steps compute. It goes through pinned
memory, on a stream of its own, and the step that needs it lets its own stream wait for it. PyTorch keeps freed pinned
buffers and hands them out again once the copies from them are done, so a run allocates them in its first steps alone
(https://docs.pytorch.org/docs/stable/notes/cuda.html#use-pinned-memory-buffers). On a CPU nothing is copied: a tensor
shares the array's memory.

A step asks for the copy of an array by `send`, and need not know whether one was begun.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hcmoco.data.device_decode import decode
from hcmoco.data.encoded_images import EncodedImages

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class _Copy:
    """A copy that was begun.

    Attributes:
        array: what was copied. It must not be written to as long as it is a batch's.
        tensor: the copy.
        device: as it was asked for.
        ready: set once the copy is complete; None on a CPU.
    """

    array: weakref.ref[np.ndarray | EncodedImages]
    tensor: Tensor
    device: torch.device
    ready: torch.cuda.Event | None

    def taken(self) -> Tensor:
        """The copy, for the stream that computes: that waits for it, and keeps its memory until it has read it."""
        if self.ready is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.ready)
            self.tensor.record_stream(stream)
        return self.tensor


# By the array's address; an array that is gone takes its entry, and with it the copy, along.
_begun: dict[int, _Copy] = {}


def begin(batch: BatchT, device: torch.device, *, also_on_cpu: bool = False) -> BatchT:
    """Begin to copy all arrays of a batch to a device.

    Args:
        batch: a dataclass; arrays in its fields, and in the fields of dataclasses in it, are copied. Encoded pictures
            are decoded on the device, on a CPU too.
        device: as `send` will be given it.
        also_on_cpu: copy on a CPU too, which gains nothing there: what tests compare with.

    Returns:
        The batch itself.
    """
    found = list(_arrays(batch))
    if device.type != "cuda" and not also_on_cpu:
        found = [each for each in found if isinstance(each, EncodedImages)]
    copies, ready = _copied(found, device)
    for array, tensor in zip(found, copies, strict=True):
        key = id(array)
        gone = weakref.ref(array, lambda _, key=key: _begun.pop(key, None))  # type: ignore[misc]
        _begun[key] = _Copy(gone, tensor, device, ready)
    return batch


def _copied(
    arrays: list[np.ndarray | EncodedImages], device: torch.device
) -> tuple[list[Tensor], torch.cuda.Event | None]:
    """Copies of arrays, and what is set once they are complete."""
    if device.type != "cuda":
        return [_copy(each, device) for each in arrays], None
    stream, ready = _stream(device), torch.cuda.Event()
    with torch.cuda.stream(stream):
        copies = [_copy(each, device) for each in arrays]
        ready.record(stream)
    return copies, ready


def _copy(array: np.ndarray | EncodedImages, device: torch.device) -> Tensor:
    """A tensor of its own memory on the device."""
    if isinstance(array, EncodedImages):
        return decode(array, device)
    tensor = _host_tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.clone()


def send(array: np.ndarray | EncodedImages, device: torch.device) -> Tensor:
    """Return an array as a tensor on the device; nobody waits for the copy.

    Args:
        array: one whose copy was begun, some of its rows (a slice without a step), or any other, which is copied now
            from pinned memory. Encoded pictures arrive decoded.
        device: where to.
    """
    if (copy := _copy_of(array, device)) is not None:
        return copy.taken()
    if isinstance(array, EncodedImages):
        if array.whole is not None and (copy := _copy_of(array.whole, device)) is not None:
            return copy.taken()[array.first : array.first + len(array)]
        return decode(array, device)
    # Of the rows of an array NumPy names the array.
    if isinstance(array.base, np.ndarray) and (copy := _copy_of(array.base, device)) is not None:
        rows = _rows_of(array, array.base)
        if rows is not None:
            return copy.taken()[rows]
    tensor = _host_tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _copy_of(array: np.ndarray | EncodedImages, device: torch.device) -> _Copy | None:
    copy = _begun.get(id(array))
    return copy if copy is not None and copy.array() is array and copy.device == device else None


def _rows_of(part: np.ndarray, whole: np.ndarray) -> slice | None:
    """Which rows of `whole` a view of it is; None if it is another kind of view."""
    if part.shape[1:] != whole.shape[1:] or part.dtype != whole.dtype or part.strides != whole.strides or not part.size:
        return None
    first = (part.ctypes.data - whole.ctypes.data) // whole.strides[0]
    return slice(first, first + len(part))


def _host_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _arrays(value: Any) -> Iterator[np.ndarray | EncodedImages]:
    for field in fields(value):
        each = getattr(value, field.name)
        if isinstance(each, np.ndarray | EncodedImages):
            yield each
        elif is_dataclass(each) and not isinstance(each, type):
            yield from _arrays(each)


# One stream for all copies to a device, whichever thread begins them.
@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
