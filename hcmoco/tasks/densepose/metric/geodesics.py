"""Geodesic distances between places on the body's surface, which are given by chart and chart coordinates.

Units are meters on a body of average size, as in the protocol's scales: with 0.255, the scale of the first publication,
a point that is 0.3 m off has the similarity 0.5. Shapes: N places, R reference points, L labeled places, 24 charts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from hcmoco.data.body_parts import NUM_CHARTS

# Coarse part of each chart, 0 for the background: torso, hands, feet, upper legs, lower legs, upper arms, lower arms,
# head.
COARSE_PARTS = np.array([0, 1, 1, 2, 2, 3, 3, *[4] * 4, *[5] * 4, *[6] * 4, *[7] * 4, 8, 8])
# Mean geodesic distance, in meters, between the points of a coarse part: the constants of the published evaluator.
PART_SCALES = np.array([0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150])
SINGLE_SCALE = 0.255


def chart_scales(scale: float | None = None) -> np.ndarray:
    """Return kappa of each chart: float64 [25], meters. The first, of the background, is never used.

    Args:
        scale: one for all charts, such as SINGLE_SCALE of the DensePose paper (CVPR 2018); None takes PART_SCALES of
            the challenges since then, which all later publications use.
    """
    per_part = np.concatenate([[np.inf], PART_SCALES if scale is None else np.full(len(PART_SCALES), float(scale))])
    return per_part[COARSE_PARTS]


@dataclass(frozen=True, eq=False)
class Geodesics:
    """The body's surface: labeled places, the reference point of each, and the distances between reference points.

    Attributes:
        name: of the surface.
        iuv: float32 [L, 3], chart 1..24, U and V of the labeled places.
        reference: int [L], reference point of each.
        pairs: distances in meters of reference points a, b, both int [N] and >= 0.
        kappa: float64 [25], meters, scale of each chart.
    """

    name: str
    iuv: np.ndarray
    reference: np.ndarray
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray]
    kappa: np.ndarray = field(default_factory=chart_scales)
    _charts: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        chart_L = self.iuv[:, 0].astype(np.int64)
        for chart in range(1, NUM_CHARTS + 1):
            rows = np.flatnonzero(chart_L == chart)
            if not len(rows):
                raise ValueError(f"the surface {self.name} has no place in chart {chart}")
            self._charts[chart] = cKDTree(self.iuv[rows, 1:]), self.reference[rows]

    def vertices(self, iuv_N3: np.ndarray) -> np.ndarray:
        """Return int64 [N]: the reference point of the nearest labeled place in the same chart; -1 for the background.

        Args:
            iuv_N3: chart, U, V.
        Raises:
            ValueError: a chart is not 0..24, or a coordinate is not finite.
        """
        iuv_N3 = np.asarray(iuv_N3).reshape(-1, 3)
        found_N = np.full(len(iuv_N3), -1, np.int64)
        if not np.isfinite(iuv_N3).all():
            raise ValueError("chart coordinates are not finite")
        for chart in np.unique(iuv_N3[:, 0]):
            if chart == 0:
                continue
            if chart not in self._charts:
                raise ValueError(f"chart {chart:g} is none of 1..{NUM_CHARTS}")
            own_N = iuv_N3[:, 0] == chart
            tree, reference = self._charts[int(chart)]
            found_N[own_N] = reference[tree.query(iuv_N3[own_N, 1:])[1]]
        return found_N

    def distances(self, a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
        """Return float64 [N]: meters between reference points (`vertices`); infinite if either is -1."""
        found_N = np.full(len(a_N), np.inf)
        known_N = (a_N >= 0) & (b_N >= 0)
        found_N[known_N] = self.pairs(a_N[known_N], b_N[known_N])
        return found_N

    def between(self, a_N3: np.ndarray, b_N3: np.ndarray) -> np.ndarray:
        """Return float64 [N]: meters between places, which are given as chart, U, V."""
        return self.distances(self.vertices(a_N3), self.vertices(b_N3))


def full_matrix(distances_RR: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return `pairs` of a square matrix."""
    return lambda a, b: distances_RR[a, b].astype(np.float64)


def lower_triangle(distances_P: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return `pairs` of the entries below the diagonal, row by row: i > j is at i (i - 1) / 2 + j."""

    def pairs(a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
        high, low = np.maximum(a_N, b_N), np.minimum(a_N, b_N)
        found = np.zeros(len(high))
        other = high != low
        found[other] = distances_P[high[other] * (high[other] - 1) // 2 + low[other]]
        return found

    return pairs
