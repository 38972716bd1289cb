"""The same people and scenes by Embree and by NumPy.

In some rooms faces of two things lie in one plane, such as those of a picture and of a shelf. A ray meets both at the
same depth, and each ray caster names either. So what such pixels show may differ, and with it the automatic exposure of
the picture. No label depends on it.
"""

from functools import cache

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.skeletons import PEOPLE_31
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, Rendered, ScenesConfig, make_person, render_person, render_scene
from hcmoco.synthetic.render import embree, rasterize, raycast, render
from hcmoco.synthetic.render.hits import Hits

pytestmark = pytest.mark.skipif(bool(embree.why_not()), reason="embreex is not installed")
PEOPLE = [(domain, number) for domain in ("indoor", "wild") for number in range(3)]


class BothMeshes:
    """A mesh in both ray casters, which compares every ray.

    Attributes:
        ties: counts rays of which the casters name two faces, at one depth.
    """

    ties = 0

    def __init__(self, vertices_V3, faces_F3, caster=None):
        self._embree, self._numpy = (raycast.Mesh(vertices_V3, faces_F3, each) for each in raycast.RAYCASTERS)

    def hits(self, origin, directions_N3) -> Hits:
        expected, hits = self._embree.hits(origin, directions_N3), self._numpy.hits(origin, directions_N3)
        off = ~np.isclose(hits.depth, expected.depth, rtol=2e-6)
        assert off.sum() <= 4  # measured: one ray in all of these pictures
        # They are rays at an outline: within rounding of an edge of what one ray caster hits and the other does not.
        nearer = np.where((hits.depth < expected.depth)[:, None], hits.weights, expected.weights)
        assert (nearer[off].min(axis=1) < 1e-3).all()
        same = hits.face == expected.face
        BothMeshes.ties += int((~same & ~off).sum())
        np.testing.assert_allclose(hits.weights[same], expected.weights[same], atol=2e-3)
        np.testing.assert_allclose(hits.normal[same], expected.normal[same], atol=1e-3)
        return expected

    def depth(self, origin, directions_N3):
        expected, depth = (each.depth(origin, directions_N3) for each in (self._embree, self._numpy))
        # Rays to joints end at 1. Fingertips are corners of the outline, which a ray may meet or pass.
        at_most = 0.999 if len(expected) == len(PEOPLE_31) else np.inf
        off = ~np.isclose(np.minimum(depth, at_most), np.minimum(expected, at_most), rtol=2e-6)
        assert off.sum() <= 4
        return expected

    def blocked(self, origin, directions_N3, limit=1e37):
        expected, blocked = (each.blocked(origin, directions_N3, limit) for each in (self._embree, self._numpy))
        assert (blocked != expected).sum() <= 1 + len(expected) / 5000  # measured: none
        return expected


@pytest.mark.parametrize(("domain", "number"), PEOPLE)
def test_every_ray_of_a_picture_meets_the_same(monkeypatch, domain, number):
    monkeypatch.setattr(BothMeshes, "ties", 0)
    for module in (render, rasterize):
        monkeypatch.setattr(module, "Mesh", BothMeshes)
    render_person(PeopleConfig(domain=domain), number)
    assert BothMeshes.ties < 2000  # of more than 16,384


@cache
def rendered(caster: str, domain: str, number: int) -> Rendered:
    return render_person(PeopleConfig(domain=domain), number, caster)


def both_of(domain: str, number: int) -> tuple[Rendered, Rendered]:
    return rendered("embree", domain, number), rendered("numpy", domain, number)


@pytest.mark.parametrize(("domain", "number"), PEOPLE)
def test_labels_of_a_person_are_the_same(domain, number):
    expected, seen = both_of(domain, number)
    for name in ("mask", "parts", "garment"):
        assert (getattr(seen, name) != getattr(expected, name)).sum() <= 4, name  # measured: none
    assert (np.abs(seen.iuv.astype(int) - expected.iuv).max(axis=-1) > 1).sum() <= 4
    np.testing.assert_allclose(seen.keypoints, expected.keypoints, atol=1e-3)
    for name in ("joints3d", "camera", "crop", "box", "visible"):
        np.testing.assert_allclose(getattr(seen, name), getattr(expected, name), atol=1e-5, err_msg=name)
    assert seen.mode == expected.mode
    if expected.depth is not None:
        np.testing.assert_allclose(seen.true_depth, expected.true_depth, rtol=1e-5)
        assert (np.abs(seen.depth.astype(int) - expected.depth) > 1).sum() <= 4  # millimeters


def test_pictures_without_faces_in_one_plane_are_the_same():
    equal = 0
    for domain, number in PEOPLE:
        expected, seen = both_of(domain, number)
        off = np.abs(seen.rgb.astype(int) - expected.rgb).max(axis=-1)
        equal += (off > 1).mean() < 0.005
    assert equal >= len(PEOPLE) / 2


def test_scenes_are_the_same():
    config = ScenesConfig(size=96)
    for number in range(3):
        expected, seen = (render_scene(config, number, each) for each in raycast.RAYCASTERS)
        assert (seen.person != expected.person).sum() <= 4
        assert (np.abs(seen.iuv.astype(int) - expected.iuv).max(axis=-1) > 1).sum() <= 4
        assert [len(each) for each in seen.points] == [len(each) for each in expected.points]


def test_a_record_says_nothing_of_its_ray_caster():
    config = PeopleConfig(size=64)
    expected, person = (make_person(config, 5, dataset="d", split="s", caster=each) for each in raycast.RAYCASTERS)
    assert person.id == expected.id
    depths = (codecs.decode_depth(each.depth, DEPTH_CODEC, 64).astype(int) for each in (expected, person))
    assert np.abs(np.subtract(*depths)).max() <= 1
