"""Pickles are read without being unpickled: what `pickle.dump` wrote reads equal, and everything else is refused."""

import collections
import datetime
import mmap
import pickle
import re
import struct

import numpy as np
import pytest

from hcmoco.datasets.io.pickles import read_pickle
from hcmoco.rng import make_rng
from tests.helpers.mutations import blank, flip_bits, insert, truncate

RNG = make_rng(0, "pickled")
SHARED = [1.0, 2.0]
VALUES = {
    "Pdist_matrix": RNG.random((45, 1), np.float32),
    "fortran": np.asfortranarray(RNG.random((3, 4))),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "big-endian": np.arange(5, dtype=">i2"),
    "point": np.array(5.0),
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "scalar": np.float32(3.5),
    "list": [1.5, -2, 10**30, -(10**30), True, False, None, "\u00e9\u65e5", b"\xff\x00\n'", 300, 70000, 0],
    "nested": ([[0.25], [0.5]], SHARED, SHARED, {}, (), (1,), (1, 2), (1, 2, 3, 4)),
    "long": "x" * 300,
    "bytes": bytes(range(256)) * 2,
}


def assert_equal(found, wanted):
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_equal(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for pair in zip(found, wanted, strict=True):
            assert_equal(*pair)
    else:
        assert found == wanted


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_pickle_writes_reads_equal(protocol):
    assert_equal(read_pickle(pickle.dumps(VALUES, protocol)), VALUES)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_names_of_numpy_1_are_known(protocol):
    """NumPy 2 renamed `numpy.core`; in protocols from 4 on a name has its length in front of it."""
    data = pickle.dumps(VALUES["Pdist_matrix"], protocol)
    older = re.sub(
        rb"(\x8c(.)|c)numpy\._core",
        lambda found: (b"\x8c" + bytes([found[2][0] - 1]) if found[2] else b"c") + b"numpy.core",
        data,
        flags=re.DOTALL,
    )
    assert b"numpy.core" in older
    frame = older.find(b"\x95", 2, 4)
    if frame > 0:
        older = older[: frame + 1] + struct.pack("<Q", len(older) - frame - 9) + older[frame + 9 :]
    assert_equal(read_pickle(older), VALUES["Pdist_matrix"])


def python_2(array: np.ndarray, protocol: int) -> bytes:
    """The dictionary {"Pdist_matrix": array} as Python 2 wrote it: all its texts and bytes are plain strings."""
    raw = array.tobytes()
    code, order = array.dtype.str[1:].encode(), array.dtype.str[:1].encode()
    if protocol == 0:

        def string(value: bytes) -> bytes:
            return b"S" + repr(value)[1:].encode() + b"\n"

        def number(value: int) -> bytes:
            return b"I%d\n" % value

        false, head = b"I00\n", b"(d"
    else:

        def string(value: bytes) -> bytes:
            return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

        def number(value: int) -> bytes:
            return b"J" + struct.pack("<i", value)

        false, head = (b"\x89", b"\x80\x02}") if protocol == 2 else (b"I00\n", b"}")

    def together(*values: bytes) -> bytes:
        return b"(" + b"".join(values) + b"t"

    shape = together(*map(number, array.shape))
    dtype = b"cnumpy\ndtype\n" + together(string(code), number(0), number(1)) + b"R"
    dtype += together(number(3), string(order), b"NNN", number(-1), number(-1), number(0)) + b"b"
    made = b"cnumpy.core.multiarray\n_reconstruct\n" + together(b"cnumpy\nndarray\n", b"(I0\nt", string(b"b")) + b"R"
    return head + string(b"Pdist_matrix") + made + together(number(1), shape, dtype, false, string(raw)) + b"bs."


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_files_of_python_2_are_read_as_latin1(protocol):
    array = RNG.random((100, 1), np.float32)
    data = python_2(array, protocol)
    wanted = pickle.loads(data, encoding="latin1")
    assert_equal(wanted, {"Pdist_matrix": array})
    assert_equal(read_pickle(data), wanted)


def test_arrays_are_views_into_the_mapped_file(tmp_path):
    path = tmp_path / "large.pkl"
    array = RNG.random((1 << 16, 1), np.float32)
    path.write_bytes(python_2(array, 2))
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = read_pickle(data)["Pdist_matrix"]
    whole = np.frombuffer(data, np.uint8)
    assert whole.ctypes.data < found.ctypes.data < whole.ctypes.data + len(whole)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, array)


