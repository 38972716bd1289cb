"""Find where a step asks the device for a value, for the host then waits until the device has caught up.

On a GPU PyTorch itself raises (`torch.cuda.set_sync_debug_mode`). On a CPU nothing waits, but the same calls are made:
`HostSyncs` lists those that would wait on a GPU.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks._results import ROOT

# Operators whose result, or its shape, the host has to know.
_VALUES = frozenset(
    {
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
    }
)
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
# Functions that copy to the host, or from pageable memory to a device. A CPU's tensors are there already, so no
# operator is called.
_TO_HOST = {Tensor.tolist: "tolist", Tensor.numpy: "numpy", Tensor.cpu: "cpu", Tensor.__array__: "__array__"}
_FROM_HOST = {torch.tensor: "tensor", torch.as_tensor: "as_tensor", torch.asarray: "asarray"}
# Functions of the project whose tensors lie on the host, whatever the device.
_ON_HOST = frozenset({"hcmoco/models/lane_draws.py:_torch_state"})


class HostSyncs:
    """A context in which the calls that would wait for a GPU are listed.

    Attributes:
        found: (what was called, `file:line` of the project that called it), in order.
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._modes = (_Operators(self.found), _Functions(self.found))

    def __enter__(self) -> "HostSyncs":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Operators(TorchDispatchMode):
    def __init__(self, found: list[tuple[str, str]]):
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        repeats = name == "repeat_interleave" and isinstance(args[-1], Tensor) and kwargs.get("output_size") is None
        if name in _VALUES or repeats or (name in _INDEXING and _has_mask(args[1])):
            _note(self._found, name)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    def __init__(self, found: list[tuple[str, str]]):
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if name := self._waits(func, args, kwargs):
            _note(self._found, name)
        return func(*args, **kwargs)

    def _waits(self, func: Any, args: Any, kwargs: Any) -> str | None:
        if func in _TO_HOST:
            return _TO_HOST[func]
        if func in _FROM_HOST and kwargs.get("device") is not None and not isinstance(args[0], Tensor):
            return _FROM_HOST[func]
        if func is Tensor.new_tensor:
            return "new_tensor"
        if func is not Tensor.to:
            return None
        named = any(isinstance(each, str | torch.device) for each in (*args[1:], kwargs.get("device")))
        blocking = not kwargs.get("non_blocking") and not any(each is True for each in args[1:])
        return "to a device, blocking" if named and blocking else None


def _has_mask(indices: Any) -> bool:
    return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in indices)


def _note(found: list[tuple[str, str]], name: str) -> None:
    """Note the innermost line of the project that is being run; of a backward pass the one that began it."""
    frame = sys._getframe(1)
    while frame is not None and not of_project(Path(frame.f_code.co_filename)):
        frame = frame.f_back
    if frame is None:
        return found.append((name, "outside the project"))
    file = Path(frame.f_code.co_filename).relative_to(ROOT)
    if f"{file}:{frame.f_code.co_name}" not in _ON_HOST:
        found.append((name, f"{file}:{frame.f_lineno}"))


def of_project(path: Path) -> bool:
    """True for a file of the project itself: not of a library in an environment that lies in the checkout, and not
    this one.

    Args:
        path: of a line that is being run.
    """
    if not path.is_relative_to(ROOT) or path == Path(__file__):
        return False
    return not {"site-packages", "dist-packages"} & set(path.relative_to(ROOT).parts)


@contextmanager
def forbidden(device: torch.device) -> Iterator[None]:
    """A context in which nothing may wait for the device.

    Raises:
        RuntimeError: something did, with the line.
    """
    if device.type == "cuda":
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
        return
    with HostSyncs() as syncs:
        yield
    if syncs.found:
        raise RuntimeError("; ".join(f"{name} at {line} waits for a GPU" for name, line in dict.fromkeys(syncs.found)))
