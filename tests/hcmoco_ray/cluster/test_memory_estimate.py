"""The estimate of a run's memory against what is measured."""

import time

import psutil
import pytest
import torch

from hcmoco.models.multimodal import HCMoCo
from hcmoco_ray.cluster.memory_estimate import (
    activation_bytes,
    free_memory,
    needed_memory,
    shapes,
    state_bytes,
    worker_memory,
)
from hcmoco_ray.config import PretrainRecipe, load
from tests.helpers.overrides import last_of_each
from tests.helpers.pretrain_program import start, write_recipe


@pytest.mark.parametrize("backbone", ["test_resnet", pytest.param("hrnet_w18_small", marks=pytest.mark.slow)])
def test_counted_without_computing_is_what_computing_keeps(backbone):
    config = load(PretrainRecipe, "people-cpu-tables", [f"model.rgb.name={backbone}", f"model.depth.name={backbone}"])
    real = HCMoCo(config.model, seed=0).train()
    assert activation_bytes(shapes(config), 64) == pytest.approx(activation_bytes(real, 64), rel=0.01)
    # Everything is a map of the image, or almost: four times the pixels keep four times as much.
    assert activation_bytes(shapes(config), 128) == pytest.approx(4 * activation_bytes(shapes(config), 64), rel=0.02)


def test_points_are_counted_without_computing_too():
    def config(**args: int) -> PretrainRecipe:
        named = [f"model.depth.args.{name}={value}" for name, value in args.items()]
        small = ["model.rgb.name=test_resnet", "model.depth.name=pointnet2_msg"]
        return load(PretrainRecipe, "people-cpu-tables", [*small, *named])

    real = HCMoCo(config().model, seed=0).train()
    assert activation_bytes(shapes(config()), 64) == pytest.approx(activation_bytes(real, 64), rel=0.01)
    counts = [activation_bytes(shapes(config(num_points=count)), 64) for count in (256, 512, 1024)]
    assert counts[2] - counts[1] == pytest.approx(2 * (counts[1] - counts[0]), rel=0.02), (
        "as many points, as much memory"
    )


def test_one_convolution_is_counted_by_hand():
    """Autograd keeps a convolution's input, and its weight, which is not counted."""
    model = torch.nn.ModuleDict({name: torch.nn.Conv2d(3, 8, 3, padding=1) for name in ("rgb", "depth")})
    model.rgb, model.depth = model["rgb"], model["depth"]
    assert activation_bytes(model, 32) == 2 * 3 * 32 * 32 * 4


def test_more_of_anything_needs_more():
    small = ["model.rgb.name=test_resnet", "model.depth.name=test_resnet"]

    def needed(*overrides):
        return needed_memory(
            load(
                PretrainRecipe,
                "people-cpu-tables",
                last_of_each(["train.workers=1", "train.precision=bfloat16", *small, *overrides]),
            ),
            1000,
        )

    plain = needed()
    for override in (
        "train.batch_size_per_lane=32",
        "augment.size=192",
        "model.rgb.name=resnet18",
        "train.precision=float32",
    ):
        assert needed(override) > 1.02 * plain, override
    for override in (
        "objective.num_anchors=400",
        "objective.num_negatives=64",
        "train.workers=2",
        "probe.num_people=2000",
    ):
        assert needed(override) > plain, override
    assert needed("data.held_out=null") < plain


def test_a_state_is_as_large_as_its_numbers():
    config = load(PretrainRecipe, "people-cpu-tables", ["objective.num_negatives=64", "optim.name=sgd"])
    parameters = sum(each.numel() for each in HCMoCo(config.model, seed=0).parameters())
    # Of a bank's row: a float32 embedding, whether it was visited, and its place in the order of visits.
    assert state_bytes(config, 100) == 4 * 2 * parameters + 3 * (100 * (4 * 128 + 9) + 16)


