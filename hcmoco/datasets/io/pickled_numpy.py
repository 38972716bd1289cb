"""What NumPy writes into a pickle for arrays of numbers: types, arrays, single numbers.

A pickle names functions. `call` does for the few of NumPy what they would do, on bytes of the file; it calls none.
Source: NumPy, `ndarray.__reduce_ex__`, `dtype.__reduce__` and `numpy._core.numeric._frombuffer`.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_DTYPE = re.compile(r"[biuf][1248]")
_MAX_AXES = 32


class Name(NamedTuple):
    """A function or class that the pickle names; it is never imported."""

    text: str


NAMES = frozenset(
    Name(f"{package}.{function}")
    for package in ("numpy.core", "numpy._core")
    for function in ("multiarray _reconstruct", "multiarray scalar", "numeric _frombuffer")
) | {Name("numpy ndarray"), Name("numpy dtype"), Name("_codecs encode"), Name("__builtin__ bytes")}
"""The names that arrays of numbers need: module and name, with a blank between them."""


class OldString(NamedTuple):
    """A string of Python 2, text or bytes."""

    data: memoryview | bytes


class PickledType:
    """A type of numbers; complete once its byte order has been read."""

    def __init__(self, code: str):
        self.code, self.order = code, ""

    def build(self, state: Any) -> None:
        """Take the byte order from the state that the pickle gives the type."""
        _, order, *rest = _of(state, tuple)
        if any(each is not None for each in rest[:3]):
            raise ValueError("has an array of structures; arrays of numbers are read")
        self.order = text_of(order)
        if self.order not in ("<", ">", "|") or (self.order == "|" and self.code[1] != "1"):
            raise ValueError(f"is a damaged pickle (an array's byte order is {self.order[:8]!r})")

    @property
    def value(self) -> np.dtype:
        """The NumPy type."""
        if not self.order:
            raise ValueError("is a damaged pickle (an array's byte order is missing)")
        return np.dtype(self.order + self.code)


class PickledArray:
    """An array; its value is None until its content has been read."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Take shape, type and content from the state that the pickle gives the array."""
        _, shape, dtype, fortran, raw = _of(state, tuple)
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def call(name: Name, arguments: tuple) -> Any:
    """Return what a function of NAMES makes of its arguments.

    Raises:
        ValueError: the result would not be an array of numbers.
        TypeError: arguments that the function does not take.
    """
    function = _CALLS.get(name.text.partition(" ")[2])
    if function is None:
        raise ValueError(f"is a damaged pickle (it calls {name.text.replace(' ', '.')!r})")
    return function(*arguments)


def text_of(value: Any) -> str:
    """Return a text, or a string of Python 2 read as Latin-1; TypeError for anything else."""
    return str(value.data, "latin1") if isinstance(value, OldString) else _of(value, str)


def _dtype(code: Any, *_: Any) -> PickledType:
    text = text_of(code)
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"has an array of type {text[:20]!r}; arrays of numbers are read")
    return PickledType(text)


def _reconstruct(kind: Any, *_: Any) -> PickledArray:
    if kind != Name("numpy ndarray"):
        raise ValueError("is a damaged pickle (an array of an unknown class)")
    return PickledArray()


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, (1,), "C")[0]


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as Python 3 writes them in protocols 0 to 2."""
    if encoding != "latin1":
        raise ValueError(f"is a damaged pickle (bytes in the encoding {str(encoding)[:20]!r})")
    return _of(text, str).encode("latin1")


def _no_bytes() -> bytes:
    """Empty bytes, as Python 3 writes them in protocols 0 to 2."""
    return b""


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """An array of protocol 5; with `axes` its content is stored transposed."""
    if axes is None:
        return _array(raw, dtype, shape, _of(order, str))
    if sorted(axes) != list(range(len(shape))):
        raise ValueError("is a damaged pickle (the axes of an array)")
    return _array(raw, dtype, shape, "C").transpose(axes)


_CALLS: dict[str, Callable[..., Any]] = {
    "dtype": _dtype,
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "encode": _encode,
    "bytes": _no_bytes,
    "_frombuffer": _from_buffer,
}


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    data = raw.data if isinstance(raw, OldString) else raw
    kind, sides = _of(dtype, PickledType).value, _of(shape, tuple)
    if not isinstance(data, memoryview | bytes) or order not in ("C", "F"):
        raise ValueError("has an array of other things than numbers")
    if len(sides) > _MAX_AXES or not all(type(side) is int and side >= 0 for side in sides):
        raise ValueError("is a damaged pickle (the shape of an array)")
    if math.prod(sides) * kind.itemsize != len(data):
        raise ValueError(f"is damaged: an array of {list(sides)} {kind} has {len(data)} bytes")
    found = np.frombuffer(data, kind).reshape(sides, order="F" if order == "F" else "C")
    found.setflags(write=False)
    return found


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value
