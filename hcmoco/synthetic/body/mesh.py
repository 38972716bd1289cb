"""The body that all synthetic people share: mesh, shape components, skeleton and linear blend skinning.

The shape components are the principal components of 700 adults. Everything is in meters, z up. The rest pose is an
A-pose that faces -y, with the person's left at +x and the root bone near the origin.
Shape suffixes: V vertices, F triangles, K shape components, Bn bones, N people, G limb groups.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hcmoco.synthetic.vectors import by_coordinate, rows

BODY, EYE, HAIR, SKIRT = range(4)  # values of face_kind and vertex_kind


@dataclass(frozen=True, eq=False)
class Asset:
    """The arrays of the committed asset, written by `body.build.asset` (sources and licenses: NOTICE).

    Attributes:
        template: float32 [V, 3], rest position of each vertex on the mean person. Every surface label is a function of
            it.
        basis: float32 [K, V, 3], meters that a vertex moves per standard deviation of a shape component.
        template_heads: float32 [Bn, 3], rest position of each bone's head (its joint) on the mean person.
        head_basis: float32 [K, Bn, 3], as `basis`, for the bone heads.
        people: float32 [N, K], shape coefficients of the sampled adults, unit variance.
        age: float32 [N], years, 18..80.
        female: float32 [N], 0 (male) to 1 (female), near either end.
        height: float32 [N], meters.
        skin: float32 [V, Bn], skin weights; at most six per vertex, rows sum to 1.
        parents: int64 [Bn], number of each bone's parent, always smaller than the bone's own; -1 for the root, bone 0.
        bone_names: names of the Bn bones, such as "upperarm01.L"; .L and .R are the person's left and right.
        group_names: names of the G = 14 limb groups: torso, head, then thigh, calf, foot, arm, fore, hand of .L and of
            .R.
        faces: int32 [F, 3], triangles, counter-clockwise seen from outside, ordered body, eyes, hair, skirt.
        face_kind: uint8 [F], BODY, EYE, HAIR or SKIRT. Hair and skirt are optional pieces.
        vertex_kind: uint8 [V], as `face_kind`.
        label_groups: float32 [V, G], weight of each limb group at the vertex; a skirt has those of the body below it.
            Rows sum to 1.
        island_uv: float32 [F, 3, 2], U and V in 0..1 at a face's corners where the face touches a hand or a foot, else
            0.
        lips: float32 [V], 1 on the lips, 0 elsewhere.
        keypoint_weights: float32 [17, V], regressors of the COCO keypoints from posed vertices, rows sum to 1.
        crown: number of the vertex at the top of the head.
    """

    template: np.ndarray
    basis: np.ndarray
    template_heads: np.ndarray
    head_basis: np.ndarray
    people: np.ndarray
    age: np.ndarray
    female: np.ndarray
    height: np.ndarray
    skin: np.ndarray
    parents: np.ndarray
    bone_names: tuple[str, ...]
    group_names: tuple[str, ...]
    faces: np.ndarray
    face_kind: np.ndarray
    vertex_kind: np.ndarray
    label_groups: np.ndarray
    island_uv: np.ndarray
    lips: np.ndarray
    keypoint_weights: np.ndarray
    crown: int

    @property
    def label_points(self) -> np.ndarray:
        """Return the template, the positions that surface labels are functions of."""
        return self.template

    def bone(self, name: str) -> int:
        """Return the number of a bone; raise ValueError for an unknown name."""
        return self.bone_names.index(name)

    def group(self, name: str) -> int:
        """Return the number of a limb group; raise ValueError for an unknown name."""
        return self.group_names.index(name)


@cache
def load_asset() -> Asset:
    """Return the committed asset, which is read once per process. Its arrays are shared and read-only."""
    with np.load(Path(__file__).with_name("asset.npz"), allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    weights, bones = stored.pop("skin_weights").astype(np.float32), stored.pop("skin_bones")
    skin = np.zeros((len(weights), len(stored["parents"])), np.float32)
    np.add.at(skin, (np.arange(len(weights))[:, None], bones), weights)
    stored["skin"] = skin / skin.sum(1, keepdims=True)
    groups = stored["label_groups"].astype(np.float32)
    stored["label_groups"] = groups / groups.sum(1, keepdims=True)
    for name, array in stored.items():
        if array.dtype == np.float16:
            stored[name] = array.astype(np.float32)
    stored["faces"] = stored["faces"].astype(np.int32)
    stored["parents"] = stored["parents"].astype(np.int64)
    for array in stored.values():
        array.setflags(write=False)
    names = {name: tuple(str(value) for value in stored.pop(name)) for name in ("bone_names", "group_names")}
    return Asset(crown=int(stored.pop("crown")), **names, **stored)


def sample_coefficients(asset: Asset, generator: np.random.Generator, max_share: float = 0.35) -> np.ndarray:
    """Draw the shape of a new adult: one of the sampled people, mixed with a share of another.

    Args:
        asset: the body.
        generator: source of the draws.
        max_share: largest share of the second person, 0..1.

    Returns:
        Shape coefficients float32 [K].
    """
    first, second = generator.integers(len(asset.people), size=2)
    share = generator.uniform(0, max_share)
    return ((1 - share) * asset.people[first] + share * asset.people[second]).astype(np.float32)


def rest_shape(asset: Asset, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a person at rest.

    Args:
        asset: the body.
        coefficients: float [K], shape coefficients, unit variance.

    Returns:
        Vertices float32 [V, 3] and bone heads float32 [Bn, 3], meters.
    """
    c = np.asarray(coefficients, np.float32)
    # einsum and not @: a threaded BLAS rounds differently with its number of threads, and a person has to be the same
    # everywhere.
    vertices = asset.template + np.einsum("k,kn->n", c, asset.basis.reshape(len(c), -1)).reshape(-1, 3)
    heads = asset.template_heads + np.einsum("k,kn->n", c, asset.head_basis.reshape(len(c), -1)).reshape(-1, 3)
    return vertices, heads


