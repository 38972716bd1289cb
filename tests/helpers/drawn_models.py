"""Models of every task whose weights were drawn: what they predict means nothing, and it is the same every time."""

from pathlib import Path

import torch

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.finetuning.saved_model import save_model
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.tasks.densepose import DensePoseConfig
from hcmoco.tasks.parsing import ParsingConfig
from hcmoco.tasks.pose import PoseConfig
from hcmoco.tasks.registry import make_task

SIDE = 64
CONFIGS = {
    "parsing-rgb": ParsingConfig(name="parsing-rgb", size=SIDE),
    "parsing-depth": ParsingConfig(name="parsing-depth", size=SIDE),
    "pose": PoseConfig(size=SIDE),
    "densepose": DensePoseConfig(
        score_threshold=0.0, detections=5, pyramid_channels=16, box_width=32, chart_width=16, chart_depth=1
    ),
}


def write_models(folder: Path, **training) -> Path:
    """Write one of each task into folders of their names; `training` is what they say of it. Returns `folder`."""
    for name in CONFIGS:
        write_model(folder / name, name, **training)
    return folder


def write_model(folder: Path, name: str, **training) -> Path:
    """Write the model of a task into `folder`, and return `folder`."""
    encoder, config, scene = EncoderConfig(name="test_resnet"), CONFIGS[name], name == "densepose"
    about = {"kind": "scene"} if scene else {"joints": "people-31", "joints3d": "people-31", "size": SIDE}
    task = make_task(config, About(dataset="people", provenance=Provenance(program="tests"), **about))
    torch.manual_seed(1)
    model = task.make_model(build_encoder(encoder, load=False))
    if not scene:
        # Drawn weights say nearly the same of every pixel; louder ones tell pixels apart.
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(2.0 if each.ndim > 1 else 1.0)
    save_model(
        str(folder), model, task, encoder, training=training, card="---\nlicense: mit\n---\n\n# a test's\n\nText.\n"
    )
    return folder
