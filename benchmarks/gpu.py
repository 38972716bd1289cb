"""Measure a pre-training step on a GPU: in each precision, compiled or not, beside ResNet-50 on the same pixels.

    python benchmarks/gpu.py                                       # all recipes, all arms; about 20 minutes
    python benchmarks/gpu.py --recipes people-gpu --arms bfloat16,bfloat16-compiled
    python benchmarks/gpu.py --device cpu --quick                  # the same code on a CPU, in tiny sizes

A step is the product's, in the second stage, from the host's arrays on. Its images are the RGB and the depth pictures
that the encoders see. ResNet-50 is timm's with its classifier, trained by SGD on as many RGB pictures of the same side,
in the same precision, order of memory and compilation. Needs only hcmoco: pixels are noise, which costs what pictures
cost. Before anything is timed, steps of both stages run where PyTorch forbids to wait for the device.
"""

import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F

from benchmarks._host_syncs import forbidden, of_project
from benchmarks._measure import Table, arguments, in_turns, ratios
from benchmarks._results import ROOT, gpu_state
from benchmarks.step import Bench, load_config
from hcmoco.data import transfer
from hcmoco.errors import UserError
from hcmoco.models.normalization import normalize_rgb
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.precision import autocast, set_up

# What PyTorch, and `forbidden` on a CPU, say of a call that waits.
WAITED = ("synchronizing CUDA operation", "waits for a GPU")
RECIPES = ("people-gpu", "paper-w18", "people-cpu")
# What a quick run has in place of a recipe's sizes.
TINY = (
    *("augment.size=64", "train.batch_size_per_lane=4", "model.embedding=16", "objective.num_anchors=12"),
    *("model.rgb={name: test_resnet}", "model.depth={name: test_resnet}", "model.skeleton={width: 16, num_blocks: 1}"),
    *("train.lanes=2", "data.sources.indoor.weight=3"),  # few rows, some of them without depth
)


@dataclass(frozen=True)
class Arm:
    """One way to compute the same step."""

    precision: str
    compiled: bool | str = False
    channels_last: bool = True

    def overrides(self, gpu: bool) -> list[str]:
        """What of a recipe it decides."""
        said = {"precision": self.precision, "compile": self.compiled, "gpu": gpu}
        return [f"train.{name}={str(value).lower()}" for name, value in said.items()]


ARMS = {
    "float32": Arm("float32"),
    "tf32": Arm("tf32"),
    "bfloat16": Arm("bfloat16"),
    "tf32-compiled": Arm("tf32", compiled=True),
    "bfloat16-compiled": Arm("bfloat16", compiled=True),
    "bfloat16-graphs": Arm("bfloat16", compiled="graphs"),
    "bfloat16-channels-first": Arm("bfloat16", channels_last=False),
}
# TF32 is a GPU's.
CPU_ARMS = {
    "float32": Arm("float32"),
    "bfloat16": Arm("bfloat16"),
    "float32-compiled": Arm("float32", compiled=True),
    "float32-channels-first": Arm("float32", channels_last=False),
}


class Reference:
    """A classifier that is trained on a batch's RGB pictures, as one would write it."""

    def __init__(self, name: str, bench: Bench, arm: Arm):
        self.bench, self.arm = bench, arm
        order = torch.channels_last if arm.channels_last else torch.contiguous_format
        self.order = order
        self.model = timm.create_model(name).to(bench.device, memory_format=order).train()
        if arm.compiled:
            self.model.compile(mode="reduce-overhead" if arm.compiled == "graphs" else None)
        fused = True if bench.device.type == "cuda" else None
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=fused)
        self.pixels = torch.from_numpy(bench.batch.rgb).to(bench.device)
        self.labels = torch.arange(len(self.pixels), device=bench.device) % 1000

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.bench.device, self.arm.precision):
            logits = self.model(normalize_rgb(self.pixels).contiguous(memory_format=self.order))
        F.cross_entropy(logits.float(), self.labels).backward()
        self.optimizer.step()


