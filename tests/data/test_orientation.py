"""Pictures are turned by what their file declares, in one place, whatever a decoder would do."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.orientation import read_orientation, turn_upright
from tests.helpers.oriented import SIDES, as_seen, as_stored, tagged, tiff

ALL = sorted(SIDES)


def pixels(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    if kind == "depth":
        return rng.integers(500, 5000, (9, 14)).astype(np.uint16)
    if kind == "labels":
        return rng.integers(0, 25, (9, 14)).astype(np.uint8)
    # Blocks of 16 pixels survive JPEG.
    return np.kron(rng.integers(0, 256, (2, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def written(kind: str, image: np.ndarray) -> bytes:
    return {
        "jpeg": lambda: codecs.encode_rgb(image, 100),
        "png": lambda: codecs.encode_png(image),
        "depth": lambda: codecs.encode_depth(image, "png16"),
        "labels": lambda: codecs.encode_labels(image),
    }[kind]()


def decoded(kind: str, data: bytes, *, upright: bool) -> np.ndarray:
    if kind == "depth":
        return codecs.decode_depth(data, "png16", upright=upright)
    return {"labels": codecs.decode_labels}.get(kind, codecs.decode_rgb)(data, upright=upright)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["jpeg", "png", "depth", "labels"])
@pytest.mark.parametrize("orientation", ALL)
def test_a_file_is_upright_or_as_stored_as_it_is_asked_for(kind, orientation):
    seen = pixels(kind)
    stored = as_stored(seen, orientation)
    assert np.array_equal(as_seen(stored, orientation), seen)
    for order in "<>":
        data = tagged(written(kind, stored), orientation, order)
        assert read_orientation(data) == orientation
        for upright, expected in ((True, seen), (False, stored)):
            found = decoded(kind, data, upright=upright)
            assert found.shape == expected.shape
            off = np.abs(found.astype(int) - expected.astype(int))
            assert np.median(off) <= 2 if kind == "jpeg" else not off.any()
            assert found.flags.c_contiguous


@pytest.mark.parametrize("orientation", ALL)
def test_other_decoders_turn_as_we_do(orientation):
    stored = as_stored(pixels("png"), orientation)
    for suffix in (".jpg", ".png", ".webp"):
        data = tagged(cv2.imencode(suffix, stored[..., ::-1])[1].tobytes(), orientation)
        turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if suffix == ".jpg":  # of PNG and WebP only some versions read the tag
            assert turned.shape == turn_upright(stored, orientation).shape
        ignored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert ignored.shape == stored.shape
        if turned.shape != stored.shape or not np.array_equal(turned, ignored):
            assert np.array_equal(turn_upright(ignored, orientation), turned)


def test_a_palette_of_labels_is_turned_too():
    palette = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", b"\0\0\0\2\0\0\0\1\x08\x03\0\0\0")
        + png_chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0]))
        + png_chunk(b"IDAT", zlib.compress(b"\0\0\1"))
        + png_chunk(b"IEND", b"")
    )
    assert codecs.decode_labels(palette).tolist() == [[0, 1]]
    assert codecs.decode_labels(tagged(palette, 6), upright=True).tolist() == [[0], [1]]
    assert codecs.decode_labels(tagged(palette, 3), upright=True).tolist() == [[1, 0]]


@pytest.mark.parametrize("orientation", ALL)
def test_webp_and_tiff_say_it_in_their_own_place(orientation):
    webp = cv2.imencode(".webp", pixels("png"))[1].tobytes()
    assert read_orientation(tagged(webp, orientation, ">")) == orientation
    assert read_orientation(tiff(orientation)) == orientation


def test_what_declares_nothing_is_upright():
    image = pixels("png")
    for data in (written("jpeg", image), written("png", image), b"", b"GIF89a", b"\xff\xd8", b"RIFF\0\0\0\0WEBP"):
        assert read_orientation(data) == 1
    for wrong in (0, 9, 255, 65535):
        assert read_orientation(tagged(written("jpeg", image), wrong)) == 1
    assert read_orientation(tiff(6, kind=2)) == 1, "a tag of another type"


def test_damage_never_raises():
    for kind in ("jpeg", "png"):
        whole = tagged(written(kind, pixels("png")), 6)
        for seed in range(300):
            rng = np.random.default_rng(seed)
            data = bytearray(whole[: rng.integers(len(whole) + 1)] if seed % 3 == 0 else whole)
            for at in rng.integers(0, 120, rng.integers(1, 5)):
                if at < len(data):
                    data[at] ^= 1 << int(rng.integers(8))
            assert 1 <= read_orientation(bytes(data)) <= 8
    for length in range(len(tiff(6))):
        assert read_orientation(tiff(6)[:length]) in (1, 6)
