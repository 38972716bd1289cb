"""Whole pictures: labels against geometry, records against pictures, the same bytes in any order and process."""

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.body_parts import part
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import PEOPLE_31
from hcmoco.errors import UserError
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, Rendered, contact_sheet, make_person, render_person
from hcmoco.synthetic.body.clothing import BOTTOM, SCALP, TOP

DOMAINS = ("indoor", "wild")


@cache
def rendered(domain: str, number: int, size: int = 128) -> Rendered:
    return render_person(PeopleConfig(domain=domain, size=size), number)


def at(seen: Rendered, joint: str) -> np.ndarray:
    return seen.joints3d[PEOPLE_31.index(joint)]


def digest(person: Person) -> str:
    arrays = [person.camera, person.crop, person.box, person.keypoints, person.joints3d]
    images = [person.rgb, person.depth or b"", person.parts, person.iuv, person.mask]
    return hashlib.sha256(b"".join([*images, *(each.tobytes() for each in arrays)])).hexdigest()


def test_same_bytes_in_any_order_and_process():
    jobs = [(domain, number) for domain in DOMAINS for number in (3, 11)]

    def all_of(order):
        return {
            job: digest(make_person(PeopleConfig(domain=job[0], seed=5), job[1], dataset="d", split="s"))
            for job in order
        }

    first = all_of(jobs)
    assert all_of(jobs[::-1]) == first
    assert len(set(first.values())) == len(jobs)
    code = (
        "from tests.synthetic import test_render as t\n"
        "from hcmoco.synthetic import PeopleConfig, make_person\n"
        f"for domain, number in {jobs[::-1]!r}:\n"
        "    person = make_person(PeopleConfig(domain=domain, seed=5), number, dataset='d', split='s')\n"
        "    print(domain, number, t.digest(person))\n"
    )
    # More threads than here: how sums are split between threads must not show.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
    }
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert {
        (domain, int(number)): value for domain, number, value in (line.split() for line in output.splitlines())
    } == first


def test_another_seed_or_domain_is_another_person():
    config = PeopleConfig()
    others = [config.model_copy(update={"seed": 1}), config.model_copy(update={"domain": "wild"})]
    for other in others:
        assert not np.allclose(render_person(other, 0).joints3d, rendered("indoor", 0).joints3d, atol=0.01)


@pytest.mark.parametrize("domain", DOMAINS)
def test_labels_lie_exactly_on_the_mask(domain):
    for number in range(12):
        seen = rendered(domain, number)
        assert seen.mask.any()
        np.testing.assert_array_equal(seen.parts > 0, seen.mask)
        np.testing.assert_array_equal(seen.iuv[..., 0] > 0, seen.mask)
        np.testing.assert_array_equal(seen.garment < 255, seen.mask)
        assert seen.parts.max() <= 24
        assert seen.iuv[..., 0].max() <= 24
        assert not seen.iuv[~seen.mask].any()


@pytest.mark.parametrize("domain", DOMAINS)
def test_camera_projects_joints_onto_keypoints(domain):
    for number in range(12):
        seen = rendered(domain, number)
        fx, fy, cx, cy = seen.camera
        x, y, z = seen.joints3d.astype(np.float64).T
        assert (z > 0.5).all()
        np.testing.assert_allclose(seen.keypoints[:, :2], np.stack([fx * x / z + cx, fy * y / z + cy], 1), atol=0.01)
        visible = seen.keypoints[:, 2] == 1
        assert set(np.unique(seen.keypoints[:, 2])) <= {0, 1}
        assert (seen.keypoints[visible, :2] >= 0).all()
        assert (seen.keypoints[visible, :2] < 128).all()


def test_depth_camera_is_a_kinects():
    for number in range(6):
        seen = rendered("indoor", number)
        side, width, height = seen.crop[2:]
        assert seen.camera[0] == seen.camera[1] == pytest.approx(365 * 128 / side, rel=1e-5)
        # The principal point of the crop is the middle of the source image.
        np.testing.assert_allclose(seen.crop[:2] + seen.camera[2:] * side / 128, [width / 2, height / 2], atol=1e-2)


def test_surface_is_in_front_of_visible_joints_and_near_them():
    """Fingers apart: they are thinner than a pixel, whose center may see past them."""
    broad = [not joint.endswith(("hand", "hand_tip", "thumb")) for joint in PEOPLE_31.joints]
    near = total = 0
    for number in range(30):
        seen = rendered("indoor", number)
        for (x, y, visible), joint in zip(seen.keypoints[broad], seen.joints3d[broad], strict=True):
            if visible and seen.mask[int(y), int(x)]:
                behind = joint[2] - seen.true_depth[int(y), int(x)]
                near += -0.08 < behind < 0.3
                total += 1
    assert total > 400
    assert near / total > 0.98


def test_masked_depth_is_zero_outside_the_person_and_unmasked_is_not():
    whole = PeopleConfig(masked_depth=False)
    for number in range(4):
        seen, unmasked = rendered("indoor", number), render_person(whole, number)
        assert not seen.depth[~seen.mask].any()
        np.testing.assert_array_equal(unmasked.depth[seen.mask], seen.depth[seen.mask])
        assert (unmasked.depth[~seen.mask] > 0).mean() > 0.8


@pytest.mark.parametrize(("size", "count"), [(128, 60), (320, 10)])
def test_share_of_missing_depth_fits_a_sensor_at_any_resolution(size, count):
    missing, errors = [], []
    for number in range(count):
        seen = rendered("indoor", number, size)
        there = seen.mask & (seen.depth > 0)
        missing.append(1 - there.sum() / seen.mask.sum())
        errors.append(np.median(np.abs(seen.depth[there] / 1000 - seen.true_depth[there])))
    assert 0.05 < np.mean(missing) < 0.12
    assert max(missing) < 0.18
    assert 0.003 < np.mean(errors) < 0.02


