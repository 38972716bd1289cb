"""Layer-wise learning rates of a plain ViT: the closed form, and what they do to a step."""

import pytest
import torch

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.trainer import learning_rates
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.training.optim import OptimConfig
from hcmoco.training.optim_step import OptimStep
from tests.helpers import local_finetuning as tiny

N = 12  # so that blocks 1 and 10, 11 and 12 begin alike
VIT = EncoderConfig(
    name="vit_small_patch14_reg4_dinov2", args={"embed_dim": 16, "depth": N, "num_heads": 2, "img_size": 112},
    vit={"pyramid_channels": 8},
)  # fmt: skip
DECAY, OWN, LR = 0.75, 0.5, 0.01


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = build_encoder(VIT)
        self.head = torch.nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return sum(self.head(each).square().mean() for each in self.encoder(x))


def config(**values) -> FinetuneConfig:
    plain = {
        "output_dir": "x", "task": {"name": "parsing-rgb", "size": 64}, "init": "scratch", "steps": 1,
        "data": {"train": {"path": "a"}, "test": {"path": "b"}}, "encoder": VIT.model_dump(), "num_val_rows": 4,
        "train": {"lanes": 2, "batch_size_per_lane": 2},
    }  # fmt: skip
    return build(FinetuneConfig, {**plain, **values}, "recipe")


def wanted(name: str) -> float:
    """lr * encoder_lr * decay^(n - k) of block k of 1 to n, decay^n before the blocks."""
    if name.startswith("head."):
        return LR
    parts = name.split(".")
    if parts[:4] == ["encoder", "trunk", "model", "blocks"]:
        return LR * OWN * DECAY ** (N - (int(parts[4]) + 1))
    is_after = parts[2] == "pyramid" or parts[3] == "norm"
    return LR * OWN * (1 if is_after else DECAY**N)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_each_layer_has_its_rate_in_the_optimizer(name):
    model = Model()
    rates = learning_rates(config(encoder_layer_decay=DECAY, encoder_lr=OWN), model)
    step = OptimStep(model, OptimConfig(name=name, lr=LR, weight_decay=0), rates)
    step.step(model(torch.randn(2, 3, 64, 64)), LR)
    by_part = {id(group["params"][0]): group["lr"] for group in step.optimizer.param_groups}
    for parameter, _ in model.named_parameters():
        rate = by_part[id(step.flat.part_of(parameter))]
        assert rate == pytest.approx(wanted(parameter), rel=1e-12), parameter
    assert len(by_part) == N + 2 + 4  # blocks, head, encoder; patches, positions, class token, registers


def test_a_step_of_sgd_moves_each_parameter_by_its_rate_times_its_gradient():
    model = Model()
    rates = learning_rates(config(encoder_layer_decay=DECAY, encoder_lr=OWN), model)
    step = OptimStep(model, OptimConfig(name="sgd", lr=LR, momentum=0, weight_decay=0), rates)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    step.step(model(torch.randn(2, 3, 64, 64)), LR)
    for name, value in model.named_parameters():
        torch.testing.assert_close(before[name] - value, wanted(name) * value.grad, rtol=1e-3, atol=1e-7, msg=name)


def test_without_decay_nothing_changes():
    model = Model()
    assert learning_rates(config(encoder_lr=OWN), model) == {"encoder": OWN}
    assert list(OptimStep(model, OptimConfig(), {"encoder": OWN}).flat.parts) == ["encoder", "head"]
    assert "encoder_layer_decay" not in config().identity()
    assert config(encoder_layer_decay=0.9).identity()["encoder_layer_decay"] == 0.9


def test_a_state_goes_back_into_the_same_layers():
    model, rates = Model(), learning_rates(config(encoder_layer_decay=DECAY), Model())
    step = OptimStep(model, OptimConfig(name="adamw", lr=LR), rates)
    step.step(model(torch.randn(2, 3, 64, 64)), LR)
    saved = {name: value.clone() for name, value in step.state_dict().items()}
    step.load_state_dict(saved)
    again = step.state_dict()
    assert saved.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in saved.items())


def test_other_encoders_have_no_blocks_of_one_kind():
    with pytest.raises(UserError, match=r"encoder_layer_decay = 0.7 is for plain ViTs, hrnet_w18 has no blocks"):
        config(encoder=EncoderConfig(name="hrnet_w18").model_dump(), encoder_layer_decay=0.7)
    with pytest.raises(UserError, match=r"encoder_layer_decay = 0"):
        config(encoder_layer_decay=0)


def test_a_fine_tuning_of_a_vit_trains_with_them(tmp_path):
    people = tiny.write_people(tmp_path / "people")
    vit = {"name": "vit_tiny_patch16_224", "args": {"embed_dim": 16, "depth": 2, "num_heads": 2}}
    host, run = tiny.start(people, {"encoder": vit, "encoder_layer_decay": 0.5})
    scales = {part: group["scale"] for part, group in zip(
        run.optim_step.flat.parts, run.optim_step.optimizer.param_groups, strict=True
    )}  # fmt: skip
    assert scales["encoder.trunk.model.blocks.0"] == 0.5 * scales["encoder.trunk.model.blocks.1"]
    losses = [values["train/loss"] for _, values in host.logged if "train/loss" in values]
    assert losses[-1] < losses[0]
