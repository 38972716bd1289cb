"""Draw annotated surface points as DensePose-COCO has them: a few on each visible body part, spread over it.

Shape legend: P pixels of one person.
"""

import numpy as np

# The 14 parts on which annotators of DensePose-COCO were shown points, by chart 1..24: front and back of a limb are one
# part.
PART_OF_CHART = np.array(
    [0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14], np.uint8
)
PART_OF_CHART.setflags(write=False)
_PIXELS_A_POINT = 5  # on parts too small for all of their points


def surface_points(
    flat_P: np.ndarray, iuv_P3: np.ndarray, size: int, max_points: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw up to `max_points` points on each of the 14 body parts of one person.

    Args:
        flat_P: int [P], the person's visible pixels, row * size + column.
        iuv_P3: float [P, 3], what they show: I 1..24, U and V 0..1.
        size: side of the image in pixels.
        max_points: largest number of points on a part; a part of few pixels gets fewer.
        rng: source of the draws.

    Returns:
        float32 [N, 5]: x and y in pixels (the centers of pixels), I, U, V.
    """
    rows, columns = np.divmod(flat_P, size)
    part_P = PART_OF_CHART[iuv_P3[:, 0].astype(np.int64)]
    # Along a curve that fills the plane neighbors stay neighbors, so that equal stretches of it are spots of equal
    # area.
    order = np.lexsort((_interleaved(rows) * 2 + _interleaved(columns), part_P))
    chosen: list[np.ndarray] = []
    for pixels in np.split(order, np.searchsorted(part_P[order], np.arange(2, 15))):
        count = min(max_points, -(-len(pixels) // _PIXELS_A_POINT))
        edges = np.linspace(0, len(pixels), count + 1)
        if count:
            chosen.append(pixels[(edges[:-1] + rng.random(count) * np.diff(edges)).astype(np.int64)])
    points = np.concatenate(chosen)
    return np.column_stack([columns[points] + 0.5, rows[points] + 0.5, iuv_P3[points]]).astype(np.float32)


def _interleaved(values: np.ndarray) -> np.ndarray:
    """The bits of values below 2^16 with a zero before each."""
    spread = values.astype(np.int64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | (spread << shift)) & mask
    return spread
