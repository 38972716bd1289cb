"""Pictures, masks and depth in every format that is taken, and what is refused with its reason."""

import struct
import zlib
from contextlib import suppress

import cv2
import h5py
import numpy as np
import OpenEXR
import pytest
from scipy.io import savemat

from hcmoco.data import codecs
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.pictures import decode_mask, decode_picture
from tests.helpers.oriented import as_seen, tagged

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 255, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
MASK = np.zeros((48, 64), np.uint8)
MASK[10:40, 20:50] = 255
MILLIMETERS = RNG.integers(500, 8000, (48, 64)).astype(np.uint16)
METERS = (MILLIMETERS / 1000).astype(np.float32)


def encoded(suffix, image, *options) -> bytes:
    done, data = cv2.imencode(suffix, image if image.ndim == 2 else image[..., ::-1], list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".webp", ".jpg"])
def test_colors_are_read_in_their_order(suffix):
    options = (cv2.IMWRITE_WEBP_QUALITY, 101) if suffix == ".webp" else ()
    found = decode_picture(encoded(suffix, RGB, *options))
    assert (found.dtype, found.shape) == (np.uint8, RGB.shape)
    assert np.abs(found.astype(int) - RGB).mean() < (6 if suffix == ".jpg" else 1e-9)


def test_webp_with_losses_is_read():
    assert np.abs(decode_picture(encoded(".webp", RGB, cv2.IMWRITE_WEBP_QUALITY, 80)).astype(int) - RGB).mean() < 8


@pytest.mark.parametrize("suffix", [".tiff", ".bmp", ".png"])
def test_gray_is_repeated(suffix):
    assert np.array_equal(decode_picture(encoded(suffix, MASK)), np.repeat(MASK[..., None], 3, 2))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(".png", MILLIMETERS), "this is a PNG of 16 bits and 1 channel: if it is depth, name it as depth"),
        (encoded(".tiff", MILLIMETERS), "this is a TIFF of 16 bits and 1 channel: if it is depth, name it as depth"),
        (encoded(".tiff", METERS), "this is a TIFF of 32 bits and 1 channel: if it is depth, name it as depth"),
        (encoded(".png", RGB.astype(np.uint16) * 256), "this is a PNG of 16 bits and 3 channels"),
        (encoded(".webp", RGB)[:-40], "the WebP is truncated"),
        (encoded(".bmp", RGB)[:-40], "the BMP is truncated"),
        (encoded(".tiff", RGB)[:200], "the picture is truncated in its header|the TIFF does not decode"),
        (b"GIF89a" + bytes(50), "the picture is none of what is read; save it as JPEG, PNG, WebP, TIFF or BMP"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "the picture is HEIC, which is not read; save it as JPEG"),
        (b"", "the image is empty"),
        (b"BM" + struct.pack("<I", 60) + bytes(12) + struct.pack("<iiHH", 40000, 40000, 1, 24) + bytes(40), "40000 x"),
    ],
)
def test_a_picture_that_is_none_is_refused_with_its_reason(data, said):
    with pytest.raises(ValueError, match=said):
        decode_picture(data)


def test_a_turned_tiff_is_refused():
    data = bytearray(encoded(".tiff", RGB))
    at = bytes(data).find(struct.pack("<HHI", 274, 3, 1))
    if at < 0:  # OpenCV leaves the tag out: any other short tag of the same form takes its place
        at = bytes(data).find(struct.pack("<HHI", 284, 3, 1))
        data[at : at + 2] = struct.pack("<H", 274)
    data[at + 8 : at + 10] = struct.pack("<H", 6)
    with pytest.raises(ValueError, match=r"stored turned \(orientation 6\); save it upright"):
        decode_picture(bytes(data))


def test_any_damage_of_a_header_is_read_or_refused():
    for suffix in (".tiff", ".bmp", ".webp"):
        whole = encoded(suffix, RGB)
        for _ in range(60):
            data = bytearray(whole)
            data[RNG.integers(len(data) if suffix == ".tiff" else 60)] = RNG.integers(256)
            with suppress(ValueError):
                assert decode_picture(bytes(data)).ndim == 3


