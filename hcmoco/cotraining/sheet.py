"""What a co-trained model makes of people: RGB, depth, truth, and the head read on RGB, on depth and on both.

Shapes: S side of a crop.
"""

from collections.abc import Mapping

import numpy as np

from hcmoco.cotraining.loader import LabeledBatch
from hcmoco.cotraining.model import INPUTS
from hcmoco.tasks.parsing.sheet import paint, panel_of, stacked

HEADS = ("RGB", "depth", "truth", "from RGB", "from depth", "from both")


def versatility_sheet(batch: LabeledBatch, predicted: Mapping[str, np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3]: a person per line, two lines abreast, over a legend of the parts.

    Args:
        predicted: of `evaluation.predict`; each is painted over what it was made from, that from both over RGB.
    """
    cells = []
    for row, truth_SS in enumerate(batch.parts_BSS):
        rgb, depth = panel_of(batch.batch.decoded_rgb[row]), panel_of(batch.batch.depth[row])
        under = {"rgb": rgb, "depth": depth, "fused": rgb}
        made = [paint(under[which], predicted[which][row]) for which in INPUTS]
        cells.append(np.concatenate([rgb, depth, paint(rgb, truth_SS), *made], axis=1))
    return stacked(cells, HEADS)
