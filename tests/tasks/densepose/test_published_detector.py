"""The published pyramid and detectron2's whole checkpoints, against the network written out from its own key names."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.normalization import normalize_rgb
from hcmoco.tasks.densepose import DensePose, DensePoseConfig
from hcmoco.tasks.densepose.config import LEVELS
from hcmoco.tasks.densepose.detector import make_proposals
from hcmoco.tasks.densepose.published_pyramid import PublishedPyramid
from tests.helpers.pasted_scenes import about, pasted_scene

ENCODER = "hrnet_w18_small"
SMALL = {"pyramid_channels": 16, "box_width": 32, "chart_width": 16, "chart_depth": 2, "chart_norm": "none"}
PUBLISHED = {**SMALL, "pyramid": "published", "anchor_ratios": (0.5, 1.0, 2.0)}
MEAN_BGR = torch.tensor([103.530, 116.280, 123.675])
"""MODEL.PIXEL_MEAN of detectron2; PIXEL_STD is 1."""


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(EncoderConfig(name=ENCODER))


@pytest.fixture(scope="module")
def checkpoint(encoder) -> dict[str, torch.Tensor]:
    """Random weights in the names and shapes that detectron2 gives a DensePose R-CNN on this HRNet."""
    rng = torch.Generator().manual_seed(0)
    state = {}

    def normal(name, *shape, std=0.05):
        state[name] = torch.randn(shape, generator=rng) * std

    def norm(name, width):
        normal(f"{name}.weight", width, std=0.1)
        state[f"{name}.weight"] += 1
        normal(f"{name}.bias", width)
        normal(f"{name}.running_mean", width)
        state[f"{name}.running_var"] = torch.rand(width, generator=rng) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)

    def affine(name, *shape, biases=None):
        normal(f"{name}.weight", *shape)
        normal(f"{name}.bias", biases or shape[0])

    for key, value in encoder.trunk.state_dict().items():
        random = value + 0.05 * torch.randn(value.shape, generator=rng) if value.is_floating_point() else value
        state[f"backbone.bottom_up.{key}"] = random.abs() if key.endswith("running_var") else random
    # Their pictures have 0..255: a first layer of ordinary size would saturate everything.
    state["backbone.bottom_up.conv1.weight"] /= 60
    for branch, width in enumerate(encoder.channels):
        normal(f"backbone.interp_conv.{branch}.0.weight", width, width, 4, 4)
        norm(f"backbone.interp_conv.{branch}.1", width)
    for level in range(LEVELS):
        affine(f"backbone.reduction_pooling_conv.{level}.0", 16, sum(encoder.channels), 2**level, 2**level)
        norm(f"backbone.reduction_pooling_conv.{level}.1", 16)
        affine(f"backbone.fpn_conv.{level}", 16, 16, 3, 3)
    affine("proposal_generator.rpn_head.conv", 16, 16, 3, 3)
    affine("proposal_generator.rpn_head.objectness_logits", 3, 16, 1, 1)
    affine("proposal_generator.rpn_head.anchor_deltas", 12, 16, 1, 1)
    affine("roi_heads.box_head.fc1", 32, 16 * 49)
    affine("roi_heads.box_head.fc2", 32, 32)
    affine("roi_heads.box_predictor.cls_score", 2, 32)
    affine("roi_heads.box_predictor.bbox_pred", 4, 32)
    affine("roi_heads.densepose_head.body_conv_fcn1", 16, 16, 3, 3)
    affine("roi_heads.densepose_head.body_conv_fcn2", 16, 16, 3, 3)
    for name, width in (("ann_index", 2), ("index_uv", 25), ("u", 25), ("v", 25)):
        affine(f"roi_heads.densepose_predictor.{name}_lowres", 16, width, 4, 4, biases=width)
    state["pixel_mean"], state["pixel_std"] = MEAN_BGR[:, None, None], torch.ones(3, 1, 1)
    return state


def reference_pyramid(state, maps):
    """HRFPN in evaluation mode, from detectron2's own names."""

    def bn_relu(name, x):
        parts = (state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts).relu()

    raised = []
    for branch, x in enumerate(maps):
        x = F.conv_transpose2d(x, state[f"backbone.interp_conv.{branch}.0.weight"], stride=2**branch)
        raised.append(bn_relu(f"backbone.interp_conv.{branch}.1", x))
    height, width = min(x.shape[2] for x in raised), min(x.shape[3] for x in raised)
    joined = torch.cat([x[:, :, :height, :width] for x in raised], 1)
    levels = []
    for level in range(LEVELS):
        name = f"backbone.reduction_pooling_conv.{level}"
        x = F.conv2d(joined, state[f"{name}.0.weight"], state[f"{name}.0.bias"], stride=2**level)
        levels.append(bn_relu(f"{name}.1", x))
    rows, columns = levels[-1].shape[2:]
    found = []
    for level, x in enumerate(levels):
        times = 2 ** (LEVELS - 1 - level)
        weight, bias = (state[f"backbone.fpn_conv.{level}.{leaf}"] for leaf in ("weight", "bias"))
        found.append(F.conv2d(x[:, :, : rows * times, : columns * times], weight, bias, padding=1))
    return found


