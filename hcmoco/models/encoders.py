"""Image encoders: feature pyramids of timm backbones, from stride 4 on.

Shape suffixes: B batch, C channels, H and W rows and columns.
"""

import difflib
import functools
from collections.abc import Sequence
from typing import Any, Literal

import timm
import torch
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator
from timm.layers import Format
from torch import Tensor, nn

from hcmoco.config import Config
from hcmoco.errors import UserError, one_line
from hcmoco.models.compiled import call
from hcmoco.models.fusion import AS_TRAINED, Fusion, set_fusion, settle_fusion
from hcmoco.models.hub import weights_arguments
from hcmoco.models.lane_draws import draw_by_lane
from hcmoco.models.points.encoder import PointEncoder, build_point_encoder
from hcmoco.models.points.settings import POINTS, check_point_settings, points_of_crop
from hcmoco.models.pretrained import WeightsReport, load_weights, trunk_key
from hcmoco.models.strided_conv import skip_first
from hcmoco.models.vit.config import VitConfig, is_plain_vit, vit_arguments
from hcmoco.models.vit.normalization import HALF, take_imagenet_pixels
from hcmoco.models.vit.pyramid import PlainVit
from hcmoco.models.vit.weights import timm_names
from hcmoco.weights import SCRATCH, TIMM, encoder_weights

_OWN_ARGUMENTS = ("features_only", "feature_location", "pretrained", "in_chans", "out_indices")


