"""Build a person: the shape of an adult, in a pose, with clothes on, as a mesh in world coordinates.

Shape legend: V vertices of the whole asset, F faces of the pieces that this person shows, Bn bones.
World axes: meters, x right, y away from the camera, z up. A person whose heading is 0 faces the camera, along -y, and
stands on z = 0.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from hcmoco.rng import make_rng
from hcmoco.synthetic.body import clothing
from hcmoco.synthetic.body.collision import collides
from hcmoco.synthetic.body.mesh import (
    BODY,
    EYE,
    Asset,
    load_asset,
    pose_body,
    pose_bones,
    rest_shape,
    sample_coefficients,
)
from hcmoco.synthetic.body.outfit import Outfit
from hcmoco.synthetic.body.pose import Pose, bone_rotations
from hcmoco.synthetic.body.pose_sampling import sample_pose, standing_pose
from hcmoco.synthetic.body.surface_labels import limb_position
from hcmoco.synthetic.render.camera import turn, turned
from hcmoco.synthetic.scene.environment import Occupant
from hcmoco.synthetic.vectors import by_coordinate, cross, length, rows

_TRIES = 16  # poses drawn before standing at ease


@dataclass(frozen=True)
class PosedBody:
    """One person, ready to be rendered.

    Attributes:
        asset: the body that all people share.
        outfit: clothes, hair and skin.
        skin: float32 [V, 3], the posed body without clothes; joints are computed from it.
        vertices: float32 [V, 3], the posed body with clothes.
        normals: float32 [V, 3], unit normals of `vertices`.
        faces: int32 [F, 3], vertex numbers.
        face_ids: int [F], numbers of the faces in the asset.
        heads: float32 [Bn, 3], world positions of the bones' heads.
        rotations: float32 [Bn, 3, 3], rotations of the bones in world axes.
        occupant: what the surroundings are built around.
    """

    asset: Asset
    outfit: Outfit
    skin: np.ndarray
    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    face_ids: np.ndarray
    heads: np.ndarray
    rotations: np.ndarray
    occupant: Occupant

    @cached_property
    def shown(self) -> np.ndarray:
        """Return the vertices of the visible pieces, float32 [N, 3]."""
        return rows(self.vertices, _used(self.asset, self.outfit.pieces))

    @property
    def shown_faces(self) -> np.ndarray:
        """Return `faces` as numbers of `shown`, int32 [F, 3]."""
        return _shown_faces(self.asset, self.outfit.pieces)

    def moved(self, x: float, y: float) -> "PosedBody":
        """Return the same person moved by `x` and `y` meters."""
        by = np.array([x, y, 0], np.float32)
        old = self.occupant
        occupant = replace(old, low=old.low + by, high=old.high + by, seat=old.seat + by)
        return replace(self, skin=self.skin + by, vertices=self.vertices + by, heads=self.heads + by, occupant=occupant)


def make_posed_body(seed: int, stream: str, number: int) -> PosedBody:
    """Return person `number` of a random stream, standing at the origin.

    Args:
        seed: seed of the run.
        stream: prefix of the random generators' names; another stream has other people.
        number: which person of the stream.

    Returns:
        The person: the same one for the same arguments, in any order and process.
    """
    asset = load_asset()
    rng = make_rng(seed, f"{stream}/body", number)
    coefficients = sample_coefficients(asset, rng)
    nearest = int(((asset.people - coefficients) ** 2).sum(1).argmin())
    vertices, heads = rest_shape(asset, coefficients)
    woman, age = float(asset.female[nearest]), float(asset.age[nearest])
    outfit = Outfit.draw(make_rng(seed, f"{stream}/clothes", number), woman, age)

    rng = make_rng(seed, f"{stream}/pose", number)
    chosen, skin, bones, rotations = _posed(asset, vertices, heads, rng)
    any_way = chosen.mode == "lie" or rng.random() < 0.25
    heading = rng.uniform(-np.pi, np.pi) if any_way else rng.normal(0, 0.8)
    lift = rng.uniform(0.25, 0.6) if chosen.mode == "lie" and rng.random() < 0.6 else 0.0
    faces, face_ids = _pieces(asset, outfit.pieces)
    used = _used(asset, outfit.pieces)

    about = turn(heading).astype(np.float32)
    center = np.append(skin[asset.vertex_kind == BODY].mean(0)[:2], 0).astype(np.float32)
    skin, bones, rotations = turned(skin - center, about), turned(bones - center, about), about @ rotations
    dressed = skin + _normals(skin, faces) * clothing.stand_off(asset, outfit, _vertex_cover(asset, outfit))[:, None]
    up = np.array([0, 0, lift - dressed[used, 2].min()], np.float32)
    skin, bones, dressed = skin + up, bones + up, dressed + up

    hips = _hip_vertices(asset)
    seat = bones[[asset.bone("upperleg01.L"), asset.bone("upperleg01.R")]].mean(0)
    seat[2] = dressed[hips, 2].min()
    occupant = Occupant(dressed[used].min(0), dressed[used].max(0), chosen.mode, seat, float(heading), float(lift))
    return PosedBody(
        asset, outfit, skin, dressed, _normals(dressed, faces), faces, face_ids, bones, rotations, occupant
    )


def _posed(
    asset: Asset, vertices: np.ndarray, heads: np.ndarray, rng: np.random.Generator
) -> tuple[Pose, np.ndarray, np.ndarray, np.ndarray]:
    """A pose without self-collision, then what pose_body returns for it."""
    torso = torso_size(asset, vertices)
    unit = float(heads[asset.bone("neck01"), 2] - heads[asset.bone("upperleg01.L"), 2]) / 0.55
    for attempt in range(_TRIES + 1):
        chosen = sample_pose(rng) if attempt < _TRIES else standing_pose()
        turns = bone_rotations(asset.bone_names, heads, chosen)
        if not collides(asset.bone_names, *pose_bones(asset, heads, turns), torso, unit):
            break
    return chosen, *pose_body(asset, vertices, heads, turns)


@cache
def _pieces(asset: Asset, pieces: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.flatnonzero(np.isin(asset.face_kind, (BODY, EYE, *pieces)))
    return np.ascontiguousarray(asset.faces[ids]), ids


@cache
def _used(asset: Asset, pieces: tuple[int, ...]) -> np.ndarray:
    return np.unique(_pieces(asset, pieces)[0])


@cache
def _shown_faces(asset: Asset, pieces: tuple[int, ...]) -> np.ndarray:
    faces = np.searchsorted(_used(asset, pieces), _pieces(asset, pieces)[0]).astype(np.int32)
    faces.setflags(write=False)
    return faces


@cache
def _vertex_place(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    return limb_position(asset, asset.label_points, asset.label_groups)


def _vertex_cover(asset: Asset, outfit: Outfit) -> np.ndarray:
    return clothing.cover(asset, outfit, asset.template, *_vertex_place(asset), asset.vertex_kind)


@cache
def _trunk(asset: Asset) -> np.ndarray:
    """Vertices of the trunk between hips and shoulders."""
    z = asset.template[:, 2]
    low, high = asset.template_heads[asset.bone("spine05"), 2], asset.template_heads[asset.bone("spine01"), 2]
    return np.flatnonzero(
        (asset.vertex_kind == BODY) & (asset.label_groups[:, asset.group("torso")] > 0.9) & (z > low) & (z < high)
    )


@cache
def _hip_vertices(asset: Asset) -> np.ndarray:
    near = np.abs(asset.template[:, 2] - asset.template_heads[asset.bone("upperleg01.L"), 2]) < 0.1
    return np.flatnonzero((asset.vertex_kind == BODY) & (_vertex_place(asset)[0] == asset.group("torso")) & near)


def torso_size(asset: Asset, vertices: np.ndarray) -> np.ndarray:
    """Return the half axes, float64 [3] in meters, of an ellipsoid that approximates the trunk at rest.

    Args:
        asset: the body.
        vertices: float32 [V, 3], a person at rest.
    """
    low, high = np.percentile(vertices[_trunk(asset)], (5, 95), axis=0)
    half = (high - low) / 2
    height = vertices[asset.crown, 2] - vertices[:, 2].min()
    return np.array([half[0] * 1.05, half[1] * 1.15, 0.18 * height])


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals, weighted by area; zero for vertices without a face."""
    a, b, c = (rows(vertices, corner) for corner in faces.T)
    corners = faces.T.ravel()
    sums = [np.bincount(corners, np.tile(flat, 3), len(vertices)) for flat in cross(b - a, c - a).T]
    return by_coordinate(*(sums / (length(np.array(sums).T) + 1e-12)).astype(np.float32))
