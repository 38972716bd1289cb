"""A co-training so small that a step takes a tenth of a second: 64 px, two backbones of 0.4 million weights.

Depth tells a row's parts exactly (NEAR + part, 0 = background) and RGB does too (10 times the part), as blocks of
random parts.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from hcmoco.config import build, merge
from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.cotraining.resolve import ResolvedCoTraining, resolve
from hcmoco.cotraining.run import Sources, cotrain, init_of
from hcmoco.data.codecs import encode_depth, encode_labels
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.export import export_encoders
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.rng import make_rng
from hcmoco.training.local import LocalContext

SIDE, JOINTS, NEAR = 72, 16, 1000
ENCODER = {"name": "test_resnet"}
MODEL = {"rgb": ENCODER, "depth": ENCODER, "skeleton": {"width": 16, "num_blocks": 1}, "embedding": 16}
TINY = {
    "output_dir": "made by a test",
    "seed": 5,
    "init": "scratch",
    "data": {name: {"path": name} for name in ("unlabeled", "labeled", "test")},
    "augment": {"size": 64},
    "model": MODEL,
    "objective": {"num_negatives": 8, "num_anchors": 12},
    "steps": 4,
    "optim": {"name": "adamw", "lr": 0.002, "weight_decay": 0.0},
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 4,
        "window_steps": 2,
        "log_every": 2,
        "save_every": 2,
    },
    "eval_batch_size": 3,
}


def block_person(number: int, dataset: str, *, parts: bool = True) -> Person:
    """Blocks of random parts on background, with joints in random places."""
    rng = make_rng(0, f"blocks/{dataset}", number)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[12:60, 12:60] = np.kron(rng.integers(1, 25, (6, 6)).astype(np.uint8), np.ones((8, 8), np.uint8))
    depth = np.where(labels > 0, labels.astype(np.uint16) + NEAR, 0).astype(np.uint16)
    return Person(
        id=f"{dataset}/{number}",
        dataset=dataset,
        split="train",
        size=SIDE,
        rgb=cv2.imencode(".png", np.repeat(10 * labels[..., None], 3, axis=2))[1].tobytes(),
        depth=encode_depth(depth, "png16"),
        camera=np.float32([SIDE, SIDE, SIDE / 2, SIDE / 2]),
        box=np.float32([12, 12, 60, 60]),
        keypoints=np.column_stack([rng.uniform(14, 58, (JOINTS, 2)), np.ones(JOINTS)]).astype(np.float32),
        parts=encode_labels(labels) if parts else None,
    )


def write(folder: Path, name: str, persons: Sequence[Person]) -> Shards:
    about = About(
        dataset=name, joints="mpii-16", depth_codec="png16", size=SIDE, provenance=Provenance(program="tests")
    )
    write_shards(str(folder / name), list(persons), about, part_rows=16)
    return Shards.open(str(folder / name))


@cache
def persons(name: str, count: int) -> tuple[Person, ...]:
    return tuple(block_person(number, name) for number in range(count))


def write_sources(folder: Path) -> Sources:
    counts = {"unlabeled": 14, "labeled": 7, "test": 5}
    return Sources(**{name: write(folder, name, persons(name, count)) for name, count in counts.items()})


def tiny_config(over: dict | None = None) -> CoTrainingConfig:
    return build(CoTrainingConfig, merge(TINY, over or {}), "tiny")


def tiny_resolved(sources: Sources, over: dict | None = None) -> ResolvedCoTraining:
    return resolve(tiny_config(over), sources.unlabeled, sources.labeled, sources.test, sources.validation)


def start(sources: Sources, over: dict | None = None, *, states: str | None = None):
    """Runs or resumes; returns the trainer and its context."""
    run = tiny_resolved(sources, over)
    context = LocalContext(run.loader, states, num_checkpoints=run.config.train.num_checkpoints, threads=1)
    return cotrain(run, context, init_of(run.config)["digest"]), context


def export(folder: Path, seed: int = 3, **model) -> str:
    """What a pre-training leaves, its weights as they were drawn."""
    config = build(ModelConfig, merge(MODEL, model), "tiny")
    return export_encoders(HCMoCo(config, seed=seed), folder, training={"stage": 1, "steps": 7})


def one_batch(run: ResolvedCoTraining):
    """The batch of the first step."""
    loader = run.loader
    items = (loader.item(0, lane) for lane in range(loader.plan.lanes))
    return next(loader.batches(items, rank=0, world=1, first_step=0, threads=1, ahead=1))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
