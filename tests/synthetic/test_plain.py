"""What is written for speed gives the same bits as the plain way to compute it."""

import dataclasses

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic import PeopleConfig, ScenesConfig, render_person, render_scene
from hcmoco.synthetic.body import clothing, joints, mesh, posed_body
from hcmoco.synthetic.render import camera, embree, lighting, rasterize
from hcmoco.synthetic.render import render as rendering
from hcmoco.synthetic.scene import environment, materials, textures
from hcmoco.synthetic.vectors import by_coordinate, by_vector, cross, dot, length, norm, rows

PERSON = PeopleConfig(size=64, seed=21)
SCENE = ScenesConfig(size=64, seed=21, min_people=2, max_people=2)


def plain_mesh(solids: camera.Solids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The solids one after the other."""
    vertices, faces, owners, count = [], [], [], 0
    for number, ((points, triangles), placed) in enumerate(zip(solids._shapes, solids._placed, strict=True)):
        edges, axes, center = placed[:3], placed[3:12].reshape(3, 3), placed[12:]
        x, y, z = (points * edges).T[:, :, None]
        vertices.append(x * axes[:, 0] + y * axes[:, 1] + z * axes[:, 2] + center)
        faces.append(triangles + count)
        owners += [number] * len(triangles)
        count += len(points)
    return np.concatenate(vertices), np.concatenate(faces), np.array(owners, np.int32)


def plain_pose(asset, vertices, heads, deltas):
    """Bone after bone, and all six bones of every vertex."""
    G, rest = np.array(deltas, np.float64), heads.astype(np.float64)
    posed = rest.copy()
    for bone, parent in enumerate(asset.parents):
        if parent >= 0:
            posed[bone] = posed[parent] + G[parent] @ (rest[bone] - rest[parent])
            G[bone] = G[parent] @ G[bone]
    shift = posed - (G @ rest[:, :, None])[:, :, 0]
    transforms = np.concatenate([G, shift[:, :, None]], axis=2).astype(np.float32).reshape(-1, 12)
    bones = np.argsort(-asset.skin, axis=1, kind="stable")[:, :6]
    blended = np.zeros((len(vertices), 12), np.float32)
    for k in range(6):
        blended += np.take_along_axis(asset.skin, bones, axis=1)[:, k, None] * transforms[bones[:, k]]
    a = blended.reshape(-1, 3, 4)
    x, y, z = vertices.T[:, :, None]
    skinned = a[:, :, 0] * x + a[:, :, 1] * y + a[:, :, 2] * z + a[:, :, 3]
    return skinned, posed.astype(np.float32), G.astype(np.float32)


def plain_normals(vertices, faces):
    """np.cross, and one sum after the other."""
    flat = np.cross(*(vertices[faces[:, k]] - vertices[faces[:, 0]] for k in (1, 2)))
    sums = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(sums, faces[:, k], flat)
    return (sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-12)).astype(np.float32)


def plain_pick(rng, weights):
    shares = np.array(list(weights.values()), float)
    ends, draw = np.cumsum(shares / shares.sum()), rng.random()
    return list(weights)[min(int((ends <= draw).sum()), len(weights) - 1)]


def plain_noise(which, u, v):
    texels = [np.floor(place * 512).astype(np.int64) % 512 for place in (v, u)]
    return textures._noise_maps()[which % textures.MAPS][tuple(texels)]


def everything_drawn(*arguments):
    """The background, drawn under the people too."""
    return rasterize.background(*arguments[:-1], np.zeros(0, np.int64))


def cast_all_rays(monkeypatch) -> None:
    """Have every mesh asked about every ray, also about those that another mesh blocks."""
    blocked, shade = rasterize.Mesh.blocked, lighting.shade

    def shaded(scene, color, points, normals, meshes, glow=0.0):
        def by_any(_, origins, directions, limit=1e37):
            return np.any([blocked(mesh, origins, directions, limit) for mesh in meshes], axis=0)

        with monkeypatch.context() as patch:
            patch.setattr(rasterize.Mesh, "blocked", by_any)
            return shade(scene, color, points, normals, meshes[:1], glow)

    monkeypatch.setattr(lighting, "shade", shaded)


def arrays(rendered) -> list[np.ndarray]:
    values = [getattr(rendered, field.name) for field in dataclasses.fields(rendered)]
    return [np.asarray(each) for value in values for each in (value if isinstance(value, tuple) else (value,))]


def test_people_and_scenes_are_those_of_the_plain_way(monkeypatch):
    def draw():
        people = [render_person(PERSON.model_copy(update={"domain": domain}), 3) for domain in ("indoor", "wild")]
        return [array for each in (*people, render_scene(SCENE, 1)) for array in arrays(each)]

    fast = draw()
    monkeypatch.setattr(posed_body, "pose_body", plain_pose)
    monkeypatch.setattr(posed_body, "pose_bones", lambda asset, *rest: plain_pose(asset, asset.template, *rest)[1:])
    monkeypatch.setattr(posed_body, "_normals", plain_normals)
    monkeypatch.setattr(camera.Solids, "mesh", plain_mesh)
    monkeypatch.setattr(textures, "pick", plain_pick)
    for module in (clothing, lighting, materials, textures):
        monkeypatch.setattr(module, "noise", plain_noise)
    monkeypatch.setattr(rendering, "background", everything_drawn)
    monkeypatch.setattr(embree, "_tuples", lambda faces: faces)
    every = lambda asset: (np.arange(len(asset.template)), asset.keypoint_weights)  # noqa: E731
    monkeypatch.setattr(joints, "_regressors", every)
    cast_all_rays(monkeypatch)
    slow = draw()
    assert len(fast) == len(slow)
    for one, other in zip(fast, slow, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_are_those_of_numpy(order, dtype):
    a, b = (np.asarray(part, dtype, order=order) for part in make_rng(0, "vectors").normal(size=(2, 50, 3)))
    np.testing.assert_array_equal(cross(a, b), np.cross(a, b))
    np.testing.assert_array_equal(cross(a[0], b[0]), np.cross(a[0], b[0]))
    np.testing.assert_array_equal(length(a), np.linalg.norm(a, axis=1))
    np.testing.assert_allclose(dot(a, b), (a * b).sum(axis=1), rtol=1e-4, atol=1e-6)
    assert norm(a[0]) == np.linalg.norm(a[0])
    which = np.array([4, 0, 4, 49])
    np.testing.assert_array_equal(rows(a, which), a[which])
    assert by_vector(a).flags.c_contiguous
    np.testing.assert_array_equal(by_vector(a), a.astype(np.float32))
    np.testing.assert_array_equal(by_coordinate(*a.T), a)


def test_bones_are_posed_as_with_their_skin():
    asset = mesh.load_asset()
    turns = np.tile(np.eye(3), (len(asset.parents), 1, 1))
    turns[5] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    posed = mesh.pose_body(asset, asset.template, asset.template_heads, turns)
    for one, other in zip(mesh.pose_bones(asset, asset.template_heads, turns), posed[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_solid_that_is_added_later_is_in_the_mesh():
    solids, paint = environment.Environment().solids, materials.wall(make_rng(0, "paint"))
    solids.box((0, 0, 0), (1, 1, 1), paint)
    assert len(solids.mesh()[1]) == 12
    solids.box((3, 0, 0), (1, 1, 1), paint)
    assert len(solids.mesh()[1]) == 24
