import torch

from hcmoco.tasks.pose.anchors import Joints
from hcmoco.tasks.pose.loss import pose_losses


def reference(joints, target, known):
    """The published terms, one number after the other."""
    rows = {"anchor": [], "in_plane": [], "depth": []}
    for row in range(len(target)):
        sums = {"anchor": 0.0, "in_plane": 0.0, "depth": 0.0}
        count = 0
        for joint in range(target.shape[1]):
            if not known[row, joint]:
                continue
            count += 1
            for term, found in (("anchor", joints.anchor_BJ2), ("in_plane", joints.xy_BJ2)):
                for axis in range(2):
                    distance = abs(float(found[row, joint, axis] - target[row, joint, axis]))
                    sums[term] += (0.5 * distance**2 if distance <= 1 else distance - 0.5) / 2
            distance = abs(float(joints.depth_BJ[row, joint] - target[row, joint, 2]))
            sums["depth"] += 0.5 / 3 * distance**2 if distance <= 3 else distance - 1.5
        if count:
            for term, total in sums.items():
                rows[term].append(total / count)
    terms = {term: sum(values) / max(len(values), 1) for term, values in rows.items()}
    return {**terms, "loss": terms["anchor"] + 3 * (0.5 * terms["in_plane"] + terms["depth"])}


def example(scale=3.0):
    rng = torch.Generator().manual_seed(0)
    target = 50 + 10 * torch.randn(4, 5, 3, generator=rng, dtype=torch.float64)
    near = [target[..., :2] + scale * torch.randn(4, 5, 2, generator=rng, dtype=torch.float64) for _ in range(2)]
    depth = target[..., 2] + scale * torch.randn(4, 5, generator=rng, dtype=torch.float64)
    known = torch.rand(4, 5, generator=rng) < 0.7
    known[2] = False
    return Joints(*near, depth), target, known


def test_terms_are_those_of_a_loop():
    joints, target, known = example()
    expected = reference(joints, target, known)
    found = pose_losses(joints, target, known)
    assert found.keys() == expected.keys()
    for term, value in expected.items():
        torch.testing.assert_close(found[term], torch.tensor(value, dtype=torch.float64), msg=term)
    assert all(value > 0.1 for value in expected.values())


def test_unknown_joints_count_for_nothing_whatever_their_targets_hold():
    joints, target, known = example()
    polluted = target.masked_fill(~known[..., None], float("nan"))
    for term, value in pose_losses(joints, target, known).items():
        assert pose_losses(joints, polluted, known)[term] == value
    leaves = Joints(*(each.clone().requires_grad_() for each in joints))
    pose_losses(leaves, polluted, known)["loss"].backward()
    for leaf in leaves:
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad[~known] == 0).all()


def test_no_known_joint_is_no_loss_and_no_gradient():
    joints, target, known = example()
    leaves = Joints(*(each.clone().requires_grad_() for each in joints))
    losses = pose_losses(leaves, target, torch.zeros_like(known))
    losses["loss"].backward()
    assert losses["loss"] == 0
    assert all((leaf.grad == 0).all() for leaf in leaves)


def test_gradients_are_those_of_finite_differences():
    joints, target, known = example()
    leaves = [each.clone().requires_grad_() for each in joints]
    assert torch.autograd.gradcheck(lambda *values: tuple(pose_losses(Joints(*values), target, known).values()), leaves)
