"""The multi-modal model: two image encoders, one skeleton encoder and the mappers into the shared space.

Shape suffixes: B batch, C channels, H and W rows and columns, J joints, P cells, D embedding. All embeddings that leave
this module have unit length, computed in float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from hcmoco.config import Config
from hcmoco.data.schema import Modality
from hcmoco.data.skeletons import TRAINING_SETS, joint_set
from hcmoco.models.compiled import call
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.fusion import AS_TRAINED, settle_fusion, with_fusion
from hcmoco.models.mappers import BranchMapper, cells_of
from hcmoco.models.normalization import normalize_depth, normalize_keypoints, normalize_rgb
from hcmoco.models.points.encoder import PointCloud, PointEncoder, features_on_cells, make_cloud
from hcmoco.models.semgcn import SemGCN, SkeletonConfig
from hcmoco.models.semgcn_weights import load_skeleton_weights
from hcmoco.models.weight_files import WeightsReport
from hcmoco.rng import make_rng
from hcmoco.weights import encoder_weights

DenseModality = str  # one of DENSE_MODALITIES
DENSE_MODALITIES = ("rgb", "depth")


class ModelConfig(Config):
    """The paper's instantiation (section 3.4) with a choice of backbones."""

    rgb: EncoderConfig = EncoderConfig()
    depth: EncoderConfig = EncoderConfig()
    skeleton: SkeletonConfig = SkeletonConfig()
    embedding: int = Field(default=128, ge=2, description="size of the shared space; joints' features have it too")
    joint_set: str = Field(default="mpii-16", description="the skeleton that the batches carry")
    polluted_keypoints: bool = Field(
        default=False,
        description="keypoints as the release feeds them in pre-training: not turned with the image, joint 6 "
        "as the root, joints that are not annotated count for root and scale, COCO's normalized before 13 are chosen; "
        "what differs still: see released_keypoints",
    )

    @field_validator("rgb")
    @classmethod
    def _three_channels(cls, rgb: EncoderConfig) -> EncoderConfig:
        if rgb.in_chans != 3:
            raise ValueError(f"in_chans is {rgb.in_chans}, an RGB image has 3")
        if rgb.is_points:
            raise ValueError(f"name = {rgb.name} reads points, which depth has and RGB has not; name a timm model")
        return rgb

    @field_validator("joint_set")
    @classmethod
    def _has_skeleton(cls, name: str) -> str:
        if name not in TRAINING_SETS:
            raise ValueError(f"allowed are {', '.join(TRAINING_SETS)}: the joint sets with a skeleton graph")
        return name


