"""The pose sampler: what its angles mean, and what counts as running into oneself."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic.body import pose_sampling
from hcmoco.synthetic.body.collision import collides
from hcmoco.synthetic.body.mesh import load_asset, pose_body, rest_shape, sample_coefficients
from hcmoco.synthetic.body.pose import SIDES, Pose, bone_rotations, rotation
from hcmoco.synthetic.body.pose_sampling import sample_pose, standing_pose
from hcmoco.synthetic.body.posed_body import torso_size

LIMBS = [
    (first + side, last + side)
    for side in SIDES
    for first, last in (
        ("upperleg01", "lowerleg01"),
        ("lowerleg01", "foot"),
        ("upperarm01", "lowerarm01"),
        ("lowerarm01", "wrist"),
    )
]
TORSO = np.array([0.17, 0.135, 0.3])


def posed(body: int, chosen: Pose):
    asset = load_asset()
    vertices, heads = rest_shape(asset, sample_coefficients(asset, make_rng(0, "test", body)))
    _, bones, rotations = pose_body(asset, vertices, heads, bone_rotations(asset.bone_names, heads, chosen))
    return asset, vertices, bones, rotations


def standing(**joints: np.ndarray) -> Pose:
    names = [
        "root",
        "chest",
        "neck",
        *(joint + side for joint in ("hip", "knee", "ankle", "shoulder", "elbow") for side in SIDES),
    ]
    return Pose(
        "stand", {name: np.eye(3) for name in names} | {name.replace("_", "."): turn for name, turn in joints.items()}
    )


def direction(asset, bones, first: str, last: str) -> np.ndarray:
    along = bones[asset.bone(last)] - bones[asset.bone(first)]
    return along / np.linalg.norm(along)


@pytest.mark.parametrize("body", range(3))
def test_without_angles_arms_and_legs_hang_straight_down(body):
    asset, _, bones, _ = posed(body, standing())
    for first, last in LIMBS:
        assert direction(asset, bones, first, last) @ [0, 0, -1] > 0.99


def test_angles_move_limbs_the_way_they_say():
    asset, _, bones, _ = posed(
        0,
        standing(
            shoulder_L=pose_sampling._arm(".L", np.pi / 2, 0, 0, 0)["shoulder.L"], knee_R=rotation((np.pi / 2, 0, 0))
        ),
    )
    assert direction(asset, bones, "upperarm01.L", "lowerarm01.L") @ [0, -1, 0] > 0.98  # raised forward
    assert direction(asset, bones, "lowerleg01.R", "foot.R") @ [0, 1, 0] > 0.98  # heel to the back
    asset, _, bones, _ = posed(0, standing(shoulder_L=pose_sampling._arm(".L", 0, np.pi / 2, 0, 0)["shoulder.L"]))
    assert direction(asset, bones, "upperarm01.L", "lowerarm01.L") @ [1, 0, 0] > 0.98  # raised to the person's left


def test_bone_rotations_are_rotations():
    asset = load_asset()
    for number in range(20):
        turns = bone_rotations(asset.bone_names, asset.template_heads, sample_pose(make_rng(1, "test", number)))
        np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-9)


def test_mirror_exchanges_the_sides():
    chosen = sample_pose(make_rng(2, "test"))
    other = Pose(chosen.mode, pose_sampling._mirrored(chosen.rotations))
    plain = Pose(chosen.mode, chosen.rotations)
    (asset, _, bones, _), (_, _, mirrored, _) = posed(0, plain), posed(0, other)
    swap = [
        asset.bone(name[:-2] + {".L": ".R", ".R": ".L"}[name[-2:]]) if name[-2:] in SIDES else asset.bone(name)
        for name in asset.bone_names
    ]
    symmetric = [
        not name.startswith(("neck02", "neck03")) for name in asset.bone_names
    ]  # the rig has these off its middle
    np.testing.assert_allclose((mirrored[swap] * [-1, 1, 1])[symmetric], bones[symmetric], atol=2e-3)


@pytest.mark.parametrize("body", range(12))
def test_at_ease_never_collides(body):
    asset, vertices, bones, rotations = posed(body, standing_pose())
    unit = (bones[asset.bone("neck01"), 2] - bones[asset.bone("upperleg01.L"), 2]) / 0.55
    assert not collides(asset.bone_names, bones, rotations, torso_size(asset, vertices), unit)


def test_hand_through_the_belly_or_crossed_legs_collide():
    inward = pose_sampling._arm(".L", 0.0, 0.0, 1.5, 1.6)
    legs = pose_sampling._leg(".L", 0.0, -0.2, 0.0)
    for joints in (inward, legs):
        asset, _, bones, rotations = posed(
            0, standing(**{name.replace(".", "_"): turn for name, turn in joints.items()})
        )
        assert collides(asset.bone_names, bones, rotations, TORSO, 1.0)


def test_all_modes_are_drawn():
    modes = [sample_pose(make_rng(3, "test", number)).mode for number in range(400)]
    assert set(modes) == set(pose_sampling.MODES)
