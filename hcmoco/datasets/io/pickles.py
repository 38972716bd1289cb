"""Read arrays, lists and numbers from a pickle without unpickling it.

A pickle is a program. Here its instructions are carried out on plain values alone: nothing is imported and nothing of
the file is called. What NumPy writes for arrays of numbers is recognized by name (pickled_numpy.py); every other name
is refused. Arrays are views into the file's bytes, so a mapped file of gigabytes takes no memory.

Format: all protocols, 0 to 5, as Python's module `pickletools` describes them.
"""

import codecs
import struct
from collections.abc import Callable
from mmap import mmap
from pickletools import opcodes
from typing import Any

from hcmoco.datasets.io.pickled_numpy import NAMES, Name, OldString, PickledArray, PickledType, call, text_of

_MAX_DEPTH = 64
_PIECE = 1 << 16  # bytes that are searched at once for the end of a line

_INSTRUCTIONS = {known.code.encode("latin1"): known.name for known in opcodes}
# The instructions in front of whose value stands how many bytes it has, and the form of that number.
_COUNTED = {
    b"U": "B", b"T": "<i", b"X": "<I", b"\x8c": "B", b"\x8d": "<Q", b"C": "B", b"B": "<I", b"\x8e": "<Q",
    b"\x96": "<Q", b"\x8a": "B", b"\x8b": "<i",
}  # fmt: skip
_UNICODE, _BYTES, _LONGS = (b"X", b"\x8c", b"\x8d"), (b"C", b"B", b"\x8e", b"\x96"), (b"\x8a", b"\x8b")
_NUMBERS = {b"J": "<i", b"K": "B", b"M": "<H", b"G": ">d"}
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS, _GETS = {b"q": "B", b"r": "<I"}, {b"h": "B", b"j": "<I"}
_LINES: dict[bytes, Callable[[bytes], Any]] = {
    b"I": lambda line: line == b"01" if line in (b"00", b"01") else int(line),
    b"L": lambda line: int(line.removesuffix(b"L")),
    b"F": float,
    b"S": lambda line: _quoted(line),
    b"V": lambda line: line.decode("raw-unicode-escape"),
}


def read_pickle(data: bytes | mmap) -> Any:
    """Return the value of a pickle: arrays of numbers, lists, tuples, dictionaries, texts, bytes, numbers, None.

    Args:
        data: bytes of the file, or the mapped file. Arrays are read-only views into them. Strings of Python 2 are read
            as Latin-1 texts, as Python 3 does with encoding="latin1".

    Raises:
        ValueError: the pickle is damaged or cut off, or it holds anything else, which the message names.
    """
    try:
        return _plain(_Machine(memoryview(data)).run(), {}, _MAX_DEPTH)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError, struct.error) as error:
        raise ValueError(f"is a damaged pickle ({type(error).__name__}: {error})") from None


