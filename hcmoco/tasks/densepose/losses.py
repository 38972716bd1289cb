"""The chart head's losses: foreground everywhere, parts and coordinates at the annotated points only.

Shape suffixes: R regions, N points, C channels, S side of the head's maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.tasks.densepose.heads import NUM_CLASSES, ChartMaps


def sample_maps(maps_RCSS: Tensor, places_RN2: Tensor) -> Tensor:
    """Read maps bilinearly at places in the region.

    A map of S cells spans the region, so the center of cell j is at (j + 0.5) / S. Beyond the outermost centers the
    values are constant.

    Args:
        maps_RCSS: one map per region.
        places_RN2: x, y; (0, 0) is the region's upper left corner and (1, 1) its lower right one.
    Returns:
        [R, C, N].
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
    """Compute the three terms, unweighted. A term without annotations is exactly 0 and has no gradient.

    Args:
        maps: output of the head.
        foreground_RSS: int64, 1 on the region's person.
        has_mask_R: bool, whether the foreground is annotated.
        places_RN2: of the points, in shares of the region; points outside 0..1 do not count.
        points_RN3: I (1..24), U, V.
        has_point_RN: bool; False for padding.
        images: number of images that the regions come from.
    Returns:
        coarse: mean cross entropy over the cells of regions with a mask.
        part: mean cross entropy over the points.
        uv: smooth L1 of U and of V in the point's own chart, summed over the points, per image. (The published sum over
            a worker's images depends on their number.)
    """
    # Padding holds part 0, which has no chart. Such points are masked, but must not index out of range or carry a NaN.
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
