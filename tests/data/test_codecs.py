import struct
import zlib

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.containers import check_whole, jpeg_segments


def picture(height=48, width=64):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4 % 256, columns * 3 % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)


def depth_image(seed, height=40, width=56):
    rng = np.random.default_rng(seed)
    depth = rng.integers(0, 65536, (height, width)).astype(np.uint16)
    depth[rng.random(depth.shape) < 0.5] = 0
    return depth


def png(samples, bits, color_type, palette=None):
    """A PNG written by hand: one filter-0 row of packed samples each."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape
    rows = b""
    for row in samples:
        packed = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes()
        rows += b"\x00" + packed
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    if palette is not None:
        parts.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


@pytest.mark.parametrize("codec", codecs.DEPTH_CODECS)
@pytest.mark.parametrize("seed", range(4))
def test_depth_survives_exactly(codec, seed):
    depth = depth_image(seed)
    assert np.array_equal(codecs.decode_depth(codecs.encode_depth(depth, codec), codec), depth)


def test_zstd_delta_finds_every_flipped_bit_of_its_payload():
    data = codecs.encode_depth(depth_image(0, 8, 8), "zstd-delta")
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"depth|declared"):
            codecs.decode_depth(bytes(broken), "zstd-delta", size=8)


def test_zstd_delta_declaring_a_huge_picture_is_refused_before_memory_is_taken():
    payload = b"x"
    data = struct.pack("<4sIII", b"hcd1", 2**31, 2**31, zlib.crc32(payload)) + payload
    with pytest.raises(ValueError, match="declares"):
        codecs.decode_depth(data, "zstd-delta")


def test_rgb_channels_keep_their_order():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(codecs.decode_rgb(codecs.encode_rgb(red)).astype(int) - red).max() <= 3


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("color_type", [0, 3])
def test_labels_are_the_stored_numbers(bits, color_type):
    rng = np.random.default_rng(bits)
    labels = rng.integers(0, 2**bits, (13, 17)).astype(np.uint8)
    palette = rng.integers(0, 256, (2**bits, 3)) if color_type == 3 else None
    assert np.array_equal(codecs.decode_labels(png(labels, bits, color_type, palette)), labels)


def test_labels_and_iuv_survive_exactly():
    image = picture()
    assert np.array_equal(codecs.decode_labels(codecs.encode_labels(image[..., 0])), image[..., 0])
    assert np.array_equal(codecs.decode_iuv(codecs.encode_iuv(image)), image)


def test_color_of_16_bits_is_read():
    deep = np.zeros((40, 30, 3), np.uint16)
    deep[..., 0], deep[..., 1] = 0xFFFF, 0x8000  # blue and green
    data = cv2.imencode(".png", deep)[1].tobytes()
    assert codecs.decode_rgb(data)[3, 4].tolist() == [0, 128, 255]


def test_kinds_are_told_apart():
    gray = codecs.encode_labels(picture()[..., 0])
    deep = codecs.encode_depth(depth_image(0), "png16")
    with pytest.raises(ValueError, match=r"a PNG of 8 bits and 1 channel; a 16-bit PNG"):
        codecs.decode_depth(gray, "png16")
    with pytest.raises(ValueError, match=r"a PNG of 16 bits and 1 channel; an 8-bit PNG"):
        codecs.decode_labels(deep)
    with pytest.raises(ValueError, match="three channels"):
        codecs.decode_iuv(gray)
    with pytest.raises(ValueError, match=r"a PNG of 16 bits and 1 channel, which is most probably depth"):
        codecs.decode_rgb(deep)
    with pytest.raises(ValueError, match="neither PNG nor JPEG"):
        codecs.decode_rgb(b"GIF89a" + bytes(100))
    with pytest.raises(ValueError, match="empty"):
        codecs.decode_rgb(b"")
    with pytest.raises(ValueError, match="64 x 48 pixels, 32 x 32"):
        codecs.decode_rgb(codecs.encode_rgb(picture()), size=32)
    with pytest.raises(ValueError, match="unknown; known are png16"):
        codecs.decode_depth(deep, "tiff")


@pytest.mark.parametrize("progressive", [0, 1])
def test_every_truncation_of_a_jpeg_is_found(progressive):
    whole = cv2.imencode(
        ".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    )[1].tobytes()
    header = check_whole(whole)
    assert (header.format, header.width, header.height, header.channels) == ("jpeg", 64, 48, 3)
    check_whole(whole + b"trailing bytes of a camera")
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"JPEG|empty|neither"):
            check_whole(whole[:length])


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("fill", [b"\xff", b"\xff\xff\xff", b"\0", b"\0\0\0"])
def test_a_jpeg_may_be_filled_up_before_any_marker(progressive, fill):
    """Fill bytes 0xFF are the standard's (T.81, B.1.1.2), before restart markers, too; zeros are what cameras write."""
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    whole = cv2.imencode(".jpg", picture(), options)[1].tobytes()
    expected = codecs.decode_rgb(whole)
    places = [start - 4 if marker != 0xD9 else start - 2 for marker, start, _ in jpeg_segments(whole)]
    assert len(places) > 6
    if fill[0]:
        restarts = [at for at in range(len(whole) - 1) if whole[at] == 0xFF and 0xD0 <= whole[at + 1] < 0xD8]
        assert restarts
        places += restarts
    for at in places[1:]:  # before the first one a file would not begin as a JPEG does
        data = whole[:at] + fill + whole[at:]
        assert np.array_equal(codecs.decode_rgb(data), expected), (at, whole[at : at + 2])
        with pytest.raises(ValueError, match="JPEG"):
            check_whole(data[:-2])


def test_other_bytes_between_segments_are_damage():
    whole = codecs.encode_rgb(picture())
    at = next(start - 4 for marker, start, _ in jpeg_segments(whole) if marker == 0xDB)
    with pytest.raises(ValueError, match="a marker is missing"):
        check_whole(whole[:at] + b"\x12" + whole[at:])


def test_every_truncation_and_flipped_bit_of_a_png_is_found():
    whole = cv2.imencode(".png", picture(12, 9))[1].tobytes()
    check_whole(whole)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"PNG|empty|neither"):
            check_whole(whole[:length])
    for bit in range(0, 8 * len(whole), 5):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"PNG|pixels"):
            check_whole(bytes(broken))


def test_damage_is_found_before_the_decoder_sees_it():
    whole = codecs.encode_depth(depth_image(0), "png16")
    hungry = whole[:33] + b"\x7f\xff\xff\xf0" + whole[37:]
    with pytest.raises(ValueError, match="truncated"):
        codecs.decode_depth(hungry, "png16")
    with pytest.raises(ValueError, match="truncated"):
        codecs.decode_rgb(codecs.encode_rgb(picture())[:-2])


def test_a_small_file_declaring_a_huge_picture_is_refused():
    body = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    with pytest.raises(ValueError, match="60000 x 60000"):
        codecs.decode_rgb(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)))