def test_a_bounded_bank_is_counted_bounded_however_many_people_there_are():
    def config(*overrides):
        small = ["model.rgb.name=test_resnet", "model.depth.name=test_resnet", "train.precision=float32"]
        return load(PretrainRecipe, "people-cpu-tables", [*small, *overrides])

    people, rows, row = 100_000_000, 1_000_000, 3 * (4 * 128 + 9)
    with_bank = "objective.num_negatives=64"
    without, whole, bounded = config(), config(with_bank), config(with_bank, f"objective.bank_rows={rows}")
    assert needed_memory(whole, people) - needed_memory(without, people) > people * row > 150e9
    for estimate in (needed_memory, state_bytes):
        assert estimate(bounded, people) == estimate(whole, rows)
        assert estimate(config(with_bank, "objective.bank_rows=2000"), 1000) == estimate(whole, 1000)
    assert needed_memory(without, people) == needed_memory(without, 10)


def test_what_this_process_holds_counts_as_free():
    before = free_memory()
    held = torch.ones(300 << 18)  # 300 MB
    assert abs(free_memory() - before) < 0.25 * psutil.virtual_memory().total
    assert held.sum() > 0
    assert psutil.virtual_memory().available < free_memory() <= psutil.virtual_memory().total


@pytest.mark.slow
@pytest.mark.long
def test_the_estimate_is_near_the_peak_of_a_real_run(tmp_path):
    path = write_recipe(tmp_path)
    process = start(tmp_path, "train.workers=2")
    peak = 0
    while process.poll() is None:
        peak = max(peak, _held(process.pid))
        time.sleep(0.3)
    assert process.returncode == 0
    needed = needed_memory(load(PretrainRecipe, str(path), ["train.workers=2"]), 72)
    assert 0.85 * peak < needed < 1.5 * peak


def _held(pid: int) -> int:
    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for each in tree:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_workers_memory_is_counted_part_by_part(name):
    """SGD has one slot a parameter, AdamW two; the rest is linear in a worker's rows, but for the terms' squares."""

    def of(*overrides):
        own = ["model.rgb.name=test_resnet", "model.depth.name=test_resnet", f"optim.name={name}"]
        rest = ["train.workers=1", "train.precision=float32", "objective.num_negatives=64"]
        return load(PretrainRecipe, "people-cpu-tables", last_of_each([*own, *rest, *overrides]))

    config = of()
    model = HCMoCo(config.model, seed=0)
    model.add_dense_mappers()
    numbers = 4 * sum(each.numel() for each in model.parameters())
    found = worker_memory(config, 1000)
    assert (found.weights, found.gradients) == (numbers, numbers)
    assert found.optimizer == numbers * {"sgd": 1, "adamw": 2}[name]
    assert found.banks == 3 * (1000 * (4 * 128 + 9) + 16)
    rows = config.train.lanes * config.train.batch_size_per_lane
    kept = activation_bytes(model, config.augment.size)
    assert kept * rows <= found.activations <= 1.5 * kept * rows
    twice = worker_memory(of(f"train.batch_size_per_lane={2 * config.train.batch_size_per_lane}"), 1000)
    assert twice.activations == pytest.approx(2 * found.activations, rel=1e-6)
    assert worker_memory(of("train.workers=2"), 1000).activations == pytest.approx(found.activations / 2, rel=1e-6)
    assert 2 * found.terms <= twice.terms <= 4 * found.terms
    parts = (found.weights, found.gradients, found.optimizer, found.activations, found.terms, found.banks)
    assert found.total == sum(parts)


def test_what_the_page_says_of_the_published_sizes():
    """docs/encoders.md; W48's rows are chosen to need no more than W32's."""
    w32, w48 = (worker_memory(load(PretrainRecipe, f"paper-{name}", []), 350_000) for name in ("w32", "w48"))
    assert w32.total == pytest.approx(31.5e9, rel=0.02)
    assert w48.total == pytest.approx(29.0e9, rel=0.02)
