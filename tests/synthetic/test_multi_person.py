"""Scenes of several people: occlusion, labels on pixels, people apart and on the ground.

The bytes are the same in any order or process.
"""

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
from hcmoco.data.schema import Scene
from hcmoco.data.validation import check_scene
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.synthetic import RenderedScene, ScenesConfig, make_scene, render_scene, scene_sheet
from hcmoco.synthetic.body.surface_points import PART_OF_CHART, surface_points
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene.placement import Group, make_group

SIZE = 96


@cache
def rendered(number: int, max_people: int = 3, num_points: int = 14) -> RenderedScene:
    return render_scene(ScenesConfig(size=SIZE, max_people=max_people, num_points=num_points), number)


@cache
def group(number: int) -> Group:
    """The people of `rendered(number)`."""
    return make_group(ScenesConfig(size=SIZE), "scenes/mixed", number)


def digest(scene: Scene) -> str:
    instances = [each.box.tobytes() + each.mask + each.dp_points.tobytes() for each in scene.instances]
    return hashlib.sha256(b"".join([scene.id.encode(), scene.rgb, *instances])).hexdigest()


def test_same_bytes_in_any_order_and_process():
    numbers = [2, 7, 11]

    def all_of(order):
        return {
            number: digest(make_scene(ScenesConfig(size=SIZE, seed=5), number, dataset="d", split="s"))
            for number in order
        }

    first = all_of(numbers)
    assert all_of(numbers[::-1]) == first
    assert len(set(first.values())) == len(numbers)
    code = (
        "from tests.synthetic import test_multi_person as t\n"
        "from hcmoco.synthetic import ScenesConfig, make_scene\n"
        f"for number in {numbers[::-1]!r}:\n"
        f"    print(number, t.digest(make_scene(ScenesConfig(size={SIZE}, seed=5), number, dataset='d', split='s')))\n"
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
    assert {int(number): value for number, value in (line.split() for line in output.splitlines())} == first


def test_who_is_nearest_is_who_is_seen():
    """Each person cast alone, in a mesh of their own: at every pixel the label is the one whom the ray meets first."""
    several = 0
    for number in range(14):
        people, seen = group(number), rendered(number)
        rays = people.camera.rays(slice(0, SIZE), slice(0, SIZE))
        depth = np.stack(
            [Mesh(each.vertices, each.faces).depth(people.camera.position, rays) for each in people.people]
        )
        nearest = np.where(depth.min(0) < 1e30, depth.argmin(0) + 1, 0).reshape(SIZE, SIZE)
        on = seen.person > 0
        np.testing.assert_array_equal(seen.person[on], nearest[on])
        assert on.sum() > 0.5 * (nearest > 0).sum()  # things may hide the rest
        several += ((depth < 1e30).sum(0) > 1).any()
    assert several > 2


def test_labels_lie_on_the_people():
    for number in range(14):
        seen = rendered(number)
        np.testing.assert_array_equal(seen.iuv[..., 0] > 0, seen.person > 0)
        assert seen.iuv[..., 0].max() <= 24
        for k, points in enumerate(seen.points):
            columns, rows = points[:, :2].astype(int).T
            np.testing.assert_array_equal(points[:, :2] % 1, 0.5)
            assert (seen.person[rows, columns] == k + 1).all()
            np.testing.assert_allclose(seen.iuv[rows, columns], points[:, 2:] * (1, 255, 255), atol=0.501)
            parts = np.bincount(PART_OF_CHART[points[:, 2].astype(int)], minlength=15)
            visible = np.bincount(PART_OF_CHART[seen.iuv[..., 0][seen.person == k + 1]], minlength=15)[1:]
            assert parts.max() <= 14
            # A part of which a pixel is visible has a point, and a large one has them all.
            np.testing.assert_array_equal(parts[1:] > 0, visible > 0)
            assert (parts[1:][visible >= 70] == 14).all()


def test_a_record_holds_everybody_whom_the_picture_shows():
    for number in range(8):
        seen = rendered(number)
        scene = make_scene(ScenesConfig(size=SIZE), number, dataset="people", split="val")
        assert (scene.id, scene.split, scene.width, scene.height) == (f"people/mixed-0-{number}", "val", SIZE, SIZE)
        assert check_scene(scene) == []
        assert len(scene.instances) == len(np.unique(seen.person)) - 1
        together = np.zeros((SIZE, SIZE), int)
        for each in scene.instances:
            mask = codecs.decode_labels(each.mask, SIZE) == 255
            rows, columns = np.nonzero(mask)
            assert each.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert not each.crowd
            together += mask
        np.testing.assert_array_equal(together, seen.person > 0)
        assert np.abs(codecs.decode_rgb(scene.rgb).astype(int) - seen.rgb).mean() < 8
        back = Scene.from_row(scene.to_row(4))
        assert digest(back) == digest(scene)


def test_people_are_apart_and_on_the_ground():
    """Every second vertex of each, not the sample by which they were placed."""
    for number in range(40):
        people = group(number).people
        for each in people:
            lowest = each.shown[:, 2].min()
            assert lowest == pytest.approx(each.occupant.lift, abs=1e-4)
        for k, each in enumerate(people):
            for other in people[:k]:
                a, b = each.shown[::2], other.shown[::2]
                near = a[((a > b.min(0) - 0.1) & (a < b.max(0) + 0.1)).all(1)]
                if len(near):
                    assert (
                        min(
                            ((chunk[:, None] - b) ** 2).sum(2).min()
                            for chunk in np.array_split(near, len(near) // 200 + 1)
                        )
                        > 0.07**2
                    )


def test_people_are_large_enough_and_in_the_picture():
    numbers, spans, cut = [], [], 0
    for number in range(60):
        people = group(number)
        numbers.append(len(people.people))
        for each in people.people:
            flat = people.camera.project(people.camera.to_camera(each.shown)) / SIZE
            low, high = flat.min(0), flat.max(0)
            spans.append((high - low).max())
            share = np.clip(np.minimum(high, 1) - np.maximum(low, 0), 0, None).prod() / (high - low).prod()
            assert share > 0.4
            cut += share < 0.97
    assert min(spans) > 0.33
    assert max(spans) < 0.95
    assert set(numbers) == {1, 2, 3}
    assert 0.05 < cut / len(spans) < 0.5


def test_nobody_is_lost():
    """No person is hidden except for a few pixels, and every visible person has points."""
    for number in range(30):
        seen = rendered(number)
        areas = np.bincount(seen.person.ravel(), minlength=len(seen.modes) + 1)[1:]
        assert areas.min() > 40
        assert min(map(len, seen.points)) > 10


def test_numbers_of_people_and_points_are_those_asked_for():
    for number in range(6):
        assert len(render_scene(ScenesConfig(size=64, min_people=2, max_people=2), number).modes) == 2
        sparse = rendered(number, num_points=2)
        np.testing.assert_array_equal(sparse.rgb, rendered(number).rgb)
        assert all(np.bincount(PART_OF_CHART[points[:, 2].astype(int)]).max() <= 2 for points in sparse.points)


def test_points_are_spread_over_a_part():
    """In a square of one chart each of 16 points has its own share; a tiny part has a point per five pixels."""
    size = 64
    rows, columns = np.mgrid[8:40, 16:48]
    square = (rows * size + columns).ravel()
    small = 60 * size + np.arange(10)
    flat = np.concatenate([square, small])
    iuv = np.concatenate(
        [np.tile([2.0, 0.5, 0.25], (len(square), 1)), np.tile([24.0, 0.1, 0.9], (len(small), 1))]
    ).astype(np.float32)
    for seed in range(5):
        points = surface_points(flat, iuv, size, 16, make_rng(seed, "test"))
        on_square = points[points[:, 2] == 2]
        assert len(on_square) == 16
        cells = {(int(x - 16) // 8, int(y - 8) // 8) for x, y in on_square[:, :2]}
        assert len(cells) == 16
        assert len(points) == 18
        np.testing.assert_allclose(points[points[:, 2] == 24][:, 3:], [[0.1, 0.9]] * 2, atol=1e-6)


def test_domains():
    """Outdoors the sky is seen by rays that leave the place; mixed scenes are of both kinds."""
    assert {group(number).indoor for number in range(12)} == {True, False}
    for domain, indoor in (("indoor", True), ("wild", False)):
        assert make_group(ScenesConfig(domain=domain), f"scenes/{domain}", 0).indoor == indoor


def test_sheet_shows_pictures_instances_and_charts():
    scenes = [make_scene(ScenesConfig(size=SIZE), number, dataset="d", split="s") for number in (0, 3)]
    sheet = scene_sheet(scenes, tile=120)
    assert sheet.shape == (3 * 124, 2 * 124, 3)
    picture, marked, charts = (sheet[k * 124 : k * 124 + 120, :120] for k in range(3))
    mask = np.zeros((SIZE, SIZE), bool)
    for each in scenes[0].instances:
        mask |= codecs.decode_labels(each.mask) > 0
    at = np.mgrid[:120, :120] * SIZE // 120
    inside = mask[tuple(at)]
    assert (charts[inside].max(-1) > 0).mean() > 0.98
    assert (charts[~inside].max(-1) > 0).mean() < 0.03
    assert (marked != picture).any(-1)[inside].mean() > 0.95


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_people": 3, "max_people": 2}, "min_people = 3"),
        ({"max_people": 9}, "max_people"),
        ({"domain": "sea"}, "domain"),
        ({"size": 8}, "size"),
    ],
)
def test_config_refuses_what_it_cannot_make(values, words):
    with pytest.raises(UserError, match=words):
        build(ScenesConfig, values, "here")
