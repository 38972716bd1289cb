"""Eight people seen again and again by both modalities: losses, fusion, head and decoding together learn their parts by
heart."""

import pytest
import torch

from hcmoco.cotraining.evaluation import evaluate
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from tests.helpers import local_cotraining as tiny

pytestmark = pytest.mark.slow
PEOPLE, STEPS = 8, 250


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("overfit") / "people")
    persons = [make_person(PeopleConfig(size=128), number, dataset="people", split="train") for number in range(PEOPLE)]
    made = Provenance(program="tests")
    write_shards(
        folder,
        persons,
        About(
            dataset="people",
            joints="people-31",
            joints3d="people-31",
            depth_codec=DEPTH_CODEC,
            size=128,
            provenance=made,
        ),
    )
    return Shards.open(folder)


@pytest.mark.long
def test_eight_people_are_learnt_by_heart(people):
    over = {
        "experiment": "missing-modality",
        "augment": {"size": 96, "scale": (1.25, 1.25), "shift": 0, "rotation_probability": 0},
        "model": {"rgb": {"name": "test_resnet"}, "depth": {"name": "test_resnet"}, "embedding": 64},
        "objective": {"num_anchors": 60, "num_negatives": 0},
        "steps": STEPS,
        "optim": {"lr": 0.004, "warmup_steps": 10, "clip_norm": 1.0},
        "train": {"lanes": 1, "batch_size_per_lane": 16, "log_every": 50},
    }
    run, _ = tiny.start(tiny.Sources(people, people, people), over)
    setup = tiny.tiny_resolved(tiny.Sources(people, people, people), over)
    metrics = evaluate(run.model, setup.crops(setup.test), torch.device("cpu")).metrics
    assert metrics["fused/mIoU"] > 0.7, metrics
    # The contrast makes one modality enough.
    assert min(metrics["rgb/mIoU"], metrics["depth/mIoU"]) > 0.3, metrics
