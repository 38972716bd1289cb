"""SynthHuman's samples against what was written into them."""

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.depth_masking import MASKED
from hcmoco.data.schema import Person
from hcmoco.datasets import synthhuman
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.errors import UserError
from tests.helpers import synthhuman_files as files


def read(root, **options) -> list:
    return list(read_all(synthhuman.READER, synthhuman.SynthHumanConfig(source=str(root), size=4096, **options)))


def test_a_sample_is_read_in_millimeters_and_the_person_alone(tmp_path):
    written = files.write_sample(tmp_path, 98040)
    (person,) = read(tmp_path)
    assert isinstance(person, Person), person.reason
    assert person.id == "synthhuman/0098040"
    x0, y0, side, width, height = person.crop.astype(int)
    assert ((width, height), side) == (files.SIZE, person.size)
    whole = np.zeros((height, width), np.uint16)
    depth = codecs.decode_depth(person.depth, "png16")
    rows, columns = np.mgrid[: person.size, : person.size]
    inside = (rows + y0 >= 0) & (rows + y0 < height) & (columns + x0 >= 0) & (columns + x0 < width)
    whole[(rows + y0)[inside], (columns + x0)[inside]] = depth[inside]
    assert np.array_equal(whole, np.where(written.alpha >= 128, np.rint(10 * written.depth_cm), 0))
    assert (whole[50, 29], whole[50, 60] > 0) == (0, True), "half of a pixel and more is the person's"
    fx, fy, cx, cy = person.camera
    np.testing.assert_allclose([fx, fy, cx + x0, cy + y0], [*files.FOCAL, *files.CENTER])
    assert person.keypoints is None
    assert synthhuman.READER.masking(synthhuman.SynthHumanConfig()) == MASKED


@pytest.mark.parametrize(("center", "stored"), [((47.5, 63.5), (48.0, 64.0)), ((47.3, 64.0), (47.3, 64.0))])
def test_where_the_first_pixel_is_follows_from_the_principal_point(tmp_path, center, stored):
    files.write_sample(tmp_path, 0, center)
    (person,) = read(tmp_path)
    np.testing.assert_allclose(person.camera[2:] + person.crop[:2], stored, atol=1e-5)


@pytest.mark.parametrize(
    ("subset", "number"), [("face", 12), ("full-body", 98040), ("upper-body", 198016)], ids=lambda value: str(value)
)
def test_subsets_are_those_of_the_readme(tmp_path, subset, number):
    files.write_synthhuman(tmp_path)
    found = read(tmp_path, subset=subset)
    assert [each.id for each in found if isinstance(each, Person)] == [f"synthhuman/{number:07d}"]
    assert {each.reason for each in found if isinstance(each, Skipped)} == {
        "the sample is of another subset than --subset"
    }
    assert len(found) == 3
    assert (synthhuman.subset_of(number - 1) == subset) == (subset == "face"), "the number is the subset's first"


def broken(root, name, data) -> str:
    files.write_sample(root, 0)
    (root / name).write_bytes(data)
    (found,) = read(root)
    assert isinstance(found, Rejected)
    return found.reason


def test_another_unit_is_refused_with_the_one_that_was_meant(tmp_path):
    files.write_sample(tmp_path, 0, unit=0.01)
    (found,) = read(tmp_path)
    assert "with the depth unit cm; 0.2 to 20 m can be right: m was probably meant" in found.reason


@pytest.mark.parametrize(
    "text", [b"140 0 48\n0 141 64\n", b"140 3 48\n0 141 64\n0 0 1\n", b"140 0 48 0\n0 141 64 0\n0 0 1 0\n", b"a 0 48"]
)
def test_a_camera_that_is_no_intrinsic_matrix_is_rejected(tmp_path, text):
    assert "'cam_0000000.txt' must hold fx 0 cx, 0 fy cy and 0 0 1" in broken(tmp_path, "cam_0000000.txt", text)


def test_a_camera_in_shares_of_the_picture_is_rejected(tmp_path):
    text = b"1.4 0 0.5\n0 1.1 0.5\n0 0 1\n"
    assert "cannot be of a 96 x 128 picture; give pixels" in broken(tmp_path, "cam_0000000.txt", text)


def test_pictures_of_other_sizes_are_rejected(tmp_path):
    small = codecs.encode_labels(np.full((64, 48), 255, np.uint8))
    assert "differ in size: rgb 96 x 128, depth 96 x 128, mask 48 x 64" in broken(tmp_path, "alpha_0000000.png", small)


def test_a_sample_that_two_folders_have_is_rejected(tmp_path):
    for name in ("a", "b"):
        files.write_sample(tmp_path / name, 7)
    (found,) = read(tmp_path)
    assert "have the sample; keep one" in found.reason


def test_a_folder_without_samples_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"holds no sample of SynthHuman; expected are rgb_0000000\.png"):
        read(tmp_path)


def test_samples_are_found_at_any_depth(tmp_path):
    """Archives that are unpacked beside and inside each other."""
    for number, folder in enumerate((".", "a", "a/b", "c/d/e")):
        files.write_sample(tmp_path / folder, number)
    assert [each.id for each in read(tmp_path)] == [f"synthhuman/{number:07d}" for number in range(4)]
    assert all(isinstance(each, Person) for each in read(tmp_path))


@pytest.mark.parametrize("most", [1, 100])
def test_alpha_of_another_range_says_so_and_the_advice_helps(tmp_path, most):
    sample = files.write_sample(tmp_path, 0)
    alpha = (sample.alpha // (255 // most)).clip(0, most).astype(np.uint8)
    path = tmp_path / "alpha_0000000.png"
    path.write_bytes(codecs.encode_labels(alpha))
    (refused,) = read(tmp_path)
    assert f"has no number above {most}; SynthHuman's alpha goes from 0 to 255" in refused.reason
    path.write_bytes(codecs.encode_labels(alpha * int(refused.reason.rpartition(" ")[2])))
    assert isinstance(read(tmp_path)[0], Person)
