"""HRNets under other programs' names: the names of the published checkpoints, and configs that say what was built."""

import ast
import hashlib
import io
import json

import pytest
import torch
import yaml

from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.exporting.convert import convert
from hcmoco.exporting.hrnet_keys import PROGRAMS, hrnet_files, stages_of
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.multimodal import HCMoCo, ModelConfig

PREFIXES = {"hrnet-seg": "", "detectron2": "backbone.bottom_up.", "mmpose": "backbone.", "mmseg": "backbone."}
WRAPPERS = {"hrnet-seg": None, "detectron2": "model", "mmpose": "state_dict", "mmseg": "state_dict"}
SMALL = "hrnet_w18_small"
# SHA-256 of the sorted names and shapes in the checkpoints of HRNet's authors.
PUBLISHED = {
    "hrnet_w18": "dad295c931c5fe6edd96fe20558ef745857f8684959278e8f3da5b3ac7843002",
    "hrnet_w32": "5b54a6d0303352a169598f7bef11102a336317324daa54ac2780b6d0589e1513",
}


def encoder_of(fusion: str, name: str = SMALL):
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(name=name, fusion=fusion)).eval()


def state_in(data: bytes, program: str) -> dict[str, torch.Tensor]:
    held = torch.load(io.BytesIO(data), weights_only=True)
    return held if WRAPPERS[program] is None else held[WRAPPERS[program]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_names_and_shapes_are_those_of_the_published_checkpoints(name):
    with torch.device("meta"):
        trunk = build_encoder(EncoderConfig(name=name), load=False).trunk
    listed = sorted((key, list(value.shape)) for key, value in trunk.state_dict().items())
    assert hashlib.sha256(json.dumps(listed).encode()).hexdigest() == PUBLISHED[name]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_checkpoint_holds_every_weight_under_the_programs_prefix(program):
    encoder = encoder_of("nearest" if program in ("detectron2", "mmpose") else "bilinear")
    made = hrnet_files(encoder, program, name="rgb.pth", rgb=True)
    assert not made.differs
    state = state_in(made.checkpoint, program)
    expected = encoder.trunk.state_dict()
    assert list(state) == [PREFIXES[program] + key for key in expected]
    for key, value in expected.items():
        assert torch.equal(state[PREFIXES[program] + key], value)
    assert "rgb.pth" in made.config


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_comes_back_as_it_was(program, tmp_path):
    fusion = "nearest" if program in ("detectron2", "mmpose") else "bilinear"
    encoder = encoder_of(fusion)
    path = tmp_path / "weights.pth"
    path.write_bytes(hrnet_files(encoder, program, name=path.name, rgb=True).checkpoint)
    back = build_encoder(EncoderConfig(name=SMALL, fusion=fusion, init=str(path))).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(back(image), encoder(image), strict=True):
            assert torch.equal(one, other)


def told_stages(program: str, text: str) -> list[tuple]:
    """(modules, branches, block, blocks, channels) of the stages of a config."""
    if program in ("mmpose", "mmseg"):
        (call,) = [node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        model = eval(compile(ast.Expression(call), "config", "eval"), {"dict": dict})
        extra = model["backbone"]["extra"]
        return [
            tuple(stage[key] for key in ("num_modules", "num_branches", "block", "num_blocks", "num_channels"))
            for stage in (extra[f"stage{number}"] for number in (1, 2, 3, 4))
        ]
    config = yaml.safe_load(text)["MODEL"]
    extra = config["HRNET"] if program == "detectron2" else config["EXTRA"]
    keys = ("NUM_MODULES", "NUM_BRANCHES", "BLOCK", "NUM_BLOCKS", "NUM_CHANNELS")
    first = 2 if program == "detectron2" else 1
    stages = [tuple(extra[f"STAGE{number}"][key] for key in keys) for number in range(first, 5)]
    return [(*stage[:3], tuple(stage[3]), tuple(stage[4])) for stage in stages]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", [SMALL, "hrnet_w18", "hrnet_w32", "hrnet_w48"])
def test_the_config_says_what_the_network_is(program, name):
    """Stages of the published W18, W32 and W48: 1, 4 and 3 modules of 4 blocks; the small one has fewer."""
    with torch.device("meta"):
        trunk = build_encoder(EncoderConfig(name=name), load=False).trunk
    width = {SMALL: 16, "hrnet_w18": 18, "hrnet_w32": 32, "hrnet_w48": 48}[name]
    count, modules = (2, (1, 1, 1)) if name == SMALL else (4, (1, 4, 3))
    first = [(1, 1, "BOTTLENECK", (1,) if name == SMALL else (4,), (32,) if name == SMALL else (64,))]
    expected = [
        (modules[stage], stage + 2, "BASIC", (count,) * (stage + 2), tuple(width * 2**k for k in range(stage + 2)))
        for stage in range(3)
    ]
    told = [
        (each["modules"], len(each["blocks"]), each["block"], tuple(each["blocks"]), tuple(each["channels"]))
        for each in stages_of(trunk)
    ]
    assert told == first + expected
    if name == SMALL:
        fusion = "nearest" if program in ("detectron2", "mmpose") else "bilinear"
        config = hrnet_files(encoder_of(fusion), program, name="rgb.pth", rgb=True).config
        assert told_stages(program, config) == (expected if program == "detectron2" else first + expected)


def test_mmpose_is_told_the_fusion():
    assert "upsample" not in hrnet_files(encoder_of("nearest"), "mmpose", name="a", rgb=True).config
    config = hrnet_files(encoder_of("bilinear"), "mmpose", name="a", rgb=False).config
    assert "upsample=dict(mode='bilinear', align_corners=False)" in config
    assert "mean" not in config  # of depth nothing is subtracted


@pytest.mark.parametrize(
    ("program", "fusion"), [("detectron2", "bilinear"), ("mmseg", "nearest"), ("hrnet-seg", "nearest")]
)
def test_another_fusion_is_refused_and_stated(tmp_path, program, fusion):
    other = EncoderConfig(name=SMALL, fusion=fusion)
    model = HCMoCo(ModelConfig(rgb=other, depth=other, embedding=16), seed=0)
    export_encoders(model, tmp_path / "export", training={"size": 64})
    export = load_export(tmp_path / "export")
    with pytest.raises(UserError, match="give --accept-difference"):
        convert(export, program, modalities=("rgb",))
    (made,) = convert(export, program, modalities=("rgb",), accept_difference=True)
    assert f"its maps DIFFER from ours, since {program} fuses otherwise" in made.line


def test_another_backbone_is_refused():
    with pytest.raises(UserError, match=r"resnet18 is no HRNet.*take --to timm or onnx"):
        hrnet_files(build_encoder(EncoderConfig(name="resnet18")), "mmpose", name="a", rgb=True)
