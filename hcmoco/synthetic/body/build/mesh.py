"""Mesh tools of the asset build: decimation, limb groups, and the UV islands of hands and feet.

Only `body.build.asset` runs this, with SciPy and fast-simplification installed. Rendering people needs neither.
"""

from dataclasses import dataclass
from itertools import product

import fast_simplification
import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import factorized
from scipy.spatial import cKDTree

from hcmoco.synthetic.body.mesh import BODY, EYE, HAIR, SKIRT

SIDES = (".L", ".R")
LIMBS = ("thigh", "calf", "foot", "arm", "fore", "hand")
GROUPS = ("torso", "head", *(limb + side for side in SIDES for limb in LIMBS))

_BONE_PREFIXES = {
    "thigh": ("upperleg",),
    "calf": ("lowerleg",),
    "foot": ("foot", "toe"),
    "arm": ("upperarm",),
    "fore": ("lowerarm",),
    "hand": ("wrist", "finger", "metacarpal"),
    "head": ("neck", "head", "eye"),
}


@dataclass
class Mesh:
    """Faces over the kept vertices.

    Attributes:
        kept: int [V], number of each kept vertex in the source mesh.
        faces: int [F, 3], triangles over the kept vertices, ordered body, eyes, hair, skirt.
        face_kind: uint8 [F], BODY, EYE, HAIR or SKIRT.
        vertex_kind: uint8 [V], likewise.
    """

    kept: np.ndarray
    faces: np.ndarray
    face_kind: np.ndarray
    vertex_kind: np.ndarray


def triangles(quads: np.ndarray) -> np.ndarray:
    """Split each quad into two triangles: int [Q, 4] to int [2 Q, 3]."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def decimate(points: np.ndarray, faces: np.ndarray, target: int) -> np.ndarray:
    """Return about `target` triangles over a subset of the given vertices.

    Each vertex of the simplified surface is snapped to the nearest given one, so that skin weights, shape basis and UV
    carry over exactly.

    Args:
        points: float [S, 3], vertices, meters.
        faces: int [T, 3], triangles.
        target: number of triangles to keep.

    Returns:
        int [F, 3], vertex numbers of the source mesh.
    """
    used, local = np.unique(faces, return_inverse=True)
    simple_points, simple_faces = fast_simplification.simplify(
        points[used].astype(np.float32), local.reshape(-1, 3).astype(np.int32), target_count=target, agg=3
    )
    distance, nearest = cKDTree(points[used]).query(simple_points)
    print(
        f"  decimated to {len(simple_faces)} triangles, "
        f"snapped by {distance.mean() * 1e3:.2f} mm (max {distance.max() * 1e3:.1f})"
    )
    snapped = used[nearest[simple_faces]]
    proper = (snapped[:, 0] != snapped[:, 1]) & (snapped[:, 1] != snapped[:, 2]) & (snapped[:, 2] != snapped[:, 0])
    return snapped[proper]


def assemble(kinds: list[np.ndarray]) -> Mesh:
    """Join the triangles of body, eyes, hair and skirt into one mesh with renumbered vertices."""
    kept, local = np.unique(np.concatenate(kinds), return_inverse=True)
    faces = local.reshape(-1, 3)
    face_kind = np.repeat(np.arange(len(kinds), dtype=np.uint8), [len(faces_of_kind) for faces_of_kind in kinds])
    vertex_kind = np.zeros(len(kept), np.uint8)
    vertex_kind[faces.ravel()] = np.repeat(face_kind, 3)
    return Mesh(kept, faces, face_kind, vertex_kind)


def group_of(bone: str) -> str:
    """Return the limb group that a bone's skin weight counts for."""
    side = bone[-2:] if bone.endswith(SIDES) else ""
    for group, prefixes in _BONE_PREFIXES.items():
        if bone.startswith(prefixes):
            return group + ("" if group == "head" else side)
    return "torso"


def group_weights(points: np.ndarray, bone_weights: np.ndarray, bones: list[str], faces: np.ndarray) -> np.ndarray:
    """Sum skin weights over the bones of each limb group and smooth them over the surface.

    The border between two parts is where two groups have equal weight. Painted weights are ragged there, and smoothing
    makes the border straight.

    Args:
        points: float [V, 3], meters.
        bone_weights: float [V, Bn], skin weights.
        bones: names of the Bn bones.
        faces: int [F, 3], triangles.

    Returns:
        float [V, 14], rows sum to 1.
    """
    member = np.zeros((len(bones), len(GROUPS)))
    for number, bone in enumerate(bones):
        member[number, GROUPS.index(group_of(bone))] = 1
    return smoothed(points, faces, bone_weights @ member, 0.02)


