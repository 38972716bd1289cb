"""The body: shapes, skeleton, skinning, joints."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from hcmoco.data.skeletons import PEOPLE_31, convert
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.joints import VISIBILITY_MARGIN, joints31
from hcmoco.synthetic.body.mesh import BODY, Asset, load_asset, pose_body, rest_shape, sample_coefficients

HALF_MILLIMETER = 5e-4


@pytest.fixture(scope="module")
def asset() -> Asset:
    return load_asset()


@pytest.fixture
def person(asset):
    return rest_shape(asset, sample_coefficients(asset, make_rng(3, "shape")))


def random_rotations(count: int, largest: float, seed: int = 0) -> np.ndarray:
    rng = make_rng(seed, "rotations")
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return np.stack(
        [cv2.Rodrigues(axis * angle)[0] for axis, angle in zip(axes, rng.uniform(0, largest, count), strict=True)]
    )


def skinned_slowly(
    asset: Asset, vertices: np.ndarray, heads: np.ndarray, deltas: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """The definition, vertex by vertex.

    Each bone carries the vertex rigidly, joint by joint up to the root; the result is the weighted mean.
    """
    out = np.zeros((len(rows), 3))
    for row, vertex in enumerate(rows):
        for bone in np.flatnonzero(asset.skin[vertex]):
            place, joint = vertices[vertex].astype(np.float64), bone
            while joint >= 0:
                place = deltas[joint] @ (place - heads[joint]) + heads[joint]
                joint = asset.parents[joint]
            out[row] += float(asset.skin[vertex, bone]) * place
    return out


def test_identity_returns_the_rest_pose(asset, person):
    vertices, heads = person
    posed, joints, rotations = pose_body(asset, vertices, heads, np.tile(np.eye(3), (len(heads), 1, 1)))
    np.testing.assert_allclose(posed, vertices, atol=1e-6)
    np.testing.assert_allclose(joints, heads, atol=1e-6)
    np.testing.assert_allclose(rotations, np.tile(np.eye(3), (len(heads), 1, 1)), atol=1e-7)


def test_turning_the_root_turns_everything_about_it(asset, person):
    vertices, heads = person
    turn = cv2.Rodrigues(np.array([0.3, -1.1, 0.8]))[0]
    deltas = np.tile(np.eye(3), (len(heads), 1, 1))
    deltas[0] = turn
    posed, joints, rotations = pose_body(asset, vertices, heads, deltas)
    np.testing.assert_allclose(posed, (vertices - heads[0]) @ turn.T + heads[0], atol=1e-5)
    np.testing.assert_allclose(joints, (heads - heads[0]) @ turn.T + heads[0], atol=1e-5)
    np.testing.assert_allclose(rotations, np.broadcast_to(turn, rotations.shape), atol=1e-6)


def test_skinning_follows_its_definition(asset, person):
    vertices, heads = person
    deltas = random_rotations(len(heads), 1.5)
    posed, joints, rotations = pose_body(asset, vertices, heads, deltas)
    rows = make_rng(0, "rows").choice(len(vertices), 150, replace=False)
    np.testing.assert_allclose(posed[rows], skinned_slowly(asset, vertices, heads, deltas, rows), atol=2e-5)
    # bones keep their lengths whatever the pose
    children = np.flatnonzero(asset.parents >= 0)
    parents = asset.parents[children]
    rest_lengths = np.linalg.norm(heads[children] - heads[parents], axis=1)
    np.testing.assert_allclose(np.linalg.norm(joints[children] - joints[parents], axis=1), rest_lengths, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-4)


def test_a_raised_forearm_moves_only_what_hangs_on_it(asset, person):
    vertices, heads = person
    deltas = np.tile(np.eye(3), (len(heads), 1, 1))
    deltas[asset.bone("lowerarm01.L")] = cv2.Rodrigues(np.array([-1.2, 0, 0]))[0]
    posed = pose_body(asset, vertices, heads, deltas)[0]
    moved = np.linalg.norm(posed - vertices, axis=1) > HALF_MILLIMETER
    assert moved.any()
    assert (asset.template[moved, 0] > 0.2).all()
    assert moved[np.linalg.norm(vertices - heads[asset.bone("finger3-3.L")], axis=1) < 0.01].all()


def test_shapes_are_adults(asset):
    assert asset.age.min() >= 18
    assert len(asset.people) >= 500
    assert 0.35 < (asset.female > 0.5).mean() < 0.65
    heights = []
    on_body = asset.vertex_kind == BODY
    for sample in range(300):
        vertices, _ = rest_shape(asset, sample_coefficients(asset, make_rng(0, "adults", sample)))
        heights.append(np.ptp(vertices[on_body, 2]))
    assert min(heights) > 1.4
    assert max(heights) < 2.1
    assert np.ptp(heights) > 0.3


def test_coefficients_reproduce_the_heights_they_were_taken_from(asset):
    on_body = asset.vertex_kind == BODY
    for row in range(0, len(asset.people), 50):
        height = np.ptp(rest_shape(asset, asset.people[row])[0][on_body, 2])
        assert height == pytest.approx(asset.height[row], abs=0.01)


def test_the_asset_is_consistent(asset):
    assert asset.faces.max() == len(asset.template) - 1
    assert (asset.vertex_kind[asset.faces] == asset.face_kind[:, None]).all()
    assert (asset.parents[1:] < np.arange(1, len(asset.parents))).all()
    assert asset.parents[0] == -1
    for weights in (asset.skin, asset.label_groups, asset.keypoint_weights):
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert ((asset.island_uv >= 0) & (asset.island_uv <= 1)).all()
    corners = asset.template[asset.faces[asset.face_kind == BODY]].astype(np.float64)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 0.05 < volume < 0.1  # cubic meters: positive only if triangles are counter-clockwise from outside
    with pytest.raises(ValueError, match="read-only"):
        asset.template[0] = 0


def test_joints_lie_where_their_names_say(asset, person):
    vertices, heads = person
    joints = dict(zip(PEOPLE_31.joints, joints31(asset, vertices, heads), strict=True))
    for name, place in joints.items():
        if name.startswith("left_"):
            assert place[0] > 0.015
            np.testing.assert_allclose(joints["right_" + name[5:]] * [-1, 1, 1], place, atol=0.01)
        elif not name.startswith("right_"):
            assert abs(place[0]) < 0.01
    above = (
        "head_top",
        "left_eye",
        "nose",
        "upper_neck",
        "thorax",
        "spine_mid",
        "pelvis",
        "left_knee",
        "left_ankle",
        "left_foot",
    )
    for upper, lower in pairwise(above):
        assert joints[upper][2] > joints[lower][2], (upper, lower)
    assert joints["nose"][1] < joints["left_ear"][1]  # the face looks along -Y
    chain = ("left_elbow", "left_wrist", "left_hand", "left_hand_tip")
    reach = [np.linalg.norm(joints[name] - joints["left_shoulder"]) for name in chain]
    assert reach == sorted(reach)


def test_joints_move_with_the_body(asset, person):
    vertices, heads = person
    posed, posed_heads, _ = pose_body(asset, vertices, heads, random_rotations(len(heads), 0.3))
    joints = joints31(asset, posed, posed_heads)
    turn, shift = cv2.Rodrigues(np.array([1.0, 0.4, -2.0]))[0].astype(np.float32), np.array([0.4, 2, 1], np.float32)
    np.testing.assert_allclose(
        joints31(asset, posed @ turn.T + shift, posed_heads @ turn.T + shift), joints @ turn.T + shift, atol=1e-5
    )


def test_other_joint_sets_are_gathers(asset, person):
    joints = np.concatenate([joints31(asset, *person), np.ones((31, 1), np.float32)], axis=1)
    for name in ("coco-17", "mpii-16", "kinect-25", "common-13"):
        assert (convert(joints, "people-31", name)[:, 3] == 1).all(), name
    assert VISIBILITY_MARGIN.shape == (31,)


def test_margins_reach_from_each_joint_to_the_skin(asset, person):
    """Seen from the side where the skin is nearest, an unobstructed joint counts as visible."""
    vertices, heads = person
    joints = joints31(asset, vertices, heads)
    skin = vertices[asset.vertex_kind == BODY]
    distance = np.linalg.norm(joints[:, None] - skin[None], axis=2).min(1)
    assert (distance < VISIBILITY_MARGIN).all()
