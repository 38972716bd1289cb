"""Read depth pictures in the formats that cameras, simulators and labs write. Numbers stay as they are stored.

What they mean is the unit's matter (data/depth_units.py): whole numbers are mostly millimeters, floating point meters.
"""

import math
from io import BytesIO
from pathlib import Path
from tokenize import TokenError

import numpy as np

from hcmoco.data.codecs import decode_depth
from hcmoco.data.containers import MAX_PIXELS, MAX_SIDE, PNG_SIGNATURE, check_whole
from hcmoco.datasets.io.files import path_inside, read_inside
from hcmoco.datasets.io.hdf5 import open_hdf5, read_array
from hcmoco.datasets.io.matlab5 import read_matrices
from hcmoco.datasets.io.pictures import decode_unchanged, read_picture_header
from hcmoco.errors import one_line

SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".npy", ".mat")
FORMATS = "16-bit PNG, 16-bit or floating-point TIFF, EXR, NPY or MAT"
_NPY = b"\x93NUMPY"
_EXR = b"\x76\x2f\x31\x01"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATLAB_5, _MATLAB_73 = b"MATLAB 5.0 MAT-f", b"MATLAB 7.3 MAT-f"
# Simulators name the channel of depth differently.
_EXR_CHANNELS = ("Z", "depth", "Depth", "V", "Y", "R")
_VARIABLE = "depth"
_LARGEST_WHOLE = 1 << 31


def read_depth_file(
    folder: str | Path, name: str, raw_size: tuple[int, int] | None = None, *, upright: bool = False
) -> np.ndarray:
    """Read the depth picture `name` in `folder`, by its content, whatever its name ends in.

    Args:
        folder: the folder.
        name: path of the file relative to it.
        raw_size: width and height of files that end in .raw and hold nothing but 16-bit numbers, row by row and
            little-endian (RealSense's Z16).
        upright: turn a PNG as its orientation says; others declare none. Else pixels come as they are stored.

    Returns:
        [H, W], unsigned or signed whole numbers, or floating point, as stored. Of a MAT file, whose numbers have no
            type that can be trusted, values without fractions are whole numbers.

    Raises:
        ValueError: as `read_inside`; or the file is of another format, damaged, too large, or of several channels.
    """
    data = read_inside(folder, name)
    if name.lower().endswith(".raw"):
        stored = _raw(data, raw_size)
    elif data[:6] == _NPY:
        stored = _npy(data)
    elif data[:4] == _EXR:
        stored = _exr(path_inside(folder, name))
    elif data[:16] == _MATLAB_5:
        stored = _only(read_matrices(data), name)
    elif data[:16] == _MATLAB_73 or data[:8] == _HDF5:
        with open_hdf5(folder, name) as file:
            stored = _whole(read_array(file, _VARIABLE, (None, None)).T)  # MATLAB stores columns first
    elif (header := read_picture_header(data)) is not None:
        if header.channels != 1 or header.bits < 16:
            raise ValueError(not_depth(header.kind))
        stored = decode_unchanged(data, header)
    elif data[:8] != PNG_SIGNATURE and data[:2] != b"\xff\xd8":
        raise ValueError(f"the file is none of what is read as depth: {FORMATS}")
    else:
        declared = check_whole(data)
        if declared.format != "png" or declared.bits != 16 or declared.channels != 1:
            raise ValueError(not_depth(declared.kind))
        stored = decode_depth(data, "png16", upright=upright)
    return _checked(stored)


def not_depth(kind: str) -> str:
    """Return why a picture of `kind` is not read as depth."""
    seen = "; 8 bits are a picture of depth to look at, not its readings" if " 8 bits" in kind else ""
    return f"depth must be a {FORMATS}, of one channel, this is {kind}{seen}"


def _checked(stored: np.ndarray) -> np.ndarray:
    stored = stored.squeeze() if stored.ndim == 3 and 1 in stored.shape else stored
    if stored.ndim != 2 or stored.dtype.kind not in "uif" or not stored.size:
        raise ValueError(f"depth must be one number a pixel, this is {stored.dtype} {list(stored.shape)}")
    height, width = stored.shape
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ValueError(f"the depth picture is {width} x {height} pixels; at most {MAX_SIDE} a side are read")
    if stored.dtype == np.float16:
        stored = stored.astype(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _raw(data: bytes, size: tuple[int, int] | None) -> np.ndarray:
    if size is None:
        raise ValueError("a raw depth picture has no size of its own; give the depth camera in camera.json")
    if len(data) != 2 * size[0] * size[1]:
        raise ValueError(
            f"the raw depth picture has {len(data)} bytes, a depth camera of {size[0]} x {size[1]} pixels "
            f"gives {2 * size[0] * size[1]}"
        )
    return np.frombuffer(data, "<u2").reshape(size[1], size[0])


def _npy(data: bytes) -> np.ndarray:
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if dtype.kind not in "uif" or math.prod(shape) > MAX_PIXELS:
            raise ValueError(f"depth must be one number a pixel, this is {dtype} {list(shape)}")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OverflowError, TypeError, SyntaxError, TokenError) as error:  # the header is Python
        raise ValueError(f"the NPY cannot be read: {one_line(error)}") from None


def _exr(path: Path) -> np.ndarray:
    import OpenEXR

    try:
        file = OpenEXR.File(str(path), separate_channels=True)
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the library's own classes, and what it makes of damage
        raise ValueError(f"the EXR cannot be read: {one_line(error)}") from None
    named = [name for name in channels if name.rpartition(".")[2] in _EXR_CHANNELS]
    if len(channels) == 1:
        named = list(channels)
    named = named if len(named) == 1 else [each for each in named if each.rpartition(".")[2] == "Z"]
    if len(named) == 1:
        return channels[named[0]]
    # Blender and others write the same distance as R, G and B.
    first, *others = channels.values() or (np.empty(0),)
    if others and all(np.array_equal(first, each) for each in others):
        return first
    raise ValueError(f"the EXR has the channels {', '.join(channels)}; one named Z, or a single one, is depth")


def _only(matrices: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The matrix named depth, or the only one."""
    found = matrices.get(_VARIABLE)
    if found is None and len(matrices) == 1:
        found = next(iter(matrices.values()))
    if found is None:
        raise ValueError(
            f"{name!r} holds {', '.join(sorted(matrices)) or 'no matrix of numbers'}; the variable must be called depth"
        )
    return _whole(found)


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers as such: MATLAB keeps them as doubles, and stores doubles as whole numbers."""
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    return values.astype(np.int64) if whole and np.abs(values).max(initial=0) < _LARGEST_WHOLE else values