class Timed:
    """The three things that are timed of an arm."""

    def __init__(self, config: PretrainConfig, device: torch.device, arm: Arm, reference: str):
        set_up(device, config.train.precision)
        self.arm, self.bench = arm, Bench(config, device, channels_last=arm.channels_last)
        self.reference = Reference(reference, self.bench, arm)
        self.first_step = self.bench.timed(self.step, 1)[0]

    @property
    def images(self) -> int:
        """RGB and depth pictures of a step."""
        return int(self.bench.batch.has_rgb.sum() + self.bench.batch.has_depth.sum())

    def step(self) -> None:
        """A step, while the next one's arrays are copied."""
        self.bench.step()
        transfer.begin(self.bench.batch, self.bench.device)

    def seconds(self, function: Callable[[], None], count: int) -> float:
        """Seconds on the clock of a call, in this arm's arithmetic."""
        set_up(self.bench.device, self.arm.precision)
        return self.bench.timed(function, count)[0]

    def peak_bytes(self) -> int:
        """Bytes of a step at its peak: what it takes beyond what lies there before, and the run's own tensors."""
        device = self.bench.device
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        self.seconds(self.step, 2)
        state = self.bench.run.state_dict()
        held = [*state.model.values(), *state.optimizer.values(), *state.bank.values()]
        gradients = self.bench.run.optim_step.flat.gradients
        own = sum(each.nbytes for each in held) + gradients.nbytes
        return torch.cuda.max_memory_allocated(device) - before + own


def waits(config: PretrainConfig, device: torch.device) -> list[str]:
    """Where steps of either stage wait for the device, one line each; none of a stage's first steps, which copy
    constants."""
    # Few rows: their number does not matter.
    train = config.train.model_copy(update={"compile": False, "batch_size_per_lane": 2})
    bench = Bench(config.model_copy(update={"train": train}), device)
    first = Pretraining(bench.config, bench.run.plan, device, bench.run.plan.lanes, load_init=False)
    found = []
    for stage, run in ((1, first), (2, bench.run)):
        for number in range(4):
            run.step = bench.batch.step
            try:
                with forbidden(device) if number > 1 else nullcontext():
                    run.train_step(bench.batch)
            except RuntimeError as error:
                text = " ".join(str(error).split())
                if not any(words in text for words in WAITED):
                    raise
                frames = traceback.extract_tb(error.__traceback__)
                own = [each for each in frames if of_project(Path(each.filename))][-1]
                found.append(f"stage {stage}, {Path(own.filename).relative_to(ROOT)}:{own.lineno}: {text[:300]}")
    return list(dict.fromkeys(found))


def measure(recipe: str, overrides: Sequence[str], arms: dict[str, Arm], given) -> Table:
    """The table of one recipe. Arms that the GPU's memory does not hold are left out, and it says so."""
    device = torch.device(given.device)
    gpu = device.type == "cuda"
    reference = "test_resnet" if given.quick else "resnet50"
    rounds, count = (2, 1) if given.quick else (given.rounds, given.steps)
    table: Table | None = None
    timed: dict[str, Timed] = {}
    left_out: list[str] = []
    for name, arm in arms.items():
        config = load_config(recipe, [*overrides, *arm.overrides(gpu)])
        if table is None:
            table = Table(f"gpu-{recipe}{'-quick' if given.quick else ''}", {}, gpu=gpu)
            table.facts = {"gpu": {"before": gpu_state()} if gpu else {}}
            found = waits(config, device)
            table.add("places in a step that wait for the device", len(found), limit=0)
            for line in found:
                print(line, file=sys.stderr)
        print(f"{recipe}: {name}", file=sys.stderr)
        try:
            timed[name] = Timed(config, device, arm, reference)
        except torch.OutOfMemoryError:
            left_out.append(f"{name}: out of memory; fewer rows: train.batch_size_per_lane=...")
        except UserError as error:
            left_out.append(f"{name}: {error}")
        if gpu:
            torch.cuda.empty_cache()
    assert table is not None
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not timed:
        return table
    some = next(iter(timed.values())).bench
    table.settings = {
        "encoders": f"{some.config.model.rgb.name} and {some.config.model.depth.name}",
        "pixels": some.config.augment.size,
        "rows": f"{len(some.batch)} ({int(some.batch.has_depth.sum())} with depth)",
        "anchors": some.config.objective.num_anchors,
        "bank": f"{some.run.plan.offsets[-1]} rows, K {some.config.objective.num_negatives}",
        "optimizer": some.config.optim.name,
        "reference": reference,
        "steps per turn": count,
        **({"left out": left_out} if left_out else {}),
    }
    _add_rows(table, timed, reference, rounds, count)
    if gpu:
        table.facts["gpu"]["after"] = gpu_state()
    return table