def smoothed(points: np.ndarray, faces: np.ndarray, values: np.ndarray, width: float, steps: int = 4) -> np.ndarray:
    """Diffuse values over the surface by implicit Euler steps, whatever the density of the mesh.

    Args:
        points: float [V, 3], meters.
        faces: int [F, 3], triangles.
        values: float [V, C].
        width: standard deviation of the diffusion, meters.
        steps: number of steps.

    Returns:
        float [V, C], rows sum to 1.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    squared = ((points[edges[:, 0]] - points[edges[:, 1]]) ** 2).sum(1)
    degree = np.maximum(np.bincount(edges[:, 0], minlength=len(points)), 1)
    # on a regular mesh the mean over neighbors of (difference / length^2) is a quarter of the Laplacian
    rate = 4 * width**2 / 2 / steps / degree[edges[:, 0]] / np.maximum(squared, 1e-8)
    off_diagonal = sparse.coo_matrix((rate, edges.T), shape=(len(points),) * 2)
    system = sparse.identity(len(points)) + sparse.diags(np.asarray(off_diagonal.sum(1)).ravel()) - off_diagonal
    solve = factorized(system.tocsc())
    for _ in range(steps):
        values = np.stack([solve(column) for column in values.T], axis=1)
    return values / values.sum(1, keepdims=True)


def label_groups(points: np.ndarray, groups: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Extend the group weights of the body's vertices to eyes, hair and skirt.

    Eyes and hair belong to the head. A skirt takes the weights of the nearest places of trunk and legs, smoothed over
    the skirt.

    Args:
        points: float [V, 3], meters.
        groups: float [V, 14], group weights.
        mesh: the mesh.

    Returns:
        float [V, 14], the weights that labels are computed from.
    """
    weights = groups.copy()
    weights[np.isin(mesh.vertex_kind, (EYE, HAIR))] = np.eye(len(GROUPS))[GROUPS.index("head")]
    covered = [GROUPS.index(name) for name in ("torso", "thigh.L", "thigh.R", "calf.L", "calf.R")]
    below = np.flatnonzero((mesh.vertex_kind == BODY) & np.isin(groups.argmax(1), covered))
    skirt = np.flatnonzero(mesh.vertex_kind == SKIRT)
    weights[skirt] = groups[below[cKDTree(points[below]).query(points[skirt])[1]]]
    weights[skirt] = smoothed(points, mesh.faces[mesh.face_kind == SKIRT], weights, 0.06)[skirt]
    return weights


def islands(
    points: np.ndarray, mesh: Mesh, groups: np.ndarray, faces: np.ndarray, uv_faces: np.ndarray, uv: np.ndarray
) -> np.ndarray:
    """Return UV of hands and feet at the corners of each face.

    The source unwraps each hand and each foot as one island. A vertex on the cut has a UV on either side; a face takes,
    for its corners, the combination that lies closest together. Right islands are mirrored, so that a mirror image of
    the body keeps U and V.

    Args:
        points: float [S, 3], all vertices of the source mesh.
        mesh: the thinned mesh.
        groups: float [S, 14], group weights of the source mesh.
        faces: int [T, 3], triangles of the source mesh.
        uv_faces: int [T, 3], rows of `uv` for the same corners.
        uv: float [U, 2].

    Returns:
        float32 [F, 3, 2] in 0..1; zero off hands and feet.
    """
    edges = np.concatenate([uv_faces[:, [0, 1]], uv_faces[:, [1, 2]]])
    _, island_of = connected_components(sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(uv), len(uv))))
    corner_island = island_of[uv_faces]
    corner_uv = np.zeros((len(mesh.faces), 3, 2), np.float32)
    for name in ("hand.L", "hand.R", "foot.L", "foot.R"):
        weight = groups[..., GROUPS.index(name)]
        inside = corner_island == np.bincount(corner_island.ravel(), weight[faces].ravel()).argmax()
        pairs = uv[uv_faces[inside]]
        low, high = pairs.min(0), pairs.max(0)
        candidates: dict[int, set] = {}
        for vertex, pair in zip(faces[inside], (pairs - low) / (high - low), strict=True):
            candidates.setdefault(int(vertex), set()).add((float(pair[0]), float(pair[1])))
        known = np.array(sorted(candidates))
        corners = mesh.kept[mesh.faces]
        rows = np.flatnonzero((mesh.face_kind == BODY) & (weight[corners] > 0.2).any(1))
        # a corner just beyond the island's edge takes the UV of the nearest vertex on it
        nearest = known[cKDTree(points[known]).query(points[corners[rows]])[1]]
        for row, vertices in zip(rows, nearest, strict=True):
            corner_uv[row] = _closest_together([sorted(candidates[int(vertex)]) for vertex in vertices])
        if name.endswith(".R"):
            corner_uv[rows, :, 0] = 1 - corner_uv[rows, :, 0]
    return corner_uv


def _closest_together(choices: list[list[tuple]]) -> np.ndarray:
    return min(
        map(np.array, product(*choices)),
        key=lambda corners: np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).sum(),
    )
