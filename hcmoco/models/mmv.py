"""The heads of the MMV baseline (Alayrac et al. 2020, "fine and coarse spaces") on our encoders, in place of the
mappers.

RGB and depth, which are dense, meet in a fine space; RGB and keypoints, which are semantic, in a coarse one that is
reached from the fine one. Depth and keypoints are never compared in training: depth gets to the coarse space by the map
that RGB trains.

The paper reports MMV without a description and its release has none; what is fixed here: widths 512 and 256, a hidden
layer of 512 with batch norm for RGB, one linear map for depth and keypoints, batch norm on what leaves an RGB head.

Shape suffixes: B batch, C channels, H and W rows and columns, P cells, D embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hcmoco.models.mappers import BranchMapper
from hcmoco.models.multimodal import DenseModality, Modality, ModelConfig, MultiModalEncoders, seeded, unit_length

FINE, COARSE = 512, 256


class MMV(MultiModalEncoders):
    """The encoders with MMV's heads. The encoders' first weights are those of `HCMoCo` with the same seed.

    Args and errors: see `MultiModalEncoders`.
    """

    def __init__(self, config: ModelConfig, *, seed: int, load: bool = True):
        super().__init__(config, seed=seed, load=load)
        with seeded(seed, "mmv heads"):
            self.global_mappers = nn.ModuleDict(
                {
                    "rgb": BranchMapper(self.rgb.channels, FINE),
                    "depth": BranchMapper(self.depth.channels, FINE),
                    "keypoints": nn.Linear(config.embedding, COARSE),
                }
            )
            self.rgb_tail = nn.Sequential(nn.BatchNorm1d(FINE), nn.ReLU(), nn.Linear(FINE, FINE), nn.BatchNorm1d(FINE))
            self.to_coarse = nn.Sequential(nn.ReLU(), nn.Linear(FINE, COARSE), nn.BatchNorm1d(COARSE))

    @property
    def dense_width(self) -> int:
        return FINE

    def fine(self, modality: DenseModality, features: Sequence[Tensor]) -> Tensor:
        """[B, 512]: an image in the fine space, not yet of unit length."""
        mapper = self.global_mappers[modality]
        assert isinstance(mapper, BranchMapper)
        fine_BD = mapper.pooled(self.pyramid(modality, features))
        return self.rgb_tail(fine_BD) if modality == "rgb" else fine_BD

    def coarse(self, modality: Modality, features: Tensor) -> Tensor:
        """[B, 256]: in the coarse space, not yet of unit length; from fine features [B, 512] of an image, or joints'
        features [B, J, D]."""
        return (
            self.global_mappers["keypoints"](features.mean(1)) if modality == "keypoints" else self.to_coarse(features)
        )

    def global_embedding(self, modality: Modality, features: Sequence[Tensor] | Tensor) -> Tensor:
        """[B, 1024], for probes: a vector whose product with another modality's is half their cosine in the space that
        the two share.

        Its three parts are the fine space, the coarse space as RGB and keypoints use it, and the coarse space as depth
        and keypoints do; a pair has exactly one of them in common.
        """
        if isinstance(features, Tensor):
            coarse_BD = unit_length(self.coarse(modality, features))
            parts = [coarse_BD.new_zeros(len(coarse_BD), FINE), coarse_BD, coarse_BD]
        else:
            fine_BD = self.fine(modality, features)
            coarse_BD = unit_length(self.coarse(modality, fine_BD))
            nothing_BD = torch.zeros_like(coarse_BD)
            parts = [unit_length(fine_BD), *((coarse_BD, nothing_BD) if modality == "rgb" else (nothing_BD, coarse_BD))]
        return torch.cat(parts, 1) / 2**0.5

    def dense_map(self, modality: DenseModality, maps: Sequence[Tensor]) -> Tensor:
        """[B, 512, H, W].

        The fine space at every stride-4 cell; the head that was trained on means over cells, applied to each.
        """
        mapper = self.global_mappers[modality]
        assert isinstance(mapper, BranchMapper)
        fine_BDHW = mapper.full(self.cell_pyramid(modality, maps))
        if modality == "rgb":
            batch, _, height, width = fine_BDHW.shape
            cells_ND = self.rgb_tail(fine_BDHW.permute(0, 2, 3, 1).reshape(-1, FINE))
            fine_BDHW = cells_ND.view(batch, height, width, FINE).permute(0, 3, 1, 2)
        return unit_length(fine_BDHW, dim=1)

    def dense_at(self, modality: DenseModality, maps: Sequence[Tensor], cells_BP: Tensor) -> Tensor:
        """[B, P, 512]: `dense_map` at flat cells; cells below 0 are padding for who calls to mask."""
        flat_BND = self.dense_map(modality, maps).flatten(2).transpose(1, 2)
        return flat_BND.gather(1, cells_BP.clamp(min=0)[..., None].expand(-1, -1, FINE))
