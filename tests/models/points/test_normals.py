"""What the network learns of surfaces in 50 steps: their normals, on a sphere, a plane and a person."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.models.points.pointnet2 import WIDTH, PointNet2MSG
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.posed_body import make_posed_body

COUNT, STEPS = 256, 50
Surface = tuple[np.ndarray, np.ndarray]


def sphere(rng: np.random.Generator) -> Surface:
    """Of a person's width; the half that a camera at -z sees."""
    normals = rng.standard_normal((COUNT, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[:, 2] = -np.abs(normals[:, 2])
    return rng.uniform(0.3, 0.6) * normals, normals


def plane(rng: np.random.Generator) -> Surface:
    """A square meter, tilted by up to 40 degrees or so, that faces the camera."""
    normal = np.array([*rng.uniform(-0.8, 0.8, 2), -1.0])
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, [0, 1, 0])
    first /= np.linalg.norm(first)
    across = rng.uniform(-0.5, 0.5, (COUNT, 2))
    return across @ np.stack([first, np.cross(normal, first)]), np.tile(normal, (COUNT, 1))


def person(rng: np.random.Generator) -> Surface:
    """The faces of a posed body that look to the camera."""
    body = make_posed_body(0, "normals", int(rng.integers(1 << 20)))
    corners = body.vertices[body.faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(crossed, axis=1)
    seen = (area > 0) & (crossed[:, 1] < 0)  # the camera looks along y there, and z is up
    chosen = rng.choice(len(area), COUNT, p=area * seen / (area * seen).sum())
    points, normals = corners[chosen].mean(1), crossed[chosen] / area[chosen, None]
    return points[:, [0, 2, 1]] * [1, -1, 1], normals[:, [0, 2, 1]] * [1, -1, 1]


SHAPES = {"sphere": sphere, "plane": plane, "person": person}


def clouds(purpose: str, number: int) -> tuple[Tensor, Tensor]:
    """Two of each shape: points from their mean, and normals."""
    pairs = [make(make_rng(0, purpose, number, k)) for make in SHAPES.values() for k in range(2)]
    points, normals = (torch.from_numpy(np.stack(each)).float() for each in zip(*pairs, strict=True))
    return points - points.mean(1, keepdim=True), normals


@pytest.mark.slow
@pytest.mark.long
def test_normals_of_surfaces_are_learned_in_50_steps():
    torch.manual_seed(0)
    network, to_normal = PointNet2MSG(), nn.Linear(WIDTH, 3)
    optimizer = torch.optim.AdamW([*network.parameters(), *to_normal.parameters()], 1e-2)

    def cosines(points: Tensor, normals: Tensor) -> Tensor:
        return F.cosine_similarity(to_normal(network(points)), normals, dim=2)

    for step in range(STEPS):
        optimizer.zero_grad()
        (1 - cosines(*clouds("train", step))).mean().backward()
        optimizer.step()
    # Fresh surfaces, by the statistics of their own batch: after 50 steps the running ones are still behind.
    tests = [clouds("test", number) for number in range(8)]
    with torch.no_grad():
        found = torch.stack([cosines(*each) for each in tests]).unflatten(1, (len(SHAPES), 2)).mean((0, 2, 3))
    mean = F.normalize(torch.cat([normals.flatten(0, 1) for _, normals in tests]).mean(0), dim=0)
    alike = torch.stack([(normals @ mean) for _, normals in tests]).unflatten(1, (len(SHAPES), 2)).mean((0, 2, 3))
    for name, learned, constant in zip(SHAPES, found.tolist(), alike.tolist(), strict=True):
        # Measured: 0.98, 0.98 and 0.80, where one direction for all points reaches 0.50, 0.87 and 0.5.
        assert 1 - learned < 0.6 * (1 - constant), (name, learned, constant)
