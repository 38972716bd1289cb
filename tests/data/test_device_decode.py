"""Decoding on the device gives the crops that OpenCV gives, to rounding. On a CPU it is the same code."""

import dataclasses
import json
import sys

import cv2
import numpy as np
import pytest
import torch

from benchmarks.decode import main
from hcmoco.data import codecs, transfer
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, make_micro_batch
from hcmoco.data.device_decode import check_decoder, decode
from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.transforms import Augmentation, AugmentConfig, averaged_down, crop_matrix, warp_rgb
from hcmoco.errors import UserError
from tests.data.test_collate import person_row

CPU = torch.device("cpu")
SOURCES = (SourceInfo("people-31", "zstd-delta"),)


def smooth(size: int, seed: int) -> np.ndarray:
    """A picture without a step from pixel to pixel, so that a hundredth of a pixel is less than a level."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def images(pictures, augmentations, size=64, encode=codecs.encode_png) -> EncodedImages:
    files = tuple(None if picture is None else encode(picture) for picture in pictures)
    return EncodedImages(tuple(map(str, range(len(files)))), files, tuple(augmentations), size)


def exact(picture: np.ndarray, augmentation: Augmentation, size: int) -> np.ndarray:
    """float64 [S, S, 3]: pixel by pixel, what a picture that is not averaged down shows."""
    inverse = np.linalg.inv(np.vstack([augmentation.matrix_23, [0, 0, 1]]))
    values = picture.astype(np.float64)
    if augmentation.color_34 is not None:
        values = np.clip(np.rint(values @ augmentation.color_34[:, :3].T + augmentation.color_34[:, 3]), 0, 255)
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    result = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            x, y, _ = inverse @ (column + 0.5, row + 0.5, 1) - 0.5
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (1 - abs(x - x0 - dx)) * (1 - abs(y - y0 - dy))
                if -1 <= x0 + dx <= picture.shape[1] and -1 <= y0 + dy <= picture.shape[0]:
                    result[row, column] += share * padded[y0 + dy + 1, x0 + dx + 1]
    return result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "color", [None, np.array([[0.8037, 0.1013, 0, 9.0071], [0, 1.3051, 0, -20.013], [0.2017, 0.2009, 0.5023, 0.0311]])]
)
def test_a_crop_is_the_bilinear_one(flip, color):
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    augmentation = Augmentation(crop_matrix((17.3, 22.9), 31, 24, degrees=25, flip=flip), flip, color)
    crop = decode(images([picture], [augmentation], 24), CPU)[0].numpy()
    assert np.abs(crop - exact(picture, augmentation, 24)).max() < 0.51  # half a level, and float32's last bits


@pytest.mark.parametrize("side", [50, 96, 97.3, 130, 260.1, 320])
def test_it_is_what_opencv_makes_of_smooth_pictures(side):
    """With and without averaging down: OpenCV computes in 32nds of a pixel and rounds on the way."""
    pictures = [smooth(320, 1), smooth(256, 2), smooth(96, 3)]
    augmentations = [Augmentation(crop_matrix((150, 160), side, 64, degrees)) for degrees in (0, 30, -70)]
    crops = decode(images(pictures, augmentations), CPU).numpy()
    for crop, picture, augmentation in zip(crops, pictures, augmentations, strict=True):
        inside = cv2.erode(
            (warp_rgb(np.full_like(picture, 255), augmentation, 64) == 255).all(2) * 1.0, np.ones((3, 3))
        )
        away = np.abs(crop.astype(int) - warp_rgb(picture, augmentation, 64))[inside > 0]
        assert away.size == 0 or (away.max() <= 3 and away.mean() < 0.5)


def test_pictures_of_several_sizes_do_not_see_each_other_or_their_padding():
    pictures = [smooth(64, 1), None, smooth(128, 2), smooth(90, 3)]
    bright = np.column_stack([np.eye(3), [40.0, 40, 40]])
    augmentations = [Augmentation(crop_matrix((32, 32), 200, 64, 20), color_34=bright)] * 4
    together = decode(images(pictures, augmentations), CPU)
    assert not together[1].any()
    for number in (0, 2, 3):
        alone = decode(images([pictures[number]], augmentations[:1]), CPU)[0]
        assert (together[number].int() - alone.int()).abs().max() <= 1
        assert together[number][0, 0].eq(0).all()  # outside the picture, brightened or not


@pytest.mark.parametrize(("side", "size"), [(96, 37), (320, 111), (64, 64)])
def test_averaging_down_is_over_areas(side, size):
    """The mean of a picture stays: every source pixel counts as much as every other one."""
    picture = np.random.default_rng(4).integers(0, 256, (side, side, 3)).astype(np.uint8)
    augmentation = Augmentation(crop_matrix((side / 2, side / 2), side, size))
    crop = decode(images([picture], [augmentation], size), CPU)[0]
    assert averaged_down(augmentation.matrix_23, (side, side))[0] == (size, size)
    assert crop.double().mean((0, 1)).numpy() == pytest.approx(picture.mean((0, 1)), abs=0.1)


def encoded_batch(rows, **options):
    config = CollateConfig(AugmentConfig(size=64, brightness=0.2, saturation=0.3), "common-13", 20)
    return make_micro_batch(rows, [0] * len(rows), SOURCES, config, SampleKey(0, 5, 2), **options)


def test_a_batch_for_the_device_differs_in_its_pictures_alone():
    rows = [person_row(1), {**person_row(2), "rgb": None}, person_row(3)]
    decoded, encoded = encoded_batch(rows), encoded_batch(rows, rgb_decoded=False)
    assert encoded.rgb.shape == decoded.rgb.shape
    for field in dataclasses.fields(decoded):
        if field.name != "rgb":
            assert np.array_equal(getattr(decoded, field.name), getattr(encoded, field.name)), field.name
    crops = transfer.send(encoded.rgb, CPU).numpy()
    assert crops.shape == decoded.rgb.shape
    assert not crops[1].any()
    assert np.abs(crops.astype(int) - decoded.rgb).mean() < 1
    with pytest.raises(TypeError):
        _ = encoded.decoded_rgb


def test_what_was_decoded_ahead_is_what_is_sent():
    whole = encoded_batch([person_row(number) for number in range(4)], rgb_decoded=False)
    batch = transfer.begin(whole, CPU)
    sent = transfer.send(batch.rgb, CPU)
    assert transfer.send(batch.rgb, CPU) is sent
    part = transfer.send(batch.part(slice(1, 3)).part(slice(1, 2)).rgb, CPU)
    assert part.data_ptr() == sent[2:3].data_ptr()
    assert torch.equal(part, sent[2:3])


def test_a_jpeg_that_does_not_decode_is_named():
    rows = [person_row(1), person_row(2)]
    batch = encoded_batch(rows, rgb_decoded=False)
    whole = batch.rgb.files[1]
    scan = whole.index(b"\xff\xda")
    damaged = whole[: scan + 4] + b"\xff" * 10 + whole[scan + 14 :]
    broken = dataclasses.replace(batch.rgb, files=(batch.rgb.files[0], damaged))
    with pytest.raises(UserError, match="made/2"):
        decode(broken, CPU)
    check_decoder(CPU)  # nothing is wrong with the device


def test_a_picture_of_another_size_is_refused_before_it_is_decoded():
    row = {**person_row(1), "size": 95}
    with pytest.raises(ValueError, match="made/1"):
        encoded_batch([row], rgb_decoded=False)


def test_without_torchcodec_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(UserError, match=r"pip install 'hcmoco\[gpu\]'\), or set ingest.decode=worker"):
        check_decoder(CPU)


def test_the_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["decode.py", "--quick", "--results", str(tmp_path)])
    main()
    (path,) = tmp_path.glob("decode-quick-*.json")
    assert [row["unit"] for row in json.loads(path.read_text())["rows"]] == ["", "/s", "/s"] * 2