@pytest.mark.parametrize("domain", DOMAINS)
def test_person_spans_most_of_the_picture_and_lies_in_it(domain):
    for number in range(60):
        seen = rendered(domain, number)
        x0, y0, x1, y1 = seen.box
        assert 0.6 <= max(x1 - x0, y1 - y0) / 128 <= 0.9
        rows, columns = np.nonzero(seen.mask)
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert min(x0, y0, 128 - x1, 128 - y1) > 0


def test_some_people_are_partly_hidden_but_none_much():
    shares = {domain: [rendered(domain, number).visible for number in range(60)] for domain in DOMAINS}
    assert min(map(min, shares.values())) > 0.5
    assert max(map(max, shares.values())) == 1
    assert 0.1 < np.mean(np.array(shares["wild"]) < 0.99) < 0.5


@pytest.mark.parametrize("domain", DOMAINS)
def test_torso_and_hips_are_always_covered(domain):
    trunk = [part(name) for name in ("crotch", "left hip", "right hip", "lower spine")]
    for number in range(60):
        seen = rendered(domain, number)
        # Long hair may hang in front of cloth; skin, shoes or eyes may not show.
        assert np.isin(seen.garment[np.isin(seen.parts, trunk)], (TOP, BOTTOM, SCALP)).all()


def test_pictures_are_not_mirrored():
    """Left x up points where the nose is, in the camera's right-handed axes; and the left wrist is on the left arm."""
    left_parts = [part(f"left {name}") for name in ("hand", "forearm")]
    right_parts = [part(f"right {name}") for name in ("hand", "forearm")]
    ahead, left, right = [], 0, 0
    for number in range(30):
        seen = rendered("wild", number)
        forward = np.cross(
            at(seen, "left_shoulder") - at(seen, "right_shoulder"), at(seen, "upper_neck") - at(seen, "pelvis")
        )
        ahead.append(forward @ (at(seen, "nose") - at(seen, "head")) > 0)
        x, y, visible = seen.keypoints[PEOPLE_31.index("left_wrist")]
        if visible:
            left += seen.parts[int(y), int(x)] in left_parts
            right += seen.parts[int(y), int(x)] in right_parts
    assert np.mean(ahead) > 0.95
    assert left > 10
    assert right <= 1


@pytest.mark.parametrize("domain", DOMAINS)
def test_record_holds_the_picture(domain):
    config = PeopleConfig(domain=domain)
    person, seen = make_person(config, 2, dataset="people", split="train"), rendered(domain, 2)
    assert (person.id, person.dataset, person.split, person.size) == (f"people/{domain}-0-2", "people", "train", 128)
    assert (person.depth is not None) == (domain == "indoor")
    if domain == "indoor":
        np.testing.assert_array_equal(codecs.decode_depth(person.depth, DEPTH_CODEC, 128), seen.depth)
    np.testing.assert_array_equal(codecs.decode_labels(person.parts, 128), seen.parts)
    np.testing.assert_array_equal(codecs.decode_iuv(person.iuv, 128), seen.iuv)
    np.testing.assert_array_equal(codecs.decode_labels(person.mask, 128) == 255, seen.mask)
    assert np.abs(codecs.decode_rgb(person.rgb, 128).astype(int) - seen.rgb).mean() < 8
    assert person.keypoints.shape == person.joints3d.shape == (31, 3)
    assert Person.from_row(person.to_row(0)).keypoints.shape == (31, 3)


def test_contact_sheet_has_a_column_for_each_person():
    people = [make_person(PeopleConfig(domain=domain, size=64), 1, dataset="p", split="s") for domain in DOMAINS]
    sheet = contact_sheet(people, tile=96)
    assert sheet.shape == (6 * 100, 2 * 100, 3)
    dark = sheet[100:196]
    assert dark[:, :96].std() > 20  # depth indoors
    assert dark[:, 100:196].std() == 0  # none outdoors


def test_a_contact_sheet_of_many_people_fits_a_screen():
    person = make_person(PeopleConfig(size=64), 1, dataset="p", split="s")
    one = contact_sheet([person])
    sheet = contact_sheet([person] * 23)
    assert sheet.shape == (3 * len(one) + 2 * 16, 8 * one.shape[1], 3)
    for number in range(24):
        top, left = number // 8 * (len(one) + 16), number % 8 * one.shape[1]
        shown = sheet[top : top + len(one), left : left + one.shape[1]]
        assert not shown.any() if number == 23 else (shown == one).all()


def test_config_refuses_what_it_cannot_make():
    with pytest.raises(UserError, match="domain"):
        build(PeopleConfig, {"domain": "sea"}, "here")
    with pytest.raises(UserError, match="size"):
        build(PeopleConfig, {"size": 8}, "here")


def test_contact_sheet_of_depth_alone_draws_the_joints_on_it():
    people = [make_person(PeopleConfig(size=48), k, dataset="people", split="val") for k in range(2)]
    whole = contact_sheet(people, tile=96)
    for person in people:
        person.rgb = None
    sheet = contact_sheet(people, tile=96)
    row = len(whole) // 6
    assert len(sheet) == 5 * row
    np.testing.assert_array_equal(sheet[:row], whole[row : 2 * row])  # depth comes first
    assert (sheet[3 * row : 4 * row] != sheet[:row]).any()
    people[0].depth = None
    with pytest.raises(ValueError, match="neither RGB nor depth"):
        contact_sheet(people)