class EncoderConfig(Config):
    """One image encoder.

    `init` is "scratch", "timm" (the weights that timm publishes under `name`), weights in this package by name, the
    folder of a pre-training, or the path or URI of a weights file (see `hcmoco.models.pretrained.load_weights`).
    """

    name: str = Field(
        default="hrnet_w18",
        description="timm model, with or without a tag for its published weights; of depth also pointnet2_msg, which "
        "reads points (docs/points.md)",
    )
    in_chans: int = Field(default=3, ge=1, description="channels of the input; depth is replicated to as many")
    args: dict[str, bool | int | float | str] = Field(
        default={},
        description="further arguments of timm.create_model, such as img_size; pointnet2_msg has one, num_points: a "
        "multiple of 64 from 256 on. Without it, a ninth of the crop's pixels, as a power of 2 of at most 4096 (paper)",
    )
    fusion: Fusion = Field(
        default=AS_TRAINED,
        description="HRNet only: upsampling in fusions. as-trained: as the weights of init were (hcmoco/models/"
        "fusion.py), nearest for drawn ones; a run is recorded with what that was. The paper's is bilinear",
    )
    batch_norm_momentum: float | None = Field(
        default=None, gt=0, le=1, description="null keeps timm's; the release has 0.01"
    )
    conv_init: Literal["timm", "normal-0.001"] = Field(
        default="timm", description="initial convolutions; the release draws from N(0, 0.001)"
    )
    init: str = Field(
        default="scratch",
        min_length=1,
        description="scratch, timm, a weights file, a folder of pretrain.py, or people-small",
    )
    vit: VitConfig = VitConfig()

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != POINTS and not timm.is_model(name):
            close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
            raise ValueError(
                f"timm has no such model{'; close: ' + ', '.join(close) if close else ''}; timm.list_models() lists all"
            )
        return name

    @field_validator("args")
    @classmethod
    def _free(cls, args: dict) -> dict:
        if taken := [key for key in args if key in _OWN_ARGUMENTS]:
            raise ValueError(f"{', '.join(taken)} is set by the encoder itself")
        return args

    @model_validator(mode="after")
    def _consistent(self) -> "EncoderConfig":
        if self.is_points:
            check_point_settings(self, {name: field.default for name, field in type(self).model_fields.items()})
            return self
        if self.fusion == "bilinear" and not self.is_hrnet:
            raise ValueError(f"fusion=bilinear is for HRNet, {self.name} has no fusions; leave it at {AS_TRAINED}")
        if self.vit != VitConfig() and not self.is_plain_vit:
            raise ValueError(f"vit is for plain ViTs, {self.name} has its own pyramid; leave vit out")
        if self.init == "timm" and not timm.models.is_model_pretrained(self.name):
            raise ValueError(f"init=timm: timm publishes no weights for {self.name}; use scratch or a weights file")
        return self

    @model_serializer(mode="wrap")
    def _without_vit(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `vit` out where it means nothing: of what is printed, kept, and compared on resume."""
        return {key: value for key, value in whole(self).items() if key != "vit" or self.is_plain_vit}

    @property
    def is_points(self) -> bool:
        """Whether it reads points of a cloud instead of a picture."""
        return self.name == POINTS

    def points_at(self, size: int) -> int:
        """Return how many points are drawn of a crop of `size` pixels a side; 0: it reads pictures."""
        return points_of_crop(self.args, size) if self.is_points else 0

    @property
    def is_hrnet(self) -> bool:
        return self.name.startswith("hrnet")

    @property
    def is_plain_vit(self) -> bool:
        return is_plain_vit(self.name)

    @property
    def create_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `timm.create_model(name, ...)` that give exactly this trunk, or its ViT; exports print
        them."""
        arguments: dict[str, Any] = vit_arguments() if self.is_plain_vit else {"features_only": True}
        if self.is_hrnet:
            arguments["feature_location"] = ""
        if self.in_chans != 3:
            arguments["in_chans"] = self.in_chans
        return {**arguments, **self.args}


class Encoder(nn.Module):
    """A feature pyramid, finest map (stride 4) first.

    Build one with `build_encoder`. The trunk is timm's own module, so its state loads into plain timm; of a plain ViT
    it is a `PlainVit`, whose `model` is.

    Attributes:
        trunk: the timm model, or a `PlainVit`; may return further maps, finer than stride 4, that the encoder drops.
        channels, strides: of the maps.
        channels_last: whether the trunk itself returns [B, H, W, C]; the encoder never does.
        report: what a weights file gave, None without one.
    """

    def __init__(self, trunk: nn.Module, config: EncoderConfig, report: WeightsReport | None = None):
        super().__init__()
        info: Any = trunk.feature_info
        kept = [
            (channels, stride)
            for channels, stride in zip(info.channels(), info.reduction(), strict=True)
            if stride >= 4
        ]
        self.trunk = trunk
        self.config = config
        self.channels = tuple(channels for channels, _ in kept)
        self.strides = tuple(stride for _, stride in kept)
        self.report = report
        if not self.strides or self.strides[0] != 4 or sorted(set(self.strides)) != list(self.strides):
            raise UserError(
                f"encoder {config.name}: needs one map per stride, from 4 on; it has {info.reduction()}; take a pyramid"
            )
        self.channels_last = getattr(trunk, "output_fmt", Format.NCHW) == Format.NHWC

    def check_size(self, height: int, width: int) -> None:
        """UserError unless the coarsest stride divides both sides, in pixels, and the backbone runs at this size."""
        self._check_strides(height, width)
        check_sizes(self.config, [(height, width)])

    def _check_strides(self, height: int, width: int) -> None:
        stride = self.strides[-1]
        if height % stride or width % stride:
            fits = " x ".join(str(-(-side // stride) * stride) for side in (height, width))
            fewer = self.config.is_plain_vit and stride == 32 and not (height % 16 or width % 16)
            raise UserError(
                f"input of {height} x {width} pixels: {self.config.name} needs sides that {stride} divides; use {fits}"
                f"{', or set its vit.pyramid_levels=3' if fewer else ''}"
            )

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Normalised images to maps [B, C_i, H / stride_i, W / stride_i]; UserError for a size that does not divide."""
        self._check_strides(x_BCHW.shape[2], x_BCHW.shape[3])
        maps = call(self.trunk, x_BCHW)[-len(self.strides) :]
        return [each.permute(0, 3, 1, 2) for each in maps] if self.channels_last else list(maps)


def check_sizes(config: EncoderConfig, sizes: Sequence[tuple[int, int]]) -> None:
    """Check that a backbone runs at some sizes, by running it once without weights, on PyTorch's meta device.

    Backbones with windows or tables of positions take some sizes only, and many say so with an assertion.

    Args:
        config: the encoder.
        sizes: rows and columns of inputs, which the coarsest stride divides.

    Raises:
        UserError: it does not; the message says what it runs with.
    """
    if config.is_hrnet or config.is_points:
        return  # all of them; an HRNet takes seconds to build
    for height, width in sizes:
        reason = _fault(config, height, width)
        if not reason:
            continue
        raise UserError(
            f"input of {height} x {width} pixels: {config.name} does not run at this size ({reason}); "
            f"{_way_out(config, sizes, (height, width))}"
        )


def _way_out(config: EncoderConfig, sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> str:
    """Return what lets a backbone run that does not run at a size: each way was tried."""
    arguments: list[dict[str, Any]] = [{"strict_img_size": False}]
    if len(set(sizes)) == 1 and size[0] == size[1]:
        arguments.insert(0, {"img_size": size[0]})
    for more in arguments:
        changed = config.model_copy(update={"args": {**config.args, **more}})
        if all(_runs(changed, *each) for each in sizes):
            given = ", ".join(f"{key}: {str(value).lower()}" for key, value in changed.args.items())
            return f"give the encoder args={{{given}}}"
    published = timm.get_pretrained_cfg(config.name)
    side = published.input_size[1] if published else 0
    if side and _runs(config, side, side):
        return f"use {side} x {side}, or another backbone"
    return "take another backbone"


def _runs(config: EncoderConfig, height: int, width: int) -> bool:
    try:
        return not _fault(config, height, width)
    except UserError:  # arguments that it does not take
        return False


def _fault(config: EncoderConfig, height: int, width: int) -> str:
    """Return why a backbone does not run at a size, "" if it does. Raises UserError if it cannot be built."""
    return _fault_of(config.model_dump_json(include={"name", "in_chans", "args", "vit"}), height, width)


@functools.lru_cache(maxsize=64)
def _fault_of(encoder: str, height: int, width: int) -> str:
    config = EncoderConfig.model_validate_json(encoder)
    reason = ""
    for device in ("meta", "cpu"):  # some operations do not run on the first
        try:
            with torch.device(device), torch.no_grad():
                maps = build_encoder(config, load=False).eval()(torch.zeros(1, config.in_chans, height, width))
            encoder_strides = [height // each.shape[2] for each in maps]
        except NotImplementedError as error:
            reason = one_line(error)
            continue
        except UserError:
            raise
        except Exception as error:  # assertions and errors of shapes
            return one_line(error)
        return "" if encoder_strides == sorted(set(encoder_strides)) else f"its maps have strides {encoder_strides}"
    return reason


def build_encoder(config: EncoderConfig, *, load: bool = True, modality: str = "") -> Encoder | PointEncoder:
    """The encoder of a config, with its initial weights from torch's generator or from where `init` says.

    Args:
        modality: "rgb" or "depth": whose weights are taken where `init` is a run, an export or weights of this package;
            "": it is none of these.
        load: False leaves `init` unread, for a caller that brings the state, and has decided the fusion.
    Raises:
        UserError: weights that cannot be had or do not fit, arguments that the model does not take, a backbone without
            a pyramid.
    """
    weights = encoder_weights(config.init, modality) if load and modality else config.init
    config, _ = settle_fusion(config, weights if load else SCRATCH, modality=modality)
    if config.is_points:
        return build_point_encoder(config, weights if load else SCRATCH)
    download = load and config.init == "timm"
    try:
        published = weights_arguments(config.name) if download else {"pretrained": False}
        trunk = timm.create_model(config.name, **published, **config.create_arguments)
        if config.is_plain_vit:
            trunk = PlainVit(trunk, config.vit)
    except Exception as error:  # timm and what it downloads with raise many kinds; every one is about this config
        hint = "; without a network, give a weights file" if download else ""
        what = "cannot get timm's weights" if download else f"timm cannot make it with {config.create_arguments}"
        raise UserError(f"encoder {config.name}: {what}: {one_line(error)}{hint}") from error
    _configure(trunk, config, fresh=not download)
    draw_by_lane(trunk)
    skip_first(trunk)
    encoder = Encoder(trunk, config)
    if download and isinstance(trunk, PlainVit) and config.in_chans == 3:
        described: Any = timm.get_pretrained_cfg(config.name)
        take_imagenet_pixels(trunk.cut, described.mean, described.std)
    if load and weights not in (SCRATCH, TIMM):
        encoder.report = load_weights(
            trunk,
            weights,
            name=config.name,
            head_names=lambda: _head_names(config, trunk),
            convert=timm_names(trunk.model, config.vit.position_grid) if isinstance(trunk, PlainVit) else None,
            fresh="pyramid." if isinstance(trunk, PlainVit) else None,
        )
        # An export of ours has the pyramid, and was trained on these pixels.
        if (
            isinstance(trunk, PlainVit)
            and encoder.report.fresh
            and config.vit.pixels == "half"
            and config.in_chans == 3
        ):
            take_imagenet_pixels(trunk.cut, HALF, HALF)
    return encoder


def _configure(trunk: nn.Module, config: EncoderConfig, fresh: bool) -> None:
    if config.is_hrnet:
        set_fusion(trunk, config.fusion)
    for module in trunk.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if config.batch_norm_momentum is not None:
                module.momentum = config.batch_norm_momentum
            if fresh and config.conv_init == "normal-0.001":
                module.reset_parameters()
        elif isinstance(module, nn.Conv2d) and fresh and config.conv_init == "normal-0.001":
            nn.init.normal_(module.weight, std=0.001)


def _head_names(config: EncoderConfig, trunk: nn.Module) -> set[str]:
    """What the whole backbone has and the trunk lacks.

    Keys, and first parts of keys under which the trunk has nothing.
    """
    with torch.device("meta"):
        arguments: dict[str, Any] = {"in_chans": config.in_chans, **config.args}
        whole = timm.create_model(config.name, **arguments)
    known = trunk.state_dict()
    spare = {key for key in whole.state_dict() if trunk_key(key, known) is None}
    used = {key.split(".")[0] for key in whole.state_dict() if key not in spare}
    # The published segmentation HRNets end in last_layer.
    return spare | ({key.split(".")[0] for key in spare} - used) | ({"last_layer"} if config.is_hrnet else set())
