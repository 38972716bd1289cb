"""The chart head's losses: foreground everywhere, parts and coordinates at the annotated points only.

Shape suffixes: R regions, N points, C channels, S side of the head's maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.tasks.densepose.heads import NUM_CLASSES, ChartMaps


def sample_maps(maps_RCSS: Tensor, places_RN2: Tensor) -> Tensor:
    """[R, C, N]: maps read bilinearly at places in the region, (0, 0) its upper left corner and (1, 1) its lower right one.

    A map of S cells spans the region, so cell j's center lies at (j + 0.5) / S; beyond the outermost centers values stay as they are.
    """
    grid = 2 * places_RN2[:, :, None] - 1
    return F.grid_sample(maps_RCSS, grid, mode="bilinear", padding_mode="border", align_corners=False)[..., 0]


def chart_losses(
    maps: ChartMaps,
    foreground_RSS: Tensor,
    has_mask_R: Tensor,
    places_RN2: Tensor,
    points_RN3: Tensor,
    has_point_RN: Tensor,
    images: int,
) -> dict[str, Tensor]:
    """The three terms, unweighted, each exactly 0 and without gradient where nothing is annotated.

    Args:
        foreground_RSS: int64, 1 on the region's person. has_mask_R: bool, whether that is known.
        places_RN2: of the points, in shares of the region; those outside 0..1 count for nothing.
        points_RN3: I (1..24), U, V. has_point_RN: bool.
        images: how many the regions come from.
    Returns:
        coarse: mean cross entropy over the cells of regions with a mask.
        part: mean cross entropy over the points.
        uv: smooth L1 of U and of V in the point's own chart, summed over the points, per image (the published sum over a worker's images
            depends on how many those are).
    """
    # Padding holds part 0, whose chart does not exist; such points are masked, but must not index out of range or carry a nan.
    chart_RN = points_RN3[..., 0].long().clamp(1, NUM_CLASSES - 1)
    inside_RN = has_point_RN & ((places_RN2 >= 0) & (places_RN2 <= 1)).all(-1)
    places_RN2 = places_RN2.where(inside_RN[..., None], 0.5)

    cells_RSS = F.cross_entropy(maps.coarse, foreground_RSS, reduction="none") * has_mask_R[:, None, None]
    part_RN = F.cross_entropy(sample_maps(maps.fine, places_RN2), chart_RN, reduction="none") * inside_RN
    error_RN = torch.zeros_like(part_RN)
    for coordinate, maps_RCSS in ((1, maps.u), (2, maps.v)):
        here_RN = sample_maps(maps_RCSS, places_RN2).gather(1, chart_RN[:, None] - 1)[:, 0]
        error_RN = error_RN + F.smooth_l1_loss(here_RN, points_RN3[..., coordinate], reduction="none")
    side = maps.coarse.shape[-1]
    return {
        "coarse": cells_RSS.sum() / (has_mask_R.sum() * side * side).clamp(min=1),
        "part": part_RN.sum() / inside_RN.sum().clamp(min=1),
        "uv": (error_RN * inside_RN).sum() / images,
    }
