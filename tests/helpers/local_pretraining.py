"""A pre-training so small that a step takes a tenth of a second: blobs for people, two backbones of 0.4 million
weights.

Of "room" every third row lacks depth; "street" has RGB and keypoints only. A person is a blob of a color of its own on
gray; depth is the same blob, nearer or farther; the joints lie on an ellipse around its middle.
"""

import copy
import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from hcmoco.config import build, merge
from hcmoco.data.codecs import encode_depth, encode_rgb
from hcmoco.data.collate import CollateConfig
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch, Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.data.skeletons import joint_set
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.probes.views import ProbeViews, make_views
from hcmoco.rng import make_rng
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.local import LocalContext

SIDE, JOINTS = 72, 16
ENCODER = {"name": "test_resnet"}


def blob_person(number: int, *, dataset: str, depth: bool, seed: int = 0, joints: int = JOINTS) -> Person:
    """One made-up person with so many joints."""
    rng = make_rng(seed, f"blob/{dataset}", number)
    center, axes = rng.uniform(30, 42, 2), rng.uniform(10, 22, 2)
    angle, color = rng.uniform(0, 360), rng.integers(0, 256, 3)
    inside = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(inside, (center.astype(int).tolist(), (2 * axes).tolist(), float(angle)), 1, -1)
    rgb = np.where(inside[..., None] > 0, color, 128) + rng.integers(-20, 21, (SIDE, SIDE, 3))
    turn = np.linspace(0, 2 * np.pi, joints, endpoint=False)
    around = np.column_stack([np.cos(turn) * axes[0], np.sin(turn) * axes[1]]) * 0.8
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    places = center + around @ np.array([[cos, sin], [-sin, cos]])
    near = int(rng.integers(900, 4000)) + np.add.outer(np.arange(SIDE), np.arange(SIDE) * 2)
    return Person(
        id=f"{dataset}/{number}",
        dataset=dataset,
        split="train",
        size=SIDE,
        rgb=encode_rgb(rgb.clip(0, 255).astype(np.uint8)),
        depth=encode_depth((near * inside).astype(np.uint16), "png16") if depth else None,
        camera=np.float32([1.2 * SIDE, 1.2 * SIDE, SIDE / 2, SIDE / 2]) if depth else None,
        box=np.float32([12, 12, 60, 60]),
        keypoints=np.column_stack([places, np.ones(joints)]).astype(np.float32),
    )


def write_blobs(
    folder: Path, name: str, count: int, *, depth_of: Sequence[bool] = (True,), joints: str = "mpii-16"
) -> Shards:
    """`count` blobs as a prepared data set; `depth_of` says in turn which of them have depth."""
    persons = [
        blob_person(k, dataset=name, depth=depth_of[k % len(depth_of)], joints=len(joint_set(joints)))
        for k in range(count)
    ]
    about = About(dataset=name, joints=joints, depth_codec="png16", size=SIDE, provenance=Provenance(program="tests"))
    write_shards(str(folder / name), persons, about, part_rows=40)
    return Shards.open(str(folder / name))


def write_sources(folder: Path) -> tuple[Shards, Shards]:
    """ "room" and "street"."""
    return write_blobs(folder, "room", 70, depth_of=(True, True, False)), write_blobs(
        folder, "street", 50, depth_of=(False,)
    )


# The published code's ways of drawing and keeping what the objective compares with.
AS_RELEASED = {
    "objective": {
        "in_batch_negatives": False,
        "release": {
            "positive": "bank",
            "per_sample_negatives": True,
            "bank_start": "random",
            "absent_in_bank": True,
            "encode_absent": True,
        },
    }
}
TINY = {
    "output_dir": "made by a test",
    "seed": 5,
    "data": {"sources": {"room": {"path": "room"}, "street": {"path": "street"}}},
    "augment": {"size": 64, "brightness": 0.2},
    "model": {"rgb": ENCODER, "depth": ENCODER, "skeleton": {"width": 16, "num_blocks": 1}, "embedding": 16},
    "objective": {"num_negatives": 24, "num_anchors": 12},
    "stages": {"stage1_steps": 4, "stage2_steps": 5},
    "optim": {"lr": 0.05, "warmup_steps": 2},
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 3,
        "window_steps": 3,
        "log_every": 2,
        "save_every": 3,
        "num_checkpoints": 2,
    },
    "probe": {
        "every": 0,
        "num_people": 6,
        "num_people_during_training": 4,
        "batch_size": 4,
        "num_positions": 8,
        "num_partners": 1,
    },
}


