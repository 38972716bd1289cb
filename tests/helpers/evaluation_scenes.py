"""A surface on which every distance is known, and scenes of people painted with it."""

from dataclasses import dataclass

import numpy as np

from hcmoco.tasks.densepose.metric.geodesics import Geodesics

STEPS = 101
STEP_METRES = 0.01
ELSEWHERE = 0.8


def line_surface(kappa=None) -> Geodesics:
    """Each chart is a line of one meter along U; the way from a chart to another is 0.8 m."""
    chart, step = (each.ravel() for each in np.meshgrid(np.arange(1, 25), np.arange(STEPS), indexing="ij"))
    iuv = np.stack([chart, step / (STEPS - 1), np.full(len(step), 0.5)], axis=1).astype(np.float32)

    def pairs(a, b):
        return np.where(a // STEPS == b // STEPS, np.abs(a - b) * STEP_METRES, ELSEWHERE)

    return Geodesics("line", iuv, np.arange(len(iuv)), pairs, **({} if kappa is None else {"kappa": kappa}))


@dataclass
class Rows:
    ids: tuple
    sizes: np.ndarray
    instances: list


def painted(width: int, height: int, low: int = 1, high: int = 24) -> np.ndarray:
    """float32 [h, w, 3]: charts from top to bottom, U from left to right in steps of 0.01 between 0.2 and 0.6."""
    iuv = np.zeros((height, width, 3), np.float32)
    iuv[..., 0] = np.linspace(low, high, height).round()[:, None]
    iuv[..., 1] = np.linspace(0.2, 0.6, width).round(2)
    iuv[..., 2] = 0.5
    return iuv


def person(left: int, top: int, iuv: np.ndarray, size=(120, 160), every: int = 3) -> dict:
    """The annotation that `iuv`, painted at this place, is exactly right for: a point on every third pixel, at its
    center."""
    height, width = iuv.shape[:2]
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = iuv[..., 0] > 0
    rows, columns = np.nonzero(iuv[..., 0])
    rows, columns = rows[::every], columns[::every]
    points = np.concatenate([np.stack([columns + left + 0.5, rows + top + 0.5], 1), iuv[rows, columns]], axis=1).astype(
        np.float32
    )
    box = np.array([left, top, left + width, top + height], np.float32)
    return {"box": box, "mask": mask, "dp_points": points, "crowd": False}


def detected(*found) -> dict:
    """A prediction of (score, left, top, iuv)."""
    return {
        "boxes": np.array([[x, y, x + iuv.shape[1], y + iuv.shape[0]] for _, x, y, iuv in found], np.float32).reshape(
            -1, 4
        ),
        "scores": np.array([each[0] for each in found], np.float32),
        "iuv": [each[3] for each in found],
    }
