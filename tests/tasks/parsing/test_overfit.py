"""Eight people seen again and again: head, loss and decoding together learn their parts by heart."""

import time

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from hcmoco.tasks.parsing import DepthParsing, ParsingConfig, RgbParsing

pytestmark = pytest.mark.slow
PEOPLE, STEPS = 8, 300
LEARNING_RATE = 0.01
STILL = {
    "scale": (1.0, 1.0),
    "shift": 0,
    "rotation": 0,
    "flip_probability": 0,
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    # Enlarged twice, so that logits lie two stored pixels apart and thin parts are not lost between them.
    config = PeopleConfig(size=64)
    return [make_person(config, number, dataset="people", split="train").to_row(number) for number in range(PEOPLE)]


@pytest.mark.parametrize("cls", [RgbParsing, pytest.param(DepthParsing, marks=pytest.mark.long)])
def test_eight_people_are_learnt_by_heart(cls, rows: list[dict]):
    torch.manual_seed(0)
    about = About(
        dataset="people", joints="people-31", depth_codec=DEPTH_CODEC, size=64, provenance=Provenance(program="tests")
    )
    task = cls(ParsingConfig(name=cls.name, size=128, augment=STILL), about)
    model = task.make_model(build_encoder(EncoderConfig(name="test_resnet")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
    batch = task.make_batch(rows, [make_rng(0, "augment", number) for number in range(PEOPLE)])
    cpu = torch.device("cpu")
    began = time.monotonic()
    for _ in range(STEPS):
        optimizer.zero_grad()
        task.losses(model, batch, cpu)["loss"].backward()
        optimizer.step()
        schedule.step()
    metric = task.metric()
    truth = task.make_batch(rows, None)
    metric.update(truth, task.predict(model.eval(), truth, cpu))
    metrics = metric.compute().metrics
    assert metrics["mIoU_present"] > 0.9, f"{metrics} after {time.monotonic() - began:.0f} s"
