"""Dense correspondence: truth between two crops, embeddings whose score is known, chance and the position-alone
baseline."""

import math

import numpy as np
import pytest
import torch

from hcmoco.pretraining.probes.correspondence import STRIDE, apply, between, cell_centers, correspond

CELLS = 24
SIDE = CELLS * STRIDE
SOURCE = 200


def crop(
    scale: float = 0.6, degrees: float = 0.0, flip: bool = False, center: tuple[float, float] = (100.0, 100.0)
) -> torch.Tensor:
    """Source -> crop: turn and scale about `centre`, which comes to the middle of the crop."""
    angle = math.radians(degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if flip:
        linear = np.diag([-1.0, 1.0]) @ linear
    return torch.from_numpy(np.column_stack([linear, SIDE / 2 - linear @ np.array(center)]))


def body(affine: torch.Tensor) -> torch.Tensor:
    """Cells whose center shows the 'person': an ellipse 90 wide and 160 high in the source image."""
    place = apply(between(affine[None], torch.eye(2, 3)[None])[0], cell_centers(CELLS, CELLS).reshape(-1, 2))
    inside = ((place - torch.tensor([100.0, 100.0])) / torch.tensor([45.0, 80.0])).square().sum(-1) <= 1
    return inside.reshape(CELLS, CELLS)


def surface(affine: torch.Tensor) -> torch.Tensor:
    """[4, CELLS, CELLS]: an embedding of the place in the source image, similar where places are near."""
    place = apply(between(affine[None], torch.eye(2, 3)[None])[0], cell_centers(CELLS, CELLS).reshape(-1, 2))
    angle = place * (2 * math.pi / (2 * SOURCE))
    return torch.cat([angle.cos(), angle.sin()], dim=1).T.reshape(4, CELLS, CELLS).float()


def position_code() -> torch.Tensor:
    """[CELLS², CELLS, CELLS]: an embedding whose cosine is a Gaussian of the distance between cells."""
    cells = cell_centers(CELLS, CELLS).reshape(-1, 2) / STRIDE
    kernel = torch.exp(-torch.cdist(cells, cells).square() / (2 * 10.0**2))
    values, vectors = torch.linalg.eigh(kernel)
    return (vectors * values.clamp(min=0).sqrt()).T.reshape(-1, CELLS, CELLS).float()


def probe(query: torch.Tensor, gallery: torch.Tensor, first: torch.Tensor, second: torch.Tensor, **kwargs):
    kwargs = {"most_queries": 10**6, **kwargs}
    return correspond(
        query[None],
        gallery[None],
        body(first)[None],
        body(second)[None],
        first[None],
        second[None],
        torch.tensor([160.0]),
        **kwargs,
    )


TURNED = [
    crop(0.75, 25, center=(104.0, 97.0)),
    crop(0.55, -140, center=(96.0, 103.0)),
    crop(0.6, 15, flip=True, center=(110.0, 90.0)),
    crop(0.5, 0, center=(130.0, 70.0)),
]


@pytest.mark.parametrize("second", TURNED)
@pytest.mark.parametrize("first", [crop(), crop(0.5, 60, flip=True)])
def test_truth_passes_through_the_source_image(first: torch.Tensor, second: torch.Tensor):
    places = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * SOURCE
    in_first, in_second = (places @ each[:, :2].T + each[:, 2] for each in (first, second))
    assert torch.allclose(apply(between(first[None], second[None])[0], in_first), in_second, atol=1e-9)


def test_truth_by_hand():
    """A crop against its mirror image: x becomes side - x; a shift of two cells stays one."""
    first = crop()
    mirrored = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64) @ first + torch.tensor(
        [[0.0, 0.0, SIDE], [0.0, 0.0, 0.0]]
    )
    shifted = first + torch.tensor([[0.0, 0.0, 2.0 * STRIDE], [0.0, 0.0, 0.0]])
    places = cell_centers(CELLS, CELLS)[3:5, 7]
    assert torch.allclose(
        apply(between(first[None], mirrored[None])[0], places), torch.tensor([[66.0, 14.0], [66.0, 18.0]]).double()
    )
    assert torch.allclose(
        apply(between(first[None], shifted[None])[0], places), torch.tensor([[38.0, 14.0], [38.0, 18.0]]).double()
    )


@pytest.mark.parametrize("second", TURNED)
def test_embedding_of_the_surface_is_found_in_any_crop(second: torch.Tensor):
    result = probe(surface(crop()), surface(second), crop(), second)
    assert (
        result.score.item() > 0.995
    )  # a tie between two gallery cells on either side of the radius is all that can be lost
    assert result.position.item() < 0.5
    assert 0 < result.answerable.item() <= 1


