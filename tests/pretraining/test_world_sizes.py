"""One step in float64 is the same on one worker and on several, stochastic depth included, where each row counts by
itself.

So batch norm is as in evaluation, negatives come from the bank alone, and all workers have equally many rows of every
modality.
"""

from pathlib import Path

import pytest
import torch

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.writer import write_shards
from hcmoco.synthetic import PeopleConfig, make_person
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny

pytestmark = pytest.mark.slow

# Layer norm instead of batch norm, and eight layers of stochastic depth.
ENCODER = {"name": "test_convnext", "args": {"drop_path_rate": 0.5}}
PRETRAINING = {
    "data": {"sources": {"room": {"weight": 2}, "street": {"weight": 1}}},
    "augment": {"rotation_probability": 0.5},
    "model": {"rgb": ENCODER, "depth": ENCODER},
    "objective": {"in_batch_negatives": False, "release": {"bank_start": "random"}, "lambda_s": 0},
    "train": {"lanes": 4, "batch_size_per_lane": 3},
    "optim": {"warmup_steps": 0},
}
POSE = {
    "output_dir": "made by a test",
    "seed": 5,
    "task": {"name": "pose", "size": 64, "head": {"num_convolutions": 1, "channels": 8}},
    "init": "scratch",
    "encoder": ENCODER,
    "data": {"train": {"path": "people"}, "test": {"path": "people"}},
    "steps": 2,
    "num_val_rows": 4,
    "optim": {"name": "sgd", "lr": 0.1},
    "train": {"precision": "float32", "lanes": 4, "batch_size_per_lane": 2, "window_steps": 1},
}


def gradients(folder: Path, call: str, **arguments) -> dict[int, dict[str, torch.Tensor]]:
    """World size -> the averaged gradient, the same on each of its workers."""
    folder.mkdir()
    forked_runs.run_jobs(
        folder, [{"call": call, "world": world, "arguments": {**arguments, "out": str(folder)}} for world in (1, 2)]
    )
    found = {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in (1, 2)}
    for first, *others in found.values():
        assert all(torch.equal(value, other[name]) for other in others for name, value in first.items())
    return {world: each[0] for world, each in found.items()}


def check_equal(found: dict[int, dict[str, torch.Tensor]]) -> None:
    alone = found.pop(1)
    assert all(each.dtype == torch.float64 for each in alone.values())
    largest = max(each.abs().max().item() for each in alone.values())
    assert largest > 1e-6
    for other in found.values():
        for name, value in alone.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-10 * largest, msg=name)


@pytest.mark.parametrize("full", [False, True], ids=["stage 1", "stage 2"])
def test_pre_training(tmp_path, full):
    sources = [
        tiny.write_blobs(tmp_path, "room", 30).uri,
        tiny.write_blobs(tmp_path, "street", 20, depth_of=(False,)).uri,
    ]
    over = {**PRETRAINING, "stages": {"stage1_steps": 0 if full else 2, "stage2_steps": 2 if full else 0}}
    found = gradients(tmp_path / "step", "pretraining_step", sources=sources, over=over, full=full)
    assert any(name.startswith("depth.") and value.any() for name, value in found[1].items())
    assert {"norm/all", "norm/d/rgb-depth" if full else "norm/g/rgb-depth"} <= found[2].keys()
    check_equal(found)


def test_fine_tuning(tmp_path):
    people = [
        make_person(PeopleConfig(size=64, seed=9), number, dataset="people", split="train") for number in range(16)
    ]
    about = About(
        dataset="people",
        joints="people-31",
        joints3d="people-31",
        depth_codec="png16",
        size=64,
        provenance=Provenance(program="t"),
    )
    write_shards(str(tmp_path / "people"), people, about)
    check_equal(gradients(tmp_path / "step", "finetuning_step", source=str(tmp_path / "people"), values=POSE))
