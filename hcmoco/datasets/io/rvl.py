"""Decode depth that is compressed as RVL: A. D. Wilson, "Fast Lossless Depth Image Compression", ISS 2017.

Pixels are read row by row, as runs: a number of zeros, a number of readings, and for each of these the difference to
the reading before, of the whole picture. A difference d is stored as 2 d, or -2 d - 1 if it is negative. Each number is
written in groups of 3 bits, the lowest first, in nibbles whose highest bit says that another one follows. Nibbles fill
words of 32 bits from the highest one down; words are little-endian, the last one is filled up with zeros.
"""

import numpy as np

from hcmoco.data.containers import check_dimensions

_MOST_NIBBLES = 11  # of a number below 2^31


def decode_rvl(data: bytes, width: int, height: int) -> np.ndarray:
    """Decode one picture.

    Args:
        data: the compressed runs alone, in whole words.
        width, height: of the picture, pixels.

    Returns:
        uint16 [height, width], 0 = no reading.

    Raises:
        ValueError: the data are cut short or damaged, or the picture is too large.
    """
    check_dimensions("RVL picture", width, height)
    numbers = _numbers(data)
    listed = numbers.tolist()
    size, at, read = width * height, 0, 0
    runs: list[tuple[int, int, int]] = []  # pixel and number of its first reading, how many there are
    while at < size:
        if read + 2 > len(listed):
            raise ValueError("the RVL picture is truncated")
        zeros, count = listed[read], listed[read + 1]
        if at + zeros + count > size or read + 2 + count > len(listed) or not zeros + count:
            raise ValueError("the RVL picture is damaged or truncated")
        runs.append((at + zeros, read + 2, count))
        at += zeros + count
        read += 2 + count
    pixels, firsts, counts = np.array(runs).T
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    folded = numbers[np.repeat(firsts, counts) + inside]
    readings = np.cumsum((folded >> 1) ^ -(folded & 1))
    if len(readings) and not 0 < readings.min() <= readings.max() <= np.iinfo(np.uint16).max:
        raise ValueError("the RVL picture is damaged: its readings are no numbers of 16 bits")
    values = np.zeros(size, np.uint16)
    values[np.repeat(pixels, counts) + inside] = readings
    return values.reshape(height, width)


def _numbers(data: bytes) -> np.ndarray:
    """int64 [N], all numbers of the stream; zeros that fill the last word count, too."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    nibbles = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).ravel().astype(np.int64)
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > _MOST_NIBBLES:
        raise ValueError("the RVL picture is damaged: it has a number of more than 32 bits")
    used = nibbles[: ends[-1] + 1] if len(ends) else nibbles[:0]
    position = np.arange(len(used)) - np.repeat(starts, lengths)
    return np.add.reduceat((used & 7) << (3 * position), starts) if len(starts) else used