def tiny_config(**over) -> PretrainConfig:
    """TINY with `over` merged into it."""
    return build(PretrainConfig, merge(TINY, over), "test")


def tiny_plan(config: PretrainConfig, sources: Sequence[Shards]) -> Plan:
    """The plan of `config` over `sources`, all of the same weight."""
    train = config.train
    named = zip(config.data.sources.items(), sources, strict=True)
    parts = tuple(shards.source_plan(name, source.weight) for (name, source), shards in named)
    return Plan(config.seed, parts, train.lanes, train.batch_size_per_lane, train.window_steps, config.stages.steps)


def tiny_feed(config: PretrainConfig, sources: Sequence[Shards], decode: str = "worker") -> PretrainLoader:
    """What carries out `tiny_plan`."""
    plan = tiny_plan(config, sources)
    objective = config.objective
    collate = CollateConfig(
        config.augment,
        config.model.joint_set,
        objective.num_anchors,
        objective.release.anchors_with_replacement,
        config.model.depth.points_at(config.augment.size),
    )
    return PretrainLoader(plan, tuple(sources), collate, decode)


@cache
def tiny_views() -> ProbeViews:
    """Six held-out blobs for the probes."""
    people = [blob_person(k, dataset="held", depth=True, seed=9) for k in range(6)]
    return make_views(people, joints="mpii-16", target_joints="mpii-16", depth_codec="png16", size=64, count=6)


class DiedError(Exception):
    """Stands for the death of the process."""


class StoppingContext(LocalContext):
    """A LocalContext whose process dies when the batch of step `stop` would be handed out; what was logged and saved
    until then stays."""

    def __init__(self, loader: PretrainLoader, states: str | None = None, *, stop: int | None = None, **settings):
        super().__init__(loader, states, threads=1, **settings)
        self.stop = stop
        self.saved: list[int] = []

    def batches(self, first_step: int):
        for batch in super().batches(first_step):
            if batch.step == self.stop:
                raise DiedError
            yield batch

    def save(self, state: TrainState) -> None:
        super().save(state)
        self.saved.append(state.step)


def differences(one: TrainState, other: TrainState) -> list[str]:
    """Names of all that is not the same, bit for bit, in two train states."""
    found = [name for name in ("step", "stage", "identity", "history") if getattr(one, name) != getattr(other, name)]
    for part in ("model", "optimizer", "bank", "best"):
        a, b = getattr(one, part), getattr(other, part)
        found += [f"{part}: {name} is missing" for name in sorted(a.keys() ^ b.keys())]
        found += [f"{part}: {name}" for name in sorted(a.keys() & b.keys()) if not same_bits(a[name], b[name])]
    return found


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether shape, type and every bit agree; -0 and 0 differ, NaN equals itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    raw = [each.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for each in (a, b)]
    return torch.equal(*raw)


def without_times(logged: list[tuple[int, dict[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    """What a context logged but for what the clock decides."""
    return [
        (step, {name: value for name, value in values.items() if not name.startswith("perf/")})
        for step, values in logged
    ]


def rows_of(batch: Batch, rows) -> Batch:
    """Some of a batch's rows."""
    arrays = [field.name for field in dataclasses.fields(Batch) if field.name != "step"]
    return dataclasses.replace(batch, **{name: getattr(batch, name)[rows] for name in arrays})


def without(batch: Batch, *modalities: str) -> Batch:
    """The batch with a modality taken from all rows."""
    batch = copy.deepcopy(batch)
    for name in modalities:
        getattr(batch, f"has_{name}")[:] = False
        getattr(batch, name)[:] = 0
    if "depth" in modalities:
        batch.anchors[:] = -1
    return batch
