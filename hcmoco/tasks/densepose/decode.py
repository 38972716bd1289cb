"""Decode the chart head's maps to I, U, V at the pixels of each detection.

Shape suffixes: D detections, C channels, S side of the head's maps, P pixels of a detection; h and w its rows and
columns.
"""

import math

import torch
from torch import Tensor

from hcmoco.tasks.densepose.heads import ChartMaps
from hcmoco.tasks.densepose.losses import sample_maps


def pixel_frame(box_4: tuple[float, float, float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return the pixels that a box touches: columns x0 to x1 - 1 and rows y0 to y1 - 1, inside the image.

    Args:
        box_4: x0, y0, x1, y1 in pixels.
        height, width: of the image.
    """
    x0, y0, x1, y1 = box_4
    return max(0, math.floor(x0)), max(0, math.floor(y0)), min(width, math.ceil(x1)), min(height, math.ceil(y1))


def decode(maps: ChartMaps, boxes_D4: Tensor, height: int, width: int) -> list[Tensor]:
    """Decode I, U, V of each detection.

    I is the strongest of the 24 parts where the coarse logits say person, else 0. U and V are those of that part's
    chart, clipped to 0..1; they are 0 where I is. Logits and coordinates are read bilinearly at the pixels' centers, as
    the losses read them at the points.

    Args:
        maps: of D regions, the boxes below.
        boxes_D4: in pixels of the image over which I, U, V are decoded.
        height, width: of that image.
    Returns:
        float32 [h, w, 3] for each detection, over `pixel_frame` of its box.
    """
    return [_decode_one(maps.at(slice(row, row + 1)), box_4, height, width) for row, box_4 in enumerate(boxes_D4)]


def _decode_one(maps: ChartMaps, box_4: Tensor, height: int, width: int) -> Tensor:
    low_x, low_y, high_x, high_y = pixel_frame(tuple(box_4.tolist()), height, width)
    device = box_4.device
    place_w = (torch.arange(low_x, high_x, device=device) + 0.5 - box_4[0]) / (box_4[2] - box_4[0])
    place_h = (torch.arange(low_y, high_y, device=device) + 0.5 - box_4[1]) / (box_4[3] - box_4[1])
    places_1P2 = torch.stack(torch.meshgrid(place_w, place_h, indexing="xy"), -1).reshape(1, -1, 2)
    on_person_P = sample_maps(maps.coarse, places_1P2)[0].argmax(0) > 0
    iuv_P3 = torch.zeros(len(on_person_P), 3, device=device)
    if on_person_P.any():
        # Coordinates have many channels; they are read on the person only.
        places_1P2 = places_1P2[:, on_person_P]
        # Channel 0, background, is part of the published layout but never the target of a loss.
        chart_P = sample_maps(maps.fine, places_1P2)[0, 1:].argmax(0)
        coordinates = [
            sample_maps(axis, places_1P2)[0].gather(0, chart_P[None])[0].clamp(0, 1) for axis in (maps.u, maps.v)
        ]
        iuv_P3[on_person_P] = torch.stack([(chart_P + 1).float(), *coordinates], -1)
    return iuv_P3.reshape(high_y - low_y, high_x - low_x, 3)
