"""Measure what a stage-2 step costs beyond the encoders' own forward and backward pass on the same rows.

    python benchmarks/step.py                     # CPU: the recipe people-cpu
    python benchmarks/step.py --device cuda       # GPU: the paper's sizes, HRNet-W18 at 320 pixels, 56 rows
    python benchmarks/step.py --sizes paper train.batch_size_per_lane=8    # CPU: the paper's sizes but for the rows

Needs only hcmoco: pixels are noise, which costs what pictures cost.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks._results import ROOT
from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.data.collate import draw_anchors
from hcmoco.data.points import draw_points
from hcmoco.data.sampler import Plan, SourcePlan
from hcmoco.data.schema import Batch
from hcmoco.models.compiled import begin_step
from hcmoco.models.multimodal import HCMoCo, MultiModalEncoders
from hcmoco.objectives import MODALITIES, Bank, ObjectiveConfig, sample_terms
from hcmoco.pretraining import trainer
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.pretraining.views import Views, to_device
from hcmoco.rng import make_rng
from hcmoco.training import distributed
from hcmoco.training.compile import compile_encoders
from hcmoco.training.optim_step import OptimStep
from hcmoco.training.precision import autocast, native_bfloat16, settle

# Recipe and overrides.
SIZES = {
    "people-cpu": ("people-cpu", ["train.concurrent_encoders=false"]),  # as the encoders alone run here
    "paper": (
        "people-gpu",
        ["augment.size=320", "train.lanes=1", "train.batch_size_per_lane=56", "train.precision=auto"],
    ),
}
PAPER_NEGATIVES, PAPER_WIDTH = 16384, 128
WITHOUT_DEPTH = ("mpii", "coco")


def load_config(recipe: str, overrides: list[str]) -> PretrainConfig:
    """The config of one worker's share of a recipe. Of overrides of one key the last counts: the command line's."""
    values = load_recipe(ROOT / "recipes" / f"{recipe}.yaml")
    for override in overrides:
        values = merge(values, parse_overrides([override]))
    values = {key: value for key, value in values.items() if key in PretrainConfig.model_fields}
    config = build(PretrainConfig, values, recipe)
    train = config.train.model_copy(update={"lanes": config.train.lanes // config.train.max_workers, "workers": 1})
    return config.model_copy(update={"train": train})


def make_plan(config: PretrainConfig) -> Plan:
    """A plan over data sets as large as the recipe's, of which nothing is read."""
    sources = []
    for name, source in config.data.sources.items():
        rows = source.people.count if source.people else 10000
        sources.append(
            SourcePlan(name, rows, tuple([32] * (rows // 32) + [rows % 32] * (rows % 32 > 0)), source.weight)
        )
    train = config.train
    return Plan(
        config.seed, tuple(sources), train.lanes, train.batch_size_per_lane, train.window_steps, config.stages.steps
    )


def make_batch(config: PretrainConfig, plan: Plan) -> Batch:
    """A worker's noise in the shapes of step 0, with depth where the recipe's data sets have it."""
    rng = np.random.default_rng(0)
    lanes = plan.lanes // distributed.world()
    numbers = np.concatenate([np.repeat(np.arange(len(plan.sources)), plan.composition(0)) for _ in range(lanes)])
    wild = [
        source.people.domain == "wild" if source.people else name in WITHOUT_DEPTH
        for name, source in config.data.sources.items()
    ]
    B, S, J, P = len(numbers), config.augment.size, 16, config.objective.num_anchors
    depth_BSS = rng.integers(1000, 4000, (B, S, S)).astype(np.uint16)
    depth_BSS[:, :, : S // 3] = 0  # about a third of a crop is not the person
    depth_BSS[np.array(wild)[numbers]] = 0
    N = config.model.depth.points_at(S)
    points_BN = np.full((B, N), -1)
    anchors_BP = np.stack([draw_anchors(each, P, rng) for each in depth_BSS])
    if N:
        drawn = [draw_points(each, N, P, rng) for each in depth_BSS]
        points_BN, anchors_BP = (np.stack(each) for each in zip(*drawn, strict=True))
    keypoints_BJ3 = np.concatenate([rng.uniform(0, S, (B, J, 2)), rng.random((B, J, 1)) < 0.9], 2).astype(np.float32)
    return Batch(
        step=0,
        rgb=rng.integers(0, 256, (B, S, S, 3)).astype(np.uint8),
        depth=depth_BSS,
        keypoints=keypoints_BJ3,
        rgb_keypoints=keypoints_BJ3,
        depth_keypoints=keypoints_BJ3,
        released_keypoints=rng.uniform(-1, 1, (B, J, 2)).astype(np.float32),
        has_rgb=np.ones(B, bool),
        has_depth=depth_BSS.any((1, 2)),
        has_keypoints=np.ones(B, bool),
        index=rng.permutation(plan.offsets[-1])[:B].astype(np.int64),
        source=numbers.astype(np.int64),
        anchors=anchors_BP,
        rgb_anchors=anchors_BP,
        rgb_to_depth=np.tile(np.eye(2, 3, dtype=np.float32), (B, 1, 1)),
        points=points_BN,
        # A camera in whose picture a person of 1.7 m, 2.5 m away, is as high as the crop.
        rays=np.tile(np.float32([[1, 0, -S / 2], [0, 1, -S / 2]]) * np.float32(0.68 / S), (B, 1, 1)),
    )


class Bench:
    """A run in its second stage with full banks, and one batch.

    Args:
        config: of one worker's share of a recipe; weights are fresh, whatever it says.
        device: where to train.
        channels_last: as the product has it; False lays weights and inputs out in PyTorch's default order.
    """

    def __init__(self, config: PretrainConfig, device: torch.device, *, channels_last: bool = True):
        self.config, self.device = config, device
        plan = make_plan(config)
        self.run = Pretraining(config, plan, device, plan.lanes // distributed.world(), load_init=False)
        self.run.start_stage2()
        if not channels_last:
            self._in_default_order()
        for number, (name, bank) in enumerate(self.run.banks.items()):
            self.run.banks[name] = Bank.random(
                len(bank), config.model.embedding, make_rng(0, "full bank", number), device
            )
        self.batch = make_batch(config, plan)
        self.views = to_device(self.batch, device, self.run.model)
        # The encoders alone are another copy, as a program that has nothing but them would hold them.
        self.alone = (
            HCMoCo(config.model, seed=config.seed, load=False)
            .to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            .train()
        )
        if config.train.compile:
            compile_encoders(self.alone, device, graphs=config.train.compile == "graphs")
        self.gradients: list[Tensor] = []

    def _in_default_order(self) -> None:
        model = self.run.model.to(memory_format=torch.contiguous_format)
        self.run.optim_step = OptimStep(model, self.config.optim)
        for name in ("prepare_rgb", "prepare_depth"):
            prepare = getattr(model, name)
            setattr(model, name, lambda pixels, prepare=prepare: prepare(pixels).contiguous())

    def step(self) -> None:
        """The product's whole step, from the host's arrays on."""
        self.run.step = self.batch.step
        self.run.train_step(self.batch)

    def encoders(self) -> None:
        """The encoders alone on inputs that lie ready: forward, and backward from a gradient of every output."""
        self.alone.zero_grad(set_to_none=True)
        if self.config.train.compile == "graphs":
            begin_step()
        with autocast(self.device, self.config.train.precision):
            outputs = encode(self.alone, self.views)
        if not self.gradients:
            self.gradients = [torch.randn_like(each) * 1e-3 for each in outputs]
        torch.autograd.backward(outputs, self.gradients)

    def timed(self, function, count: int) -> tuple[float, float]:
        """(seconds, CPU seconds of this process) per call."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            function()
        self._wait()
        return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def encode(model: MultiModalEncoders, views: Views) -> list[Tensor]:
    """All outputs of the three encoders."""
    visible_RJ = views.keypoints_BJ3[views.rows["keypoints"], :, 2] > 0
    keypoints = model.encode_keypoints(views.inputs["keypoints"], visible_RJ)
    return [*model.encode_rgb(views.inputs["rgb"]), *model.encode_depth(views.inputs["depth"]), keypoints]


class Parts:
    """Where a step's time goes: every moment belongs to the innermost named function that is under way.

    On a GPU it is the device's own clock, on a CPU the process's CPU time, which others on the machine do not stretch.
    """

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.marks: list[tuple[str, object]] = []
        self.open: list[str] = []

    def mark(self, part: str) -> None:
        """What comes from here on belongs to `part`."""
        stamp: object = time.process_time()
        if self.cuda:
            stamp = torch.cuda.Event(enable_timing=True)
            stamp.record()
        self.marks.append((part, stamp))

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        self.open.append(part)
        self.mark(part)
        yield
        self.open.pop()
        self.mark(self.open[-1] if self.open else "")

    def wrap(self, owner: object, name: str, part: str):
        """A patch of `owner.name` that counts its time for `part`."""
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            with self.inside(part):
                return original(*args, **kwargs)

        return patch.object(owner, name, counted)

    def seconds(self) -> dict[str, float]:
        """Of everything marked since the last call."""
        if self.cuda:
            torch.cuda.synchronize()
        total: dict[str, float] = defaultdict(float)
        for (part, begin), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            total[part] += begin.elapsed_time(end) / 1e3 if self.cuda else end - begin
        self.marks = []
        total.pop("", None)
        return total


@contextmanager
def taken_apart(bench: Bench, parts: Parts) -> Iterator[None]:
    """Patches the step so that `parts` sees it."""
    run, model = bench.run, bench.run.model
    encoder = {"encode_rgb": "RGB", "encode_depth": "depth", "encode_keypoints": "keypoints"}

    def watched(original):
        def encode_and_watch(*args):
            with parts.inside("encoders, forward"):
                maps = original(*args)
            # Autograd runs what was recorded last first: the first of these gradients ends the backward pass of the
            # terms.
            for each in maps if isinstance(maps, list) else [maps]:
                each.register_hook(lambda _: parts.mark("encoders, backward"))
            return maps

        return encode_and_watch

    with ExitStack() as stack:
        for name in encoder:
            stack.enter_context(patch.object(model, name, watched(getattr(model, name))))
        for owner, name, part in (
            (trainer, "to_device", "transfer"),
            (trainer, "draw_negatives", "bank"),
            (Bank, "gather", "bank"),
            (run, "_update_banks", "bank"),
            (trainer, "embed", "terms, forward"),
            (trainer, "compute_terms", "terms, forward"),
            (torch.Tensor, "backward", "terms, backward"),
            (run.optim_step.averaging, "finish", "averaging"),
            (run.optim_step.flat, "clip", "clipping"),
            (run.optim_step.optimizer, "step", "optimizer"),
            (bench, "step", "rest"),
        ):
            stack.enter_context(parts.wrap(owner, name, part))
        yield


def gathered_bytes(rows: int, device: torch.device) -> int:
    """Bytes that one step gathers for a batch of `rows` from banks of 60,000 people, with the paper's K and width."""
    seen: list[int] = []
    gather = Bank.gather

    def counted(self, u_K):
        drawn = gather(self, u_K)
        seen.append(drawn.rows.nbytes + drawn.address.nbytes + drawn.eligible.nbytes)
        return drawn

    banks = {
        name: Bank.random(60000, PAPER_WIDTH, make_rng(0, "bytes", k), device) for k, name in enumerate(MODALITIES)
    }
    embeddings = {
        name: torch.nn.functional.normalize(torch.randn(rows, PAPER_WIDTH, device=device), dim=1) for name in MODALITIES
    }
    present = {name: torch.ones(rows, dtype=torch.bool, device=device) for name in MODALITIES}
    draws = torch.rand(PAPER_NEGATIVES, dtype=torch.float64, device=device)
    with patch.object(Bank, "gather", counted):
        sample_terms(
            ObjectiveConfig(num_negatives=PAPER_NEGATIVES),
            embeddings,
            present,
            torch.arange(rows, device=device),
            banks,
            draws,
        )
    return sum(seen)


def main() -> None:
    parser = arguments(__doc__, rounds=15, quick="tiny sizes and 2 rounds")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=0, help="steps per turn (default 2 on a CPU, 20 on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="threads of CPU arithmetic (default 1, as the recipe)")
    parser.add_argument("--sizes", choices=SIZES, help="default: people-cpu on a CPU, paper on a GPU")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    sizes = given.sizes or ("paper" if given.device == "cuda" else "people-cpu")
    recipe, overrides = SIZES[sizes]
    if given.quick:
        overrides = [*overrides, "augment.size=64", "train.batch_size_per_lane=4"]
    config = settle(load_config(recipe, [*overrides, *given.overrides]), native_bfloat16(given.device), None)
    rounds = 2 if given.quick else given.rounds
    count = given.steps or {("people-cpu", "cpu"): 2, ("paper", "cpu"): 1}.get((sizes, given.device), 20)

    bench = Bench(config, device)
    depth_rows = int(bench.batch.has_depth.sum())
    settings = {
        "encoders": f"{config.model.rgb.name} and {config.model.depth.name}",
        "pixels": config.augment.size,
        "rows": f"{len(bench.batch)} ({depth_rows} with depth)",
        "anchors": config.objective.num_anchors,
        "bank": f"{bench.run.plan.offsets[-1]} rows, K {config.objective.num_negatives}",
        "precision": config.train.precision,
        "optimizer": config.optim.name,
        "device": given.device,
        "threads": given.threads,
        "steps per turn": count,
    }
    table = Table("step-quick" if given.quick else f"step-{sizes}", settings, gpu=given.device == "cuda")
    arms = {"step": lambda: bench.timed(bench.step, count), "encoders": lambda: bench.timed(bench.encoders, count)}
    in_turns(arms, 1 if given.device == "cpu" else 3)
    timed = in_turns(arms, rounds)
    wall = {name: [each[0] for each in values] for name, values in timed.items()}
    cpu = {name: [each[1] for each in values] for name, values in timed.items()}
    table.add("stage-2 step / encoders alone, wall time", ratios(wall["step"], wall["encoders"]), limit=1.10)
    if given.device == "cpu":
        # The target is one of wall time; CPU time is the sturdier figure where others use the machine too.
        table.add("stage-2 step / encoders alone, CPU time", ratios(cpu["step"], cpu["encoders"]), limit=1.10)
    table.add("stage-2 step", [1e3 * each for each in wall["step"]], "ms")
    table.add("encoders alone", [1e3 * each for each in wall["encoders"]], "ms")
    table.add("rows per second", [len(bench.batch) / each for each in wall["step"]], "/s")
    _add_parts(table, bench, max(3, rounds * count // 3))
    for rows in (16, 256):
        what = f"gathered from the banks a step, K={PAPER_NEGATIVES}, 3 x {PAPER_WIDTH}, {rows} rows"
        table.add(what, gathered_bytes(rows, device) / 1e6, "MB", limit=30)
    table.show()
    table.write(given.results)


def _add_parts(table: Table, bench: Bench, count: int) -> None:
    parts, each = Parts(bench.device), []
    with taken_apart(bench, parts):
        bench.step()
        parts.seconds()
        for _ in range(count):
            bench.step()
            each.append(parts.seconds())
    for part in each[0]:
        share = sum(step[part] for step in each) / sum(sum(step.values()) for step in each)
        table.add(f"  {part}", [1e3 * step[part] for step in each], "ms", note=f"{share:.1%} of the step")


if __name__ == "__main__":
    run(main)
