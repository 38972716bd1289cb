"""Measure what image encoders cost and what they learn: size, CPU time, kept memory, and probes after one training.

    python benchmarks/encoders.py                              # all of them, 150 steps of the recipe people-cpu each
    python benchmarks/encoders.py --steps 0                    # what they cost alone
    python benchmarks/encoders.py --encoders convnext_atto "mine=name=resnet18" --steps 640

CPU time is that of the process, in one thread, forward and backward over 8 images of noise, the encoders in turns. The
training is benchmarks/recipe.py's: the same people, steps, optimizer and learning rate for each, in float32, with two
encoders of one kind.
"""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks._measure import Table, arguments, in_turns, run
from benchmarks.recipe import PROBES, train
from hcmoco.errors import UserError
from hcmoco.models.encoders import build_encoder
from hcmoco_ray.cluster.memory_estimate import activation_bytes, shapes
from hcmoco_ray.config import PretrainRecipe, load

IMAGES, RECIPE = 8, "people-cpu"
# Name -> keys of an encoder beside it.
ENCODERS = {
    "hrnet_w18_small": "name=hrnet_w18_small",
    "vit_tiny_patch16_224, 64 channels": "name=vit_tiny_patch16_224 vit.pyramid_channels=64",
    "convnext_atto": "name=convnext_atto",
    "fastvit_t8": "name=fastvit_t8",
    "vit_tiny_patch16_dinov3_qkvb, 64 channels": "name=vit_tiny_patch16_dinov3_qkvb vit.pyramid_channels=64",
    "swin_tiny_patch4_window7_224, width 48": "name=swin_tiny_patch4_window7_224 args.img_size=96 args.embed_dim=48",
    "vit_tiny_patch16_224, 256 channels": "name=vit_tiny_patch16_224",
}
_SHOWN = ("same joint, RGB to RGB", "same joint, RGB to depth", "dense correspondence, different crops")


def main() -> None:
    parser = arguments(__doc__, rounds=7, quick="resnet18, 2 rounds, 2 steps")
    parser.add_argument("--steps", type=int, default=150, help="steps of the training; 0: none (default 150)")
    parser.add_argument("--data", type=Path, help="folder of the people; made where they are not there")
    parser.add_argument(
        "--encoders", nargs="+", metavar="ENCODER", help=f"which (default all): {'; '.join(ENCODERS)}, or NAME=keys"
    )
    given = parser.parse_args()
    if given.steps < 0 or given.steps == 1:
        parser.error("--steps: 0, or at least 2, one for each stage")
    steps, rounds = (2, 2) if given.quick else (given.steps, given.rounds)
    chosen = dict(
        _encoder(text) for text in given.encoders or (["resnet18=name=resnet18"] if given.quick else ENCODERS)
    )
    torch.set_num_threads(1)
    configs = {name: load(PretrainRecipe, RECIPE, keys) for name, keys in chosen.items()}
    size = next(iter(configs.values())).augment.size
    table = Table(
        "encoders-quick" if given.quick else "encoders",
        {"pixels": size, "images": IMAGES, "precision": "float32", "threads": 1, "steps": steps},
    )
    spent = in_turns({name: _turn(config, size) for name, config in configs.items()}, rounds)
    for name, config in configs.items():
        model = shapes(config)
        parameters = sum(each.numel() for each in model.rgb.parameters())
        table.add(name, [1e3 * each for each in spent[name]], "ms", note="CPU an image, forward and backward")
        table.add(f"  {name}: parameters", parameters / 1e6, "million")
        table.add(f"  {name}: weights", 4 * parameters / 1e6, "MB")
        table.add(f"  {name}: kept for the backward pass, an image", activation_bytes(model, size) / 2e6, "MB")
    with TemporaryDirectory(prefix="hb-") as temporary:
        for name, keys in chosen.items() if steps else ():
            first = min(20, steps // 2)
            stages = f"stages={{stage1_steps: {first}, stage2_steps: {steps - first}}}"
            quick = ["probe.num_people=8"] if given.quick else []
            overrides = [
                *keys,
                stages,
                f"optim.warmup_steps={min(30, steps)}",
                "train.concurrent_encoders=false",
                *quick,
            ]
            taught = train(RECIPE, overrides, given.data or Path(temporary), 0)
            table.add(f"  {name}: training", taught["seconds"], "s", note="CPU, with the probes")
            for what in _SHOWN:
                table.add(f"  {name}: {what}", taught[PROBES[what]], "%", better="higher")
            table.write(given.results)  # it takes long: what is done is kept
    table.show()
    table.write(given.results)


def _encoder(text: str) -> tuple[str, list[str]]:
    """Return the name of an encoder and the overrides of a recipe that has two of it."""
    name, _, keys = text.partition("=")
    keys = keys if keys.startswith("name=") else ENCODERS.get(text, "")
    if not keys:
        raise UserError(
            f"--encoders {text!r}: allowed are {', '.join(ENCODERS)}, or one of your own as 'NAME=name=MODEL key=value'"
        )
    both = [f"model.{modality}.{key}" for modality in ("rgb", "depth") for key in shlex.split(keys)]
    return name if keys != ENCODERS.get(text) else text, [*both, "train.precision=float32"]


def _turn(config: PretrainRecipe, size: int) -> Callable[[], float]:
    """Return what measures one forward and backward pass of the RGB encoder: CPU seconds an image."""
    torch.manual_seed(0)
    encoder: nn.Module = build_encoder(config.model.rgb).to(memory_format=torch.channels_last).train()
    images = torch.randn(IMAGES, 3, size, size).to(memory_format=torch.channels_last)

    def step() -> float:
        begun = time.process_time()
        encoder.zero_grad()
        sum(each.square().mean() for each in encoder(images)).backward()
        return (time.process_time() - begun) / IMAGES

    step()  # what is allocated and chosen once
    return step


if __name__ == "__main__":
    run(main)