def loaded(checkpoint, path, **settings):
    torch.save({"model": checkpoint, "iteration": 130_000}, path)
    task = DensePose(DensePoseConfig(**{**PUBLISHED, "weights": str(path), **settings}), about())
    model = task.make_model(build_encoder(EncoderConfig(name=ENCODER)))
    task.load_first_weights(model)
    return task, model.eval()


def picture(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, side, side, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_a_checkpoint_gives_the_published_function(checkpoint, encoder, tmp_path):
    """Pyramid, proposals, boxes and charts of one picture, from the raw BGR picture on."""
    _, model = loaded(checkpoint, tmp_path / "model_final.pth")
    image = picture(256)

    trunk = build_encoder(EncoderConfig(name=ENCODER)).trunk.eval()
    part = "backbone.bottom_up."
    trunk.load_state_dict({k.removeprefix(part): v for k, v in checkpoint.items() if k.startswith(part)})
    bgr = (image.flip(-1).float() - MEAN_BGR).permute(0, 3, 1, 2)
    maps = [each for each in trunk(bgr) if each.shape[2] <= 64]
    wanted = reference_pyramid(checkpoint, maps)

    found = list(model.pyramid(model.encoder(normalize_rgb(image))).values())
    assert [tuple(each.shape[2:]) for each in found] == [(48 >> level, 48 >> level) for level in range(LEVELS)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))

    names = "proposal_generator.rpn_head."
    hidden = F.conv2d(wanted[1], checkpoint[f"{names}conv.weight"], checkpoint[f"{names}conv.bias"], padding=1).relu()
    scores, deltas = model.proposals.head([wanted[1]])
    for one, name in ((scores, "objectness_logits"), (deltas, "anchor_deltas")):
        other = F.conv2d(hidden, checkpoint[f"{names}{name}.weight"], checkpoint[f"{names}{name}.bias"])
        torch.testing.assert_close(one[0], other, rtol=1e-4, atol=1e-5)

    regions = torch.randn(6, 16, 7, 7, generator=torch.Generator().manual_seed(2))
    x = regions.flatten(1)
    for name in ("fc1", "fc2"):
        x = F.linear(x, *(checkpoint[f"roi_heads.box_head.{name}.{leaf}"] for leaf in ("weight", "bias"))).relu()
    person_first = F.linear(
        x, *(checkpoint[f"roi_heads.box_predictor.cls_score.{leaf}"] for leaf in ("weight", "bias"))
    )
    box = F.linear(x, *(checkpoint[f"roi_heads.box_predictor.bbox_pred.{leaf}"] for leaf in ("weight", "bias")))
    logits, boxes = model.boxes.box_predictor(model.boxes.box_head(regions))
    torch.testing.assert_close(logits.softmax(1)[:, 1], person_first.softmax(1)[:, 0])
    torch.testing.assert_close(boxes[:, 4:], box)

    regions = torch.randn(3, 16, 14, 14, generator=torch.Generator().manual_seed(3))
    x = regions
    for name in ("body_conv_fcn1", "body_conv_fcn2"):
        parts = (checkpoint[f"roi_heads.densepose_head.{name}.{leaf}"] for leaf in ("weight", "bias"))
        x = F.conv2d(x, *parts, padding=1).relu()
    charts = model.charts(regions)
    for one, name in ((charts.coarse, "ann_index"), (charts.fine, "index_uv"), (charts.u, "u"), (charts.v, "v")):
        parts = (checkpoint[f"roi_heads.densepose_predictor.{name}_lowres.{leaf}"] for leaf in ("weight", "bias"))
        other = F.conv_transpose2d(x, *parts, stride=2, padding=1)
        other = F.interpolate(other, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(one, other[:, -one.shape[1] :], rtol=1e-4, atol=1e-5)


def test_the_pyramids_state_is_the_checkpoints_part(checkpoint, encoder):
    """Names and shapes below `backbone.` but for the HRNet's: nothing is renamed."""
    own = "backbone."
    part = {key.removeprefix(own): value for key, value in checkpoint.items() if key.startswith(own)}
    part = {key: value for key, value in part.items() if not key.startswith("bottom_up.")}
    PublishedPyramid(encoder, 16, LEVELS).load_state_dict(part, strict=True)


def test_places_on_the_maps_are_those_of_the_picture(encoder):
    """The maps end before the picture does. Strides of anchors and regions are those of the levels nevertheless."""
    task = DensePose(DensePoseConfig(**PUBLISHED), about())
    model = task.make_model(build_encoder(EncoderConfig(name=ENCODER))).eval()
    for sides in ((128, 192), (192, 320), (832, 1344)):
        with torch.device("meta"):
            maps = [
                torch.zeros(1, width, *(side // stride for side in sides))
                for width, stride in zip(encoder.channels, encoder.strides, strict=True)
            ]
            pyramid = PublishedPyramid(encoder, 4, LEVELS).to("meta")(maps)
        assert [tuple(each.shape[2:]) for each in pyramid.values()] == [
            tuple((side // 64 - 1) * 16 >> level for side in sides) for level in range(LEVELS)
        ]
    with torch.no_grad():
        pyramid, images = model._pyramid(torch.zeros(1, 3, 192, 320), [(180, 300)])
        anchors = model.proposals.anchor_generator(images, list(pyramid.values()))[0]
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    start = 0
    for level, each in enumerate(pyramid.values()):
        rows, columns = each.shape[2:]
        place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1).float() * (4 << level)
        found = centers[start : start + 3 * rows * columns].reshape(-1, 3, 2)
        torch.testing.assert_close(found, place[:, None].expand(-1, 3, -1))
        start += 3 * rows * columns
    assert start == len(anchors)


def test_anchors_are_detectron2s():
    """`DefaultAnchorGenerator`: area size^2, height over width ratio, around the origin, not rounded."""
    config = DensePoseConfig(**PUBLISHED, anchor_sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)))
    for size, found in zip((32, 64, 128, 256, 512), make_proposals(config).anchor_generator.cell_anchors, strict=True):
        for ratio, box in zip((0.5, 1, 2), found.double().tolist(), strict=True):
            width = (size**2 / ratio) ** 0.5
            np.testing.assert_allclose(box, [-width / 2, -width * ratio / 2, width / 2, width * ratio / 2], rtol=1e-6)


def test_a_region_reads_the_pixels_that_it_covers():
    """Maps whose values are their cells' places. A region reads its own center and half a cell more, which is what the
    published POOLER_TYPE, ROIAlign without the correction, does. Levels are 4 + log2(side / 224), rounded down."""
    task = DensePose(DensePoseConfig(**PUBLISHED), about())
    model = task.make_model(build_encoder(EncoderConfig(name=ENCODER))).eval()
    pyramid = {}
    for level in range(LEVELS):
        stride, cells = 4 << level, 192 * 2 // (4 << level)
        middle = (torch.arange(cells) + 0.5) * stride
        pyramid[f"p{level + 1}"] = torch.stack([middle.expand(cells, cells), middle[:, None].expand(cells, cells)])[
            None
        ]
    regions = torch.tensor([[100.0, 60, 140, 100], [40, 60, 200, 330], [30, 30, 350, 340]])
    found = model.chart_features(pyramid, [regions], [(384, 384)]).mean((2, 3))
    strides = torch.tensor([[4.0], [8], [16]])
    torch.testing.assert_close(found, (regions[:, :2] + regions[:, 2:]) / 2 + strides / 2, rtol=0, atol=0.1)


def test_small_pictures_and_whole_steps(checkpoint, tmp_path):
    """Pictures smaller than the coarsest cell's reach are padded, and every parameter is trained."""
    task = DensePose(DensePoseConfig(**PUBLISHED, anchor_samples=100_000, short_sides=(192,)), about())
    torch.manual_seed(0)
    model = task.make_model(build_encoder(EncoderConfig(name=ENCODER))).train()
    rows = [pasted_scene(0), pasted_scene(1)]
    terms = task.losses(model, task.make_batch(rows, [np.random.default_rng(k) for k in (0, 1)]), torch.device("cpu"))
    terms["loss"].backward()
    dead = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    # The bias of a convolution in front of batch normalization moves nothing.
    assert [name for name in dead if "reduction_pooling_conv" not in name or not name.endswith("0.bias")] == []
    small = DensePose(DensePoseConfig(**PUBLISHED, short_sides=(40,), test_short_side=40, long_side=60), about())
    predictions = small.predict(model.eval(), small.make_batch(rows, None), torch.device("cpu"))
    assert len(predictions) == 2
    assert small.config.input_sizes(32) == [(128, 128)] * 3


@pytest.mark.parametrize("form", ["safetensors", "pkl"])
def test_other_files_of_a_checkpoint(checkpoint, tmp_path, form):
    _, wanted = loaded(checkpoint, tmp_path / "model_final.pth")
    path = tmp_path / f"model_final.{form}"
    if form == "pkl":
        arrays = {key: value.numpy() for key, value in checkpoint.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    else:
        save_file(checkpoint, path)
    task = DensePose(DensePoseConfig(**PUBLISHED, weights=str(path)), about())
    model = task.make_model(build_encoder(EncoderConfig(name=ENCODER)))
    task.load_first_weights(model)
    for name, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def without(name):
    return lambda state: {key: value for key, value in state.items() if name not in key}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("u_lowres"), "2 missing: charts.out.weight, charts.out.bias"),
        (without("fpn_conv.3"), "2 missing: pyramid.fpn_conv.3.weight"),
        (lambda state: state | {"roi_heads.mask_head.x": torch.zeros(1)}, "1 unexpected: roi_heads.mask_head.x"),
        (
            lambda state: state | {"roi_heads.densepose_predictor.sigma_2_lowres.weight": torch.zeros(1)},
            "1 unexpected: roi_heads.densepose_predictor.sigma_2_lowres.weight",
        ),
        (
            lambda state: state | {"roi_heads.box_head.fc1.weight": torch.zeros(32, 9)},
            r"1 of another shape: boxes.box_head.fc6.weight is \[32, 9\], wanted \[32, 784\]",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_are_a_line(checkpoint, tmp_path, change, told):
    with pytest.raises(UserError, match=told) as error:
        loaded(change(checkpoint), tmp_path / "model.pth")
    assert "\n" not in str(error.value)


def test_mistakes_are_a_line(checkpoint, tmp_path):
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"model": nn.ReLU}))
    for name, told in (
        ("missing.pkl", "cannot be read"),
        ("code.pkl", "names 'torch.nn.modules.activation.ReLU', and only NumPy's arrays"),
    ):
        task = DensePose(DensePoseConfig(**PUBLISHED, weights=str(tmp_path / name)), about())
        with pytest.raises(UserError, match=told) as error:
            task.load_first_weights(task.make_model(build_encoder(EncoderConfig(name=ENCODER))))
        assert "\n" not in str(error.value)
    bilinear = build_encoder(EncoderConfig(name=ENCODER, fusion="bilinear"))
    with pytest.raises(UserError, match=r"set encoder\.fusion=nearest"):
        task.load_first_weights(task.make_model(bilinear))
    with pytest.raises(ValueError, match="set pyramid=published and chart_norm=none"):
        DensePoseConfig(weights="model.pkl")
    values = {
        "output_dir": "runs/x",
        "task": {"name": "densepose", **PUBLISHED, "weights": "model.pkl"},
        "data": {"train": {"path": "a"}, "test": {"path": "b"}},
        "steps": 1,
        "train": {"lanes": 2, "batch_size_per_lane": 2},
    }
    with pytest.raises(UserError, match=r"task\.weights has the encoder's weights too; set init=scratch"):
        build(FinetuneConfig, {**values, "init": "runs/pretrained"}, "recipe")
    assert build(FinetuneConfig, {**values, "init": "scratch"}, "recipe").task.first_weights() == "model.pkl"


def test_runs_of_before_keep_their_identity():
    """Keys that came later and are null are not part of it, so that older states resume and results count."""
    assert not {"weights", "pyramid"} & DensePoseConfig().identity().keys()
    assert DensePoseConfig(pyramid="published").identity()["pyramid"] == "published"