@pytest.mark.parametrize(
    "data",
    [
        encoded(".png", MASK),
        encoded(".png", MASK // 255),
        encoded(".png", np.repeat(MASK[..., None], 3, 2)),
        encoded(".jpg", MASK),
        encoded(".jpg", np.repeat(MASK[..., None], 3, 2)),
        encoded(".bmp", MASK),
        encoded(".tiff", MASK),
        encoded(".webp", np.repeat(MASK[..., None], 3, 2), cv2.IMWRITE_WEBP_QUALITY, 70),
    ],
    ids=["PNG", "PNG of 0 and 1", "RGB PNG", "JPEG", "RGB JPEG", "BMP", "TIFF", "WebP"],
)
def test_masks_in_any_format_are_the_same(data):
    assert ((decode_mask(data) > 0) != (MASK > 0)).mean() < 0.01


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_webp_is_turned_as_it_declares(orientation):
    stored = RGB[:20, :30]
    webp = tagged(encoded(".webp", stored, cv2.IMWRITE_WEBP_QUALITY, 101), orientation)
    assert np.array_equal(decode_picture(webp), stored)
    assert np.array_equal(decode_picture(webp, upright=True), as_seen(stored, orientation))


def test_a_mask_in_colors_is_refused():
    with pytest.raises(ValueError, match="the mask has colors"):
        decode_mask(encoded(".png", RGB))


def exr(**channels) -> dict:
    return {name: np.ascontiguousarray(values) for name, values in channels.items()}


def write(root, name, values):
    path = root / name
    match name.rpartition(".")[2]:
        case "npy":
            np.save(path, values)
        case "exr":
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, exr(**values)).write(str(path))
        case "mat":
            savemat(path, values)
        case "h5":
            with h5py.File(path, "w") as file:
                file["depth"] = values.T
        case suffix:
            path.write_bytes(encoded(f".{suffix}", values))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("d.png", MILLIMETERS, MILLIMETERS),
        ("d.tiff", MILLIMETERS, MILLIMETERS),
        ("float.tiff", METERS, METERS),
        ("d.npy", MILLIMETERS, MILLIMETERS),
        ("float.npy", METERS, METERS),
        ("half.npy", METERS.astype(np.float16), METERS.astype(np.float16)),
        ("big.npy", METERS.astype(">f8"), METERS),
        ("columns.npy", np.asfortranarray(MILLIMETERS), MILLIMETERS),
        ("channel.npy", METERS[..., None], METERS),
        ("z.exr", {"Z": METERS}, METERS),
        ("y.exr", {"Y": METERS}, METERS),
        ("rgbz.exr", {"R": METERS * 0, "G": METERS, "B": METERS, "Z": METERS}, METERS),
        ("gray.exr", {"R": METERS, "G": METERS, "B": METERS}, METERS),
        ("d.mat", {"depth": MILLIMETERS}, MILLIMETERS),
        ("float.mat", {"depth": METERS.astype(float), "fx": 3.0}, METERS),
        ("other.mat", {"dmap": METERS}, METERS),
        ("d.h5", MILLIMETERS.astype(float), MILLIMETERS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_depth_numbers_stay_as_they_are(tmp_path, name, values, expected):
    write(tmp_path, name, values)
    found = read_depth_file(tmp_path, name)
    assert found.shape == (48, 64)
    assert np.array_equal(found, expected)
    assert found.dtype.isnative
    assert (found.dtype.kind == "f") == (np.asarray(expected).dtype.kind == "f"), "the unit's default goes by it"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("colored.png", RGB, "a PNG of 8 bits and 3 channels; 8 bits are a picture of depth to look at"),
        ("gray.png", MASK, "a PNG of 8 bits and 1 channel; 8 bits are a picture of depth to look at"),
        ("rgb16.png", RGB.astype(np.uint16) * 256, "of one channel, this is a PNG of 16 bits and 3 channels"),
        ("gray.tiff", MASK, "this is a TIFF of 8 bits and 1 channel; 8 bits"),
        ("points.npy", RNG.random((48, 64, 3)), r"one number a pixel, this is float64 \[48, 64, 3\]"),
        ("words.npy", np.array([["a"]]), "one number a pixel, this is <U1"),
        ("objects.npy", np.array([[{}]], object), "one number a pixel, this is object"),
        ("two.exr", {"A": METERS, "B": METERS + 1}, "the EXR has the channels A, B; one named Z"),
        ("two.mat", {"a": METERS, "b": METERS}, "'two.mat' holds a, b; the variable must be called depth"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_depth_that_is_none_is_refused_with_its_reason(tmp_path, name, values, said):
    write(tmp_path, name, values)
    with pytest.raises(ValueError, match=said):
        read_depth_file(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "values"), [("d.npy", METERS), ("z.exr", {"Z": METERS}), ("d.mat", {"depth": METERS})]
)
def test_depth_that_is_cut_short_is_refused(tmp_path, name, values, capfd):
    write(tmp_path, name, values)
    data = (tmp_path / name).read_bytes()
    for share in (0.3, 0.05):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(
            ValueError, match=r"cannot be read|cut off|is not a MATLAB|does not exist|none of what is read|longer"
        ):
            read_depth_file(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("d.npy", METERS),
        ("z.exr", {"Z": METERS}),
        ("d.mat", {"depth": METERS}),
        ("d.tiff", METERS),
        ("d.png", MILLIMETERS),
    ],
)
def test_any_damage_of_depth_is_read_or_refused(tmp_path, name, values):
    write(tmp_path, name, values)
    whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(1)
    refused = 0
    for number in range(80):
        data = bytearray(whole)
        for at in rng.integers(min(len(data), 600) if number % 2 else len(data), size=(1, 3, 20)[number % 3]):
            data[at] = rng.integers(256)
        (tmp_path / name).write_bytes(data)
        try:
            assert read_depth_file(tmp_path, name).ndim == 2
        except ValueError:
            refused += 1
    assert refused


def test_a_large_number_of_pixels_is_not_allocated(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match="one number a pixel"):
        read_depth_file(tmp_path, "d.npy")
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 16, 0, 0, 0, 0)
    (tmp_path / "d.png").write_bytes(
        codecs.PNG_SIGNATURE + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(12)
    )
    with pytest.raises(ValueError, match="60000 x 60000"):
        read_depth_file(tmp_path, "d.png")
