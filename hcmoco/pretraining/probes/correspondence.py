"""Dense correspondence: is the nearest embedding among all body cells of another modality at the same place of the
person?

With the same crop for both modalities an embedding of the cell's position alone solves this. With different crops it
cannot: the true place of a cell follows from the two affines, cell of the first crop -> source image -> second crop.

Shape suffixes: B people, D embedding width, H, W rows and columns of cells (STRIDE pixels each), Q query cells, G
gallery cells. Affines are [2, 3], from pixels of the source image to pixels of the crop (a pixel's center is at +0.5),
x before y.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hcmoco.data.schema import MAP_STRIDE
from hcmoco.pretraining.probes.nearest import closeness, cosine, credit

STRIDE = MAP_STRIDE
_SLACK = 1e-6  # pixels: a place that two affines bring back to itself is allowed to be off by rounding


@dataclass(frozen=True)
class Correspondence:
    """Per person, float [B] in 0..1; NaN for a person without a query that can be answered.

    Attributes:
        score: share of the queries whose nearest embedding lies within the radius of their true place.
        chance: the same for a blind guess among the gallery: mean share of body cells within the radius.
        position: the same for the cell that is nearest by its coordinates in the crop.
        answerable: share of the person's body cells that were queries: their true place in the other crop has a body
            cell within the radius. A perfect embedding scores 1 on these.
    """

    score: Tensor
    chance: Tensor
    position: Tensor
    answerable: Tensor


def cell_centers(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """float64 [height, width, 2]: x, y in crop pixels of each cell's center."""
    y_H, x_W = (STRIDE * (torch.arange(count, dtype=torch.float64, device=device) + 0.5) for count in (height, width))
    return torch.stack(torch.meshgrid(y_H, x_W, indexing="ij")[::-1], dim=-1)


def between(first_B23: Tensor, second_B23: Tensor) -> Tensor:
    """float64 [B, 2, 3]: the affine from pixels of the first crop to pixels of the second."""
    first_B23, second_B23 = first_B23.double(), second_B23.double()
    linear_B22 = second_B23[..., :2] @ torch.linalg.inv(first_B23[..., :2])
    shift_B21 = second_B23[..., 2:] - linear_B22 @ first_B23[..., 2:]
    return torch.cat([linear_B22, shift_B21], dim=-1)


def apply(affine_23: Tensor, places_Q2: Tensor) -> Tensor:
    """[Q, 2]: the affine's image of each place."""
    return places_Q2 @ affine_23[:, :2].T + affine_23[:, 2]


def correspond(
    query_BDHW: Tensor,
    gallery_BDHW: Tensor,
    query_body_BHW: Tensor,
    gallery_body_BHW: Tensor,
    query_affine_B23: Tensor,
    gallery_affine_B23: Tensor,
    height_B: Tensor,
    *,
    tolerance: float = 0.05,
    most_queries: int = 256,
) -> Correspondence:
    """Dense correspondence from the cells of one modality to all body cells of another, person by person.

    Args:
        query_BDHW, gallery_BDHW: dense embeddings (normalized here).
        query_body_BHW, gallery_body_BHW: bool, cells on the person.
        query_affine_B23, gallery_affine_B23: source image -> crop, of the two crops.
        height_B: the person's height in pixels of the source image.
        tolerance: radius of a correct answer as a share of the person's height.
        most_queries: of a person with more body cells this many are asked, evenly spaced; the gallery is always whole.
    """
    centers_HW2 = cell_centers(query_BDHW.shape[2], query_BDHW.shape[3], device=query_BDHW.device)
    across_B23 = between(query_affine_B23, gallery_affine_B23)
    scale_B = torch.linalg.det(gallery_affine_B23[..., :2].double()).abs().sqrt()
    radius_B = tolerance * height_B.double() * scale_B + _SLACK
    people = [
        _person(
            query_DHW[:, query_body_HW].T,
            gallery_DHW[:, gallery_body_HW].T,
            centers_HW2[query_body_HW],
            centers_HW2[gallery_body_HW],
            across_23,
            radius,
            most_queries,
        )
        for query_DHW, gallery_DHW, query_body_HW, gallery_body_HW, across_23, radius in zip(
            query_BDHW, gallery_BDHW, query_body_BHW, gallery_body_BHW, across_B23, radius_B, strict=True
        )
    ]
    columns = torch.stack(people).T if people else query_BDHW.new_zeros(len(fields(Correspondence)), 0)
    return Correspondence(*columns)


def _person(
    query_QD: Tensor,
    gallery_GD: Tensor,
    places_Q2: Tensor,
    gallery_places_G2: Tensor,
    across_23: Tensor,
    radius: Tensor,
    most: int,
) -> Tensor:
    if len(query_QD) > most:
        chosen_Q = torch.linspace(0, len(query_QD) - 1, most, device=query_QD.device).round().long()
        query_QD, places_Q2 = query_QD[chosen_Q], places_Q2[chosen_Q]
    correct_QG = closeness(apply(across_23, places_Q2), gallery_places_G2) >= -radius
    asked_Q = correct_QG.any(dim=1)
    correct_QG = correct_QG[asked_Q]
    if not len(correct_QG):
        nan = float("nan")
        return query_QD.new_tensor([nan, nan, nan, 0.0 if len(asked_Q) else nan], dtype=torch.float32)
    found_Q = credit(cosine(query_QD[asked_Q], gallery_GD), correct_QG)
    guessed_Q = correct_QG.float().mean(dim=1)
    placed_Q = credit(closeness(places_Q2[asked_Q], gallery_places_G2), correct_QG)
    return torch.stack([found_Q.mean(), guessed_Q.mean(), placed_Q.mean(), asked_Q.float().mean()])