class _Machine:
    """The stack, the marks on it, and the numbered values of a pickle that is being read."""

    def __init__(self, data: memoryview):
        self.data, self.position = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := bytes(self.take(1))) != b".":
            self.step(code)
        if len(self.stack) != 1 or self.marks:
            raise ValueError("is a damaged pickle (it does not end with one value)")
        return self.stack[0]

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.position:
            raise ValueError("is damaged or cut off: a value is longer than the rest of the file")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        found, start = -1, self.position
        while found < 0:
            piece = bytes(self.data[start : start + _PIECE])
            if not piece:
                raise ValueError("is damaged or cut off: a line has no end")
            found, start = piece.find(b"\n"), start + len(piece)
        end = start - len(piece) + found
        return bytes(self.take(end + 1 - self.position)[:-1])

    def marked(self) -> list[Any]:
        """Take what is above the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def step(self, code: bytes) -> None:
        stack = self.stack
        if code in _NUMBERS:
            stack.append(self.number(_NUMBERS[code]))
        elif code in _COUNTED:
            stack.append(self.counted(code))
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _LINES:
            stack.append(_LINES[code](self.line()))
        elif code in _TUPLES:
            values = tuple(stack[-_TUPLES[code] :])
            if len(values) != _TUPLES[code]:
                raise IndexError("no values for a tuple")
            stack[-len(values) :] = [values]
        elif code in _PUTS:
            self.memo[self.number(_PUTS[code])] = stack[-1]
        elif code in _GETS:
            stack.append(self.memo[self.number(_GETS[code])])
        elif code in _OTHERS:
            _OTHERS[code](self)
        elif code in _INSTRUCTIONS:
            raise ValueError(f"has the instruction {_INSTRUCTIONS[code]}, which arrays and lists of numbers lack")
        else:
            raise ValueError(f"is damaged, or no pickle: byte {self.position - 1} is no instruction of one")

    def counted(self, code: bytes) -> Any:
        value = self.take(self.number(_COUNTED[code]))
        if code in _UNICODE:
            return str(value, "utf-8", "surrogatepass")
        if code in _BYTES:
            return value
        return int.from_bytes(value, "little", signed=True) if code in _LONGS else OldString(value)

    def protocol(self) -> None:
        if (protocol := self.number("B")) > 5:
            raise ValueError(f"is a pickle of protocol {protocol}; 0 to 5 are read")

    def name(self, module: Any, name: Any) -> None:
        text = Name(f"{module} {name}")
        if text not in NAMES:
            raise ValueError(f"names {f'{module}.{name}'[:80]!r}, and only NumPy's arrays of numbers are read")
        self.stack.append(text)

    def name_of_lines(self) -> None:
        module = self.line().decode()
        self.name(module, self.line().decode())

    def name_of_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def append(self) -> None:
        value = self.stack.pop()
        _of(self.stack[-1], list).append(value)

    def appends(self) -> None:
        values = self.marked()
        _of(self.stack[-1], list).extend(values)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _of(self.stack[-1], dict)[_key(key)] = value

    def set_items(self) -> None:
        values = self.marked()
        _of(self.stack[-1], dict).update(_pairs(values))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(_of(function, Name), _of(arguments, tuple)))

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(built := self.stack[-1], PickledArray | PickledType):
            raise TypeError(f"a state of a {type(built).__name__}")
        built.build(state)


_OTHERS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _Machine.protocol,
    b"\x95": lambda machine: machine.number("<Q"),  # the length of what follows, which is not needed
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"0": lambda machine: machine.stack.pop(),
    b"]": lambda machine: machine.stack.append([]),
    b"}": lambda machine: machine.stack.append({}),
    b"t": lambda machine: machine.stack.append(tuple(machine.marked())),
    b"l": lambda machine: machine.stack.append(machine.marked()),
    b"d": lambda machine: machine.stack.append(dict(_pairs(machine.marked()))),
    b"p": lambda machine: machine.memo.__setitem__(int(machine.line()), machine.stack[-1]),
    b"g": lambda machine: machine.stack.append(machine.memo[int(machine.line())]),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"\x94": lambda machine: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    b"c": _Machine.name_of_lines,
    b"\x93": _Machine.name_of_stack,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}


def _quoted(line: bytes) -> OldString:
    """A string of Python 2 between quotes, with the escapes of its source code."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("is a damaged pickle (a string without quotes)")
    return OldString(codecs.escape_decode(line[1:-1])[0])


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return [(_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]


def _key(key: Any) -> Any:
    return text_of(key) if isinstance(key, OldString) else _of(key, str, int, float)


def _of(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"a {type(value).__name__} where a {kinds[0].__name__} belongs")
    return value


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """The value without the classes of this reader. `done` holds converted parts, so that shared ones stay shared."""
    if isinstance(value, PickledArray):
        if value.value is None:
            raise ValueError("is a damaged pickle (an array without content)")
        return value.value
    if isinstance(value, OldString):
        return text_of(value)
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, Name | PickledType):
        raise ValueError("holds a class or a type in the place of numbers")
    if not isinstance(value, list | tuple | dict):
        return value
    if not depth:
        raise ValueError("is a pickle of values inside each other without end")
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _plain(each, done, depth - 1) for key, each in value.items()}
        else:
            done[id(value)] = type(value)(_plain(each, done, depth - 1) for each in value)
    return done[id(value)]