def test_same_crop_is_perfect_for_surface_and_position():
    first = crop()
    for embedding in (surface(first), position_code()):
        result = probe(embedding, embedding, first, first)
        assert (result.score.item(), result.position.item(), result.answerable.item()) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("second", TURNED)
def test_embedding_of_position_is_the_position_baseline(second: torch.Tensor):
    result = probe(position_code(), position_code(), crop(), second)
    assert result.score.item() == pytest.approx(result.position.item(), abs=1e-6)


@pytest.mark.parametrize("second", TURNED)
def test_collapsed_embedding_scores_exactly_chance(second: torch.Tensor):
    constant = torch.ones(16, CELLS, CELLS)
    result = probe(constant, constant, crop(), second)
    assert result.score.item() == pytest.approx(result.chance.item(), abs=1e-6)


def test_chance_by_hand():
    """Same crop: a disc of radius r around each cell center holds a known number of lattice points that are on the
    person."""
    first = crop(0.6)
    cells = torch.nonzero(body(first))
    near = (cells[:, None] - cells[None]).square().sum(-1) <= (
        0.05 * 160 * 0.6 / STRIDE
    ) ** 2  # 1.2 cells: itself and 4 neighbors
    assert near.sum(1).max() == 5
    result = probe(surface(first), surface(first), first, first)
    assert result.chance.item() == pytest.approx(near.float().mean().item(), abs=1e-6)


def test_random_embedding_is_at_chance():
    """Queries are Binomial(n, chance) up to the gallery they share; 4 sigma with n = all queries of 40 people."""
    random = torch.Generator().manual_seed(3)
    first, second = crop(), TURNED[0]
    people = 40
    maps = torch.randn(2, people, 128, CELLS, CELLS, generator=random)
    stack = [each[None].expand(people, *each.shape) for each in (body(first), body(second), first, second)]
    result = correspond(*maps, *stack, torch.full((people,), 160.0), most_queries=10**6)
    queries = people * result.answerable[0].item() * int(body(first).sum())
    chance = result.chance[0].item()
    assert abs(result.score.mean().item() - chance) < 4 * math.sqrt(chance * (1 - chance) / queries)


def test_radius_scales_with_the_crop_and_the_person():
    first = crop()
    embedding = torch.ones(4, CELLS, CELLS)
    chances = [
        correspond(
            embedding[None],
            embedding[None],
            body(first)[None],
            body(first)[None],
            first[None],
            first[None],
            torch.tensor([height]),
        ).chance.item()
        for height in (20.0, 160.0, 600.0)
    ]
    assert chances[0] == pytest.approx(1 / int(body(first).sum()))  # only the cell itself is near enough
    assert chances[0] < chances[1] < chances[2]
    doubled = between(torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]]), first[None])[0]  # the source image at half its size
    halved = correspond(
        embedding[None],
        embedding[None],
        body(first)[None],
        body(first)[None],
        doubled[None],
        doubled[None],
        torch.tensor([80.0]),
    )
    assert halved.chance.item() == pytest.approx(chances[1])


def test_nobody_and_nowhere_are_not_numbers():
    first, away = crop(), crop(center=(900.0, 900.0))
    maps = torch.ones(3, 4, CELLS, CELLS)
    bodies = torch.stack([body(first), torch.zeros(CELLS, CELLS, dtype=torch.bool), body(first)])
    others = torch.stack([body(first), body(first), torch.zeros(CELLS, CELLS, dtype=torch.bool)])
    affines = torch.stack([first] * 3)
    result = correspond(maps, maps, bodies, others, affines, torch.stack([away] * 3), torch.full((3,), 160.0))
    assert torch.isnan(result.score).all()
    assert torch.isnan(result.chance).all()
    assert result.answerable[0] == 0  # asked, and no cell had an answer
    assert torch.isnan(result.answerable[1])


def test_fewer_queries_ask_the_same_gallery():
    first, second = crop(), TURNED[0]
    few = probe(surface(first), surface(second), first, second, most_queries=40)
    full = probe(surface(first), surface(second), first, second)
    assert few.score.item() > 0.995
    assert few.chance.item() == pytest.approx(full.chance.item(), rel=0.1)


def test_inputs_stay_as_they_were():
    first = crop()
    embedding = 3 * surface(first)
    before = embedding.clone()
    probe(embedding, embedding, first, first)
    assert torch.equal(embedding, before)