def settle_model(config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """Return a config with the fusions of its encoders decided, and lines that say how. See `settle_fusion`.

    Raises:
        UserError: first weights that cannot be read.
    """
    lines: list[str] = []
    for name in DENSE_MODALITIES:
        encoder: EncoderConfig = getattr(config, name)
        weights = encoder_weights(encoder.init, name)
        encoder, line = settle_fusion(encoder, weights, modality=name, key=f"model.{name}")
        config, lines = config.model_copy(update={name: encoder}), [*lines, *filter(None, [line])]
    return config, lines


def with_saved_fusions(config: ModelConfig, saved: Mapping[str, Any]) -> ModelConfig:
    """Return a config with the fusions that a run was recorded with, where its own are not decided.

    Args:
        saved: the model's part of the run's identity.
    """
    decided = {
        name: with_fusion(getattr(config, name), saved[name]["fusion"])
        for name in DENSE_MODALITIES
        if getattr(config, name).fusion == AS_TRAINED
    }
    return config.model_copy(update=decided)


class MultiModalEncoders(nn.Module, ABC):
    """One encoder per modality, and what every model on them has to offer.

    Every method takes only rows that have the modality: the caller picks them. A subclass adds `global_mappers` and
    says how features become embeddings.

    Args:
        config: the encoders and the joint set.
        seed: of the initial weights; each part has a stream of its own, so a part's weights do not depend on the
            others.
        load: False leaves the encoders' `init` unread, for a caller that brings the state.
    Attributes:
        reports: modality -> what a weights file gave its encoder; empty where none was read.

    Raises:
        UserError: see `build_encoder`.
    """

    global_mappers: nn.ModuleDict

    def __init__(self, config: ModelConfig, *, seed: int, load: bool = True):
        super().__init__()
        self.seed = seed
        self.joint_set = joint_set(config.joint_set)
        with seeded(seed, "rgb"):
            self.rgb = build_encoder(config.rgb, load=load, modality="rgb")
        with seeded(seed, "depth"):
            self.depth = build_encoder(config.depth, load=load, modality="depth")
        # What the encoders decided is what is recorded and exported.
        self.config = config.model_copy(update={"rgb": self.rgb.config, "depth": self.depth.config})
        with seeded(seed, "keypoints"):
            self.keypoints = SemGCN(self.joint_set, config.skeleton, config.embedding)
        self.reports: dict[str, WeightsReport] = {}
        for name in DENSE_MODALITIES:
            if report := getattr(self, name).report:
                self.reports[name] = report
        if load and config.skeleton.init:
            weights = encoder_weights(config.skeleton.init, "keypoints")
            self.reports["keypoints"] = load_skeleton_weights(self.keypoints, weights)

    @property
    @abstractmethod
    def dense_width(self) -> int:
        """Channels of the dense embeddings, D."""

    @abstractmethod
    def global_embedding(self, modality: Modality, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the global embeddings [B, D'] of one modality, of unit length.

        Args:
            features: an image encoder's, such as a pyramid with stride 4 first, or joints' features [B, J, D].
        """

    @abstractmethod
    def dense_at(self, modality: DenseModality, maps: Sequence[Tensor], cells_BP: Tensor) -> Tensor:
        """Return the dense embeddings [B, P, D] at flat stride-4 positions, row * W + column; of depth that is read as
        points, at numbers of points.

        Negative indices are padding; the caller must mask them.
        """

    @abstractmethod
    def dense_map(self, modality: DenseModality, maps: Sequence[Tensor]) -> Tensor:
        """Return the dense embeddings [B, D, H, W] at every position of the stride-4 map."""

    def prepare_rgb(self, rgb_BSS3: Tensor) -> Tensor:
        """Normalize a batch's pixels, uint8 [B, S, S, 3], for the encoder."""
        return normalize_rgb(rgb_BSS3)

    def prepare_depth(self, depth_BSS: Tensor) -> Tensor:
        """Normalize a batch's depth, millimeters in uint16 [B, S, S], for the encoder."""
        return normalize_depth(depth_BSS, self.config.depth.in_chans)

    def prepare_points(self, depth_BSS: Tensor, points_BN: Tensor, rays_B23: Tensor) -> PointCloud:
        """Turn a batch's depth into points, for an encoder that reads those; see `make_cloud`."""
        return make_cloud(depth_BSS, points_BN, rays_B23)

    def prepare_keypoints(self, keypoints_BJ3: Tensor) -> Tensor:
        """Normalize a batch's keypoints, pixels and visibility [B, J, 3], for the encoder: [B, J, 2]."""
        return normalize_keypoints(keypoints_BJ3, self.joint_set, released_root=self.config.polluted_keypoints)

    def encode_rgb(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the feature pyramid of normalized RGB, stride 4 first."""
        return self.rgb(x_BCHW)

    def encode_depth(self, x: Tensor | PointCloud) -> list[Tensor]:
        """Return the features of depth.

        Args:
            x: what the encoder takes: normalized depth, for a pyramid with stride 4 first; or points, for what
                `PointEncoder` returns.
        """
        return self.depth(x)

    def pyramid(self, modality: DenseModality, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the maps among an encoder's features: all of a picture's; of points one map, of a cell per point."""
        return features[: len(getattr(self, modality).channels)]

    def cell_pyramid(self, modality: DenseModality, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return maps over the picture, stride 4 first; the features of points are brought to the cells."""
        if isinstance(getattr(self, modality), PointEncoder):
            return [features_on_cells(list(features))]
        return features

    def encode_keypoints(self, keypoints_BJ2: Tensor, visible_BJ: Tensor) -> Tensor:
        """Return the features [B, J, D] of normalized keypoints and their visibility (bool or 0/1).

        They are the joints' embeddings, not yet of unit length.
        """
        return call(self.keypoints, keypoints_BJ2.where(visible_BJ[..., None] > 0, 0))

    def joint_embedding(self, features_BJD: Tensor) -> Tensor:
        """Return f^s of the keypoints, [B, J, D]: the skeleton encoder's own output, as published."""
        return unit_length(features_BJD)

    def joint_cells(self, keypoints: Tensor, size: int | tuple[int, int]) -> Tensor:
        """Return the flat stride-4 positions of keypoints, int64 [B, J], clamped into the map.

        Args:
            keypoints: [B, J, 2 or more], x and y in pixels of an image of `size`.
            size: side of a square image, or (height, width), pixels.
        """
        return cells_of(keypoints[..., :2], (size, size) if isinstance(size, int) else size)


class HCMoCo(MultiModalEncoders):
    """Encoders and mappers of all modalities.

    Stage 1 has one global mapper per modality. From `add_dense_mappers` on, each image encoder has a second linear map
    for positions. Until then the global mapper, which is linear over the same branches, stands in for it.

    Args and errors: see `MultiModalEncoders`.
    """

    def __init__(self, config: ModelConfig, *, seed: int, load: bool = True):
        super().__init__(config, seed=seed, load=load)
        with seeded(seed, "global mappers"):
            self.global_mappers = nn.ModuleDict(
                {
                    "rgb": BranchMapper(self.rgb.channels, config.embedding),
                    "depth": BranchMapper(self.depth.channels, config.embedding),
                    "keypoints": nn.Linear(config.embedding, config.embedding),
                }
            )
        self.dense_mappers: nn.ModuleDict | None = None

    @property
    def dense_width(self) -> int:
        return self.config.embedding

    def add_dense_mappers(self) -> None:
        """Start stage 2: add fresh dense mappers for both image encoders. Raises ValueError if they exist."""
        if self.dense_mappers is not None:
            raise ValueError("the model has its dense mappers already")
        with seeded(self.seed, "dense mappers"):
            mappers = nn.ModuleDict(
                {name: BranchMapper(getattr(self, name).channels, self.config.embedding) for name in DENSE_MODALITIES}
            )
        self.dense_mappers = mappers.to(next(self.global_mappers.parameters()).device)

    def global_embedding(self, modality: Modality, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Return f^g of the paper's section 3.1, [B, D]: the mapper on the features' mean.

        The mean is over the positions of an image, or over all joints of a skeleton, as published.
        """
        mapper = self.global_mappers[modality]
        return unit_length(
            mapper(features.mean(1))
            if isinstance(features, Tensor)
            else cast(BranchMapper, mapper).pooled(self.pyramid(modality, features))
        )

    def dense_at(self, modality: DenseModality, maps: Sequence[Tensor], cells_BP: Tensor) -> Tensor:
        return unit_length(self._dense_mapper(modality).at(self.pyramid(modality, maps), cells_BP))

    def dense_map(self, modality: DenseModality, maps: Sequence[Tensor]) -> Tensor:
        return unit_length(self._dense_mapper(modality).full(self.cell_pyramid(modality, maps)), dim=1)

    def _dense_mapper(self, modality: DenseModality) -> BranchMapper:
        mappers = self.global_mappers if self.dense_mappers is None else self.dense_mappers
        return cast(BranchMapper, mappers[modality])


def unit_length(x: Tensor, dim: int = -1) -> Tensor:
    """x / max(|x|, 1e-6) along `dim`, in float32 or better; the zero vector stays, with a finite gradient."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=dim, eps=1e-6)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A context in which a model is in evaluation mode; afterwards every module is in its own mode again."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def seeded(seed: int, part: str) -> Iterator[None]:
    """A context with torch's generator keyed by (seed, part); outside it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(make_rng(seed, f"initial weights/{part}").integers(2**63)))
        yield