def _add_rows(table: Table, timed: dict[str, Timed], other: str, rounds: int, count: int) -> None:
    calls = {
        f"{name} {what}": lambda each=each, call=call: each.seconds(call, count)
        for name, each in timed.items()
        for what, call in (
            ("step", each.step),
            ("encoders", each.bench.encoders),
            ("reference", each.reference.step),
        )
    }
    in_turns(calls, 1)  # algorithms are chosen, code is compiled
    seconds = in_turns(calls, rounds)
    for name, each in timed.items():
        step, encoders, reference = (seconds[f"{name} {what}"] for what in ("step", "encoders", "reference"))
        speed = [each.images / value for value in step]
        pictures = len(each.bench.batch)
        table.add(f"{name}: images/s of a step", speed, "/s")
        table.add(
            f"{name}: images/s / {other}'s", ratios(speed, [pictures / value for value in reference]), better="higher"
        )
        table.add(f"{name}: encoders alone / step", ratios(encoders, step), better="higher")
        if each.bench.device.type == "cuda":
            table.add(f"{name}: peak memory", each.peak_bytes() / 1e9, "GB")
        table.add(f"{name}: first step beyond a later one", max(0.0, each.first_step - statistics.median(step)), "s")
        table.add(f"  {name}: a step", [1e3 * value for value in step], "ms")
        table.add(f"  {name}: encoders alone", [1e3 * value for value in encoders], "ms")
        table.add(f"  {name}: {other}", [pictures / value for value in reference], "/s")


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = arguments(__doc__, rounds=5, quick="people-cpu with tiny encoders, 2 rounds of 1 step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--recipes", type=_names, help=f"comma-separated (default {','.join(RECIPES)})")
    parser.add_argument("--arms", type=_names, help=f"comma-separated, of {','.join(ARMS)} (default all)")
    parser.add_argument("--steps", type=int, default=10, help="steps per turn (default 10)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        return _refuse(
            f"PyTorch {torch.__version__} finds no GPU here (docs/support.md says which drivers it needs); "
            "--device cpu --quick runs the same code on a CPU"
        )
    if given.device == "cpu" and not given.quick:
        return _refuse("on a CPU this takes hours; --device cpu --quick runs the same code in tiny sizes")
    known = ARMS if given.device == "cuda" else CPU_ARMS
    arms, recipes = given.arms or list(known), given.recipes or (["people-cpu"] if given.quick else list(RECIPES))
    for option, chosen, allowed in (("--arms", arms, known), ("--recipes", recipes, RECIPES)):
        if strange := [name for name in chosen if name not in allowed]:
            return _refuse(f"{option} {','.join(strange)}: allowed on {given.device} are {','.join(allowed)}")
    if given.device == "cpu":
        torch.set_num_threads(1)
    for recipe in recipes:
        overrides = [*(TINY if given.quick else ()), *given.overrides]
        try:
            table = measure(recipe, overrides, {name: known[name] for name in arms}, given)
        except UserError as error:
            return _refuse(str(error))
        table.show()
        table.write(given.results)
    return 0


def _names(text: str) -> list[str]:
    return text.split(",")


def _refuse(line: str) -> int:
    print(f"error: benchmarks/gpu.py: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
