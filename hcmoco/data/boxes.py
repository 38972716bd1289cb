"""Boxes of people: x0, y0, x1, y1 in pixels."""

import numpy as np


def overlap(a_4: np.ndarray, b_4: np.ndarray) -> float:
    """Return the intersection over union of two boxes, 0 to 1; 0 where both are empty."""
    sides = np.minimum(a_4[2:], b_4[2:]) - np.maximum(a_4[:2], b_4[:2])
    both = float(sides.clip(0).prod())
    union = float((a_4[2:] - a_4[:2]).prod() + (b_4[2:] - b_4[:2]).prod()) - both
    return both / union if union > 0 else 0.0
