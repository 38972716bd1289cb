"""The encoders and mappers of a pre-training with one parsing head on their dense embeddings.

Shape suffixes: B rows, R rows that an encoder saw, L labeled rows, D embedding, K classes, H and W rows and columns at
stride 4, S side of the crop in pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.data.schema import MAP_STRIDE
from hcmoco.data.transfer import send
from hcmoco.models.multimodal import HCMoCo, ModelConfig, unit_length
from hcmoco.models.points.encoder import read_cells
from hcmoco.pretraining.views import Views
from hcmoco.rng import make_rng
from hcmoco.tasks.parsing.head import ParsingHead
from hcmoco.tasks.parsing.loss import cross_entropy

INPUTS = ("rgb", "depth", "fused")
"""What the head can be read on: the dense embedding of one modality, or their elementwise maximum."""


class CoTrained(nn.Module):
    """All that is trained.

    The head is the paper's: 1 x 1 convolution of D to D channels, batch norm, ReLU, 1 x 1 convolution to the classes;
    one for all inputs.

    Args:
        seed: of fresh weights; dense mappers and head have streams of their own, so they are the same for every start
            and method.

    Attributes:
        encoders: the multi-modal model, with its dense mappers.
        head: the classifier, on unit vectors.
        no_reading: [D], the dense embedding of depth where it has no reading, not yet of unit length; None where depth
            is read as a picture, whose embeddings are everywhere. Points are only where there is a reading, and of a
            person who is cut out that leaves the background without any.
    """

    def __init__(self, config: ModelConfig, *, seed: int):
        super().__init__()
        self.encoders = HCMoCo(config, seed=seed, load=False)
        self.encoders.add_dense_mappers()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(make_rng(seed, "initial weights/head").integers(2**63)))
            self.head = ParsingHead([config.embedding])
            self.no_reading = nn.Parameter(torch.randn(config.embedding)) if config.depth.is_points else None

    def dense(
        self, features: Mapping[str, Any], views: Views, which: str, wanted_B: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """The head's input at the rows that `wanted_B` (bool [B], on the host) marks and that have it: unit vectors [L,
        D, H, W] of "rgb" or "depth", or for "fused" the elementwise maximum of both; and which of the B rows these are,
        int64 [L], ascending."""
        names = ("rgb", "depth") if which == "fused" else (which,)
        for name in names:
            wanted_B = wanted_B & views.has[name]
        maps = []
        for name in names:
            # The encoder saw the rows that have the modality; of these, those that are wanted.
            place_L = send(np.flatnonzero(wanted_B[views.has[name]]), views.index_B.device)
            maps.append(self._map(name, [each[place_L] for each in features[name]]) if name in features else None)
        rows_L = np.flatnonzero(wanted_B)
        known = [each for each in maps if each is not None]
        if len(known) < len(names):  # nobody has the modality
            grid = views.size // MAP_STRIDE
            device = views.index_B.device
            return torch.zeros(0, self.encoders.config.embedding, grid, grid, device=device), rows_L
        return known[0] if len(known) == 1 else torch.maximum(*known), rows_L

    def _map(self, name: str, features: list[Tensor]) -> Tensor:
        """[L, D, H, W]: dense embeddings, of depth that is read as points `no_reading` where it has none."""
        map_LDHW = self.encoders.dense_map(name, features)
        if name != "depth" or self.no_reading is None:
            return map_LDHW
        return map_LDHW.where(read_cells(features)[:, None], unit_length(self.no_reading)[:, None, None])

    def with_background(self, found: dict[str, Tensor], num_anchors: int, num_background: int) -> dict[str, Tensor]:
        """Return what `embed` returned, with `no_reading` as the depth of the anchors on the background.

        Args:
            found: of the encoders; of the dense embeddings [B, P + J, D] the last of the P anchors are those on the
                background.
            num_anchors: the others, those with a reading.
            num_background: anchors on the background.
        """
        if self.no_reading is None or not num_background or "dense/depth" not in found:
            return found
        depth_BCD = found["dense/depth"]
        token_BPD = unit_length(self.no_reading).to(depth_BCD.dtype).expand(len(depth_BCD), num_background, -1)
        after = num_anchors + num_background
        return {**found, "dense/depth": torch.cat([depth_BCD[:, :num_anchors], token_BPD, depth_BCD[:, after:]], 1)}

    def logits(self, dense_LDHW: Tensor, size: int) -> Tensor:
        """float32 [L, K, S, S]: of the head, bilinearly enlarged to the crop."""
        return F.interpolate(self.head([dense_LDHW]).float(), size=(size, size), mode="bilinear", align_corners=False)


def parsing_loss(
    model: CoTrained,
    features: Mapping[str, Any],
    views: Views,
    which: str,
    parts_BSS: Tensor,
    labeled_B: np.ndarray,
    weights_K: Tensor | None,
) -> Tensor:
    """0-d: the class-weighted cross entropy of the head on labeled rows that have its input; pixels of IGNORE and all
    other rows are out of it, and 0 is what is left where there is no row.

    Args:
        which: one of INPUTS.
        parts_BSS: int64, class or IGNORE.
        labeled_B: bool, on the host.
    """
    dense_LDHW, rows_L = model.dense(features, views, which, labeled_B)
    if not len(rows_L):
        return dense_LDHW.sum()
    logits_LKSS = model.logits(dense_LDHW, views.size)
    with torch.autocast(logits_LKSS.device.type, enabled=False):
        return cross_entropy(logits_LKSS, parts_BSS[send(rows_L, parts_BSS.device)], weights_K)