class Calls:
    """Unpickling it would write a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_called(tmp_path):
    trap = tmp_path / "called"
    data = pickle.dumps({"Pdist_matrix": VALUES["Pdist_matrix"], "more": Calls(str(trap))})
    with pytest.raises(ValueError, match=r"names '(_io|io)\.open', and only NumPy's arrays of numbers are read"):
        read_pickle(data)
    assert not trap.exists()
    pickle.loads(data)["more"].close()
    assert trap.exists(), "else this test proves nothing"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (collections.OrderedDict(a=1), "names 'collections.OrderedDict'"),
        (datetime.date(2020, 1, 1), "names 'datetime.date'"),
        (np.sum, "names 'numpy.sum'"),
        ({1, 2}, "has the instruction EMPTY_SET"),
        (frozenset((1,)), "has the instruction FROZENSET"),
        (np.array([1, None]), "has an array of type 'O8'"),
        (np.zeros(2, [("a", "f4")]), "has an array of type 'V4'"),
        (np.array(["a"]), "has an array of type 'U1'"),
        (np.array(["2020-01-01"], "M8[D]"), "has an array of type 'M8'"),
        (np.array([1j]), "has an array of type 'c16'"),
        (np.dtype("f4"), "holds a class or a type"),
        (np.ndarray, "holds a class or a type"),
    ],
)
def test_other_values_are_refused_by_name(value, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        read_pickle(pickle.dumps(value, 4))


def test_buffers_outside_of_the_file_are_refused():
    data = pickle.dumps(VALUES["Pdist_matrix"], 5, buffer_callback=lambda _: False)
    with pytest.raises(ValueError, match="has the instruction NEXT_BUFFER"):
        read_pickle(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is damaged or cut off"),
        (b"<html></html>", "is damaged, or no pickle: byte 0"),
        (b"\x80\x06N.", "protocol 6; 0 to 5 are read"),
        (b"\x80\x04]\x94h\x00a.", "inside each other without end"),  # a list that holds itself
        (b"\x80\x02cnumpy\nndarray\n)R.", "it calls 'numpy.ndarray'"),
        (b"\x80\x02N", "is damaged or cut off"),
        (b"\x80\x02NN.", "does not end with one value"),
        (b"\x80\x02a.", "is a damaged pickle"),
        (b"\x80\x02}]Ns.", "is a damaged pickle"),
        (b"\x80\x02h\x07.", "is a damaged pickle"),
        (b"\x80\x02\x87.", "is a damaged pickle"),
        (b"\x80\x02T\xff\xff\xff\xff.", "is damaged or cut off"),
    ],
)
def test_damaged_pickles_are_a_line(data, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        read_pickle(data)


def test_lists_inside_lists_cost_what_they_hold():
    """Twenty lists of twice the one before: a million values if each were taken twice."""
    data = b"\x80\x02]" + b"".join(b"q\x00]h\x00ah\x00a" for _ in range(20)) + b"."
    found = read_pickle(b"\x80\x02]" + b"q\x000" + b"".join(b"]h\x00ah\x00aq\x000" for _ in range(20)) + b"h\x00.")
    assert found[0] is found[1]
    with pytest.raises(ValueError, match="does not end with one value"):
        read_pickle(data)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_any_damage_is_a_line(tmp_path, protocol):
    """Cut, changed or filled with zeros: the value, or another of the same kind, or one ValueError."""
    path, whole, said = tmp_path / "d.pkl", pickle.dumps(VALUES, protocol), []
    for number in range(80):
        path.write_bytes(whole)
        (truncate, flip_bits, blank, insert)[number % 4](path, make_rng(0, f"pickle {protocol}", number), None)
        try:
            read_pickle(path.read_bytes())
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 25
    assert not any("\n" in each for each in said)
