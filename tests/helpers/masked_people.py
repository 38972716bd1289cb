"""Synthetic people before one wall and a camera that stands still; and small models that know them by heart."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.transforms import extent
from hcmoco.datasets.person_crop import PersonImages, crop_person
from hcmoco.finetuning.saved_model import save_model
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.tasks.registry import make_task

SIDE, WIDTH, HEIGHT = 96, 144, 112
AWAY_MM = 2500.0
CAMERA = (120.0, 120.0, 72.0, 56.0)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Seen:
    """One picture.

    Attributes:
        depth: uint16 [H, W], millimeters, of the person and the wall.
        mask: bool [H, W].
        record: the person as `predict` cuts them out of the masked picture, with labels.
        parts: uint8 [H, W].
        joints3d: float [31, 3], meters.
    """

    depth: np.ndarray
    mask: np.ndarray
    record: Person
    parts: np.ndarray
    joints3d: np.ndarray


def wall() -> np.ndarray:
    """uint16 [H, W], millimeters: 0.9 to 1.3 m behind the people."""
    return np.tile(np.linspace(3400, 3800, WIDTH), (HEIGHT, 1)).astype(np.uint16)


def people(count: int, seed: int = 3) -> list[Seen]:
    """People in different places; the person's world is scaled so that all are 2.5 m away."""
    rng, found = np.random.default_rng(seed), []
    config = PeopleConfig(size=SIDE, seed=seed)
    for number in range(count):
        one = make_person(config, number, dataset="people", split="train")
        assert one.depth is not None
        assert one.parts is not None
        own = codecs.decode_depth(one.depth, "png16").astype(float)
        zoom = AWAY_MM / own[own > 0].mean()
        x, y = int(rng.integers(0, WIDTH - SIDE)), int(rng.integers(0, HEIGHT - SIDE))
        place = np.s_[y : y + SIDE, x : x + SIDE]
        masked, parts = np.zeros((HEIGHT, WIDTH), np.uint16), np.zeros((HEIGHT, WIDTH), np.uint8)
        masked[place], parts[place] = np.rint(own * zoom), codecs.decode_labels(one.parts)
        masked[masked >= wall() - 50] = 0
        noise = np.rint(6 * rng.standard_normal(masked.shape)).astype(int)
        depth = np.where(masked > 0, masked, wall() + noise).astype(np.uint16)
        fx, fy, cx, cy = (float(each) for each in one.camera)
        joints3d = one.joints3d * zoom
        person = replace(
            one, id=f"people/{number:03d}", camera=np.array([fx, fy, cx + x, cy + y]), joints3d=joints3d,
            box=extent(masked), keypoints=None, rgb=None, iuv=None, mask=None, crop=None,
        )  # fmt: skip
        record = crop_person(person, PersonImages(depth=masked, parts=np.where(masked > 0, parts, 0).astype(np.uint8)))
        found.append(Seen(depth, masked > 0, record, np.where(masked > 0, parts, 0).astype(np.uint8), joints3d))
    return found


def write(root: Path, seen: list[Seen]) -> None:
    """depth/, masks/ and empty.png below `root`; boxes.jsonl has the true box of each."""
    for number, each in enumerate(seen):
        _write(root / "depth" / f"{number:03d}.png", codecs.encode_depth(each.depth, "png16"))
        _write(root / "masks" / f"{number:03d}.png", codecs.encode_labels(each.mask.astype(np.uint8) * 255))
    (root / "empty.png").write_bytes(codecs.encode_depth(wall(), "png16"))
    boxes = [
        {"image": f"{number:03d}.png", "box": [float(value) for value in extent(each.mask)]}
        for number, each in enumerate(seen)
    ]
    (root / "boxes.jsonl").write_text("\n".join(map(json.dumps, boxes)))


def about(masking: str) -> About:
    """Of the records."""
    return About(
        dataset="people", joints="people-31", joints3d="people-31", size=SIDE, depth_masking=masking,
        provenance=Provenance(program="tests"),
    )  # fmt: skip


def learn(folder: Path, config, seen: list[Seen], *, steps: int, rate: float, masking: str = "masked") -> None:
    """Train a small model until it knows the people by heart, and save it."""
    task = make_task(config, about(masking))
    torch.manual_seed(0)
    encoder = EncoderConfig(name="test_resnet")
    model = task.make_model(build_encoder(encoder, load=False))
    rows = [each.record.to_row(number) for number, each in enumerate(seen)]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(1, steps), pct_start=0.1)
    model.train()
    for step in range(steps):
        batch = task.make_batch(rows, [make_rng(0, "by heart", step, number) for number in range(len(rows))])
        optimizer.zero_grad()
        task.losses(model, batch, CPU)["loss"].backward()
        optimizer.step()
        schedule.step()
    save_model(str(folder), model.eval(), task, encoder, training={}, card="a test's")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
