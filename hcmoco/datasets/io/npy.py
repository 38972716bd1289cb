"""What NumPy raises for damaged .npy and .npz files.

A header is a Python literal, which NumPy tokenizes and evaluates safely; an .npz is a zip archive. Each layer has its
own errors.
"""

import struct
import zlib
from tokenize import TokenError
from zipfile import BadZipFile

NPY_DAMAGE = (
    OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, KeyError, NotImplementedError,
    RuntimeError, IndexError, AttributeError, TokenError, BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""Errors of `numpy.load` for damaged files, and of reading an array of an .npz."""