@dataclass(frozen=True)
class _Skinning:
    """Which bones move each vertex, of vertices in an order in which those that more bones move come first."""

    order: np.ndarray  # int [V], vertices
    place: np.ndarray  # int [V], place of each vertex in that order
    # For k = 1..6 the k-th strongest bone, int [N], of the vertices that have so many, and its weight, float32 [N, 1].
    terms: list[tuple[np.ndarray, np.ndarray]]


@cache
def _skinning(asset: Asset) -> _Skinning:
    bones = np.argsort(-asset.skin, axis=1, kind="stable")[:, :6]
    weights = np.take_along_axis(asset.skin, bones, axis=1)
    order = np.argsort(-(weights > 0).sum(axis=1), kind="stable")
    counts = (weights > 0).sum(axis=0)
    terms = [
        (bone[order[:count]], weight[order[:count], None])
        for bone, weight, count in zip(bones.T, weights.T, counts, strict=True)
    ]
    return _Skinning(order, np.argsort(order, kind="stable"), terms)


@cache
def _generations(asset: Asset) -> list[tuple[np.ndarray, np.ndarray]]:
    """The bones below the root and their parents, as many at once as have their parents before them."""
    generation = np.zeros(len(asset.parents), np.int64)
    for bone, parent in enumerate(asset.parents.tolist()):
        if parent >= 0:
            generation[bone] = generation[parent] + 1
    bones = [np.flatnonzero(generation == number) for number in range(1, generation.max() + 1)]
    return [(some, asset.parents[some]) for some in bones]


def _chained(asset: Asset, heads: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posed heads float64 [Bn, 3] and rotations of the bones float64 [Bn, 3, 3]."""
    G = np.array(deltas, np.float64)
    rest = np.asarray(heads, np.float64)
    posed = rest.copy()
    for bones, parents in _generations(asset):
        posed[bones] = posed[parents] + (G[parents] @ (rest[bones] - rest[parents])[:, :, None])[:, :, 0]
        G[bones] = G[parents] @ G[bones]
    return posed, G


def pose_bones(asset: Asset, heads: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the posed heads and the rotations of the bones, as `pose_body` does, without the skin."""
    posed, G = _chained(asset, heads, deltas)
    return posed.astype(np.float32), G.astype(np.float32)


def pose_body(
    asset: Asset, vertices: np.ndarray, heads: np.ndarray, deltas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotate the bones of a person at rest and move the skin with them (linear blend skinning).

    The delta of a bone rotates it, and all bones below it, about its head, in the axes of the rest pose. Bone c with
    parent p has the rotation G_c = G_p D_c and the head p_c = p_p + G_p (h_c - h_p). The root rotates about its own
    head, which stays in place.

    Args:
        asset: the body.
        vertices: float32 [V, 3], as `rest_shape` returns them.
        heads: float32 [Bn, 3], as `rest_shape` returns them.
        deltas: float [Bn, 3, 3], rotations relative to the parent bone; identities keep the rest pose.

    Returns:
        Posed vertices float32 [V, 3], posed heads float32 [Bn, 3] and rotations of the bones float32 [Bn, 3, 3], all in
        the axes of the rest pose.
    """
    posed, G = _chained(asset, heads, deltas)
    shift = posed - (G @ np.asarray(heads, np.float64)[:, :, None])[:, :, 0]
    transforms = np.concatenate([G, shift[:, :, None]], axis=2).astype(np.float32)
    skinning = _skinning(asset)
    blended = np.zeros((len(vertices), 12), np.float32)
    for bones, weights in skinning.terms:
        blended[: len(bones)] += weights * transforms.reshape(-1, 12).take(bones, axis=0)
    x, y, z = vertices.T.take(skinning.order, axis=1)
    skinned = by_coordinate(*(a * x + b * y + c * z + d for a, b, c, d in blended.T.copy().reshape(3, 4, -1)))
    return rows(skinned, skinning.place), posed.astype(np.float32), G.astype(np.float32)
