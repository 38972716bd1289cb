"""Measure what pre-training recipes teach for their CPU time: the training itself, no Ray, people not counted.

    python benchmarks/recipe.py                                # people-cpu, and what was compared with it
    python benchmarks/recipe.py --arms people-cpu --seeds 3    # one of them, with three seeds
    python benchmarks/recipe.py --arms people-cpu "mine=people-cpu optim.lr=0.01 stages.stage2_steps=800"

An arm is a recipe with overrides, trained in one process of one thread. A recipe with more workers is trained by one,
whose batch norms and negatives see the rows of all.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks._measure import Table, run
from benchmarks._results import RESULTS, ROOT
from hcmoco.config import load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.pretraining.loop import STAGE_2, pretrain
from hcmoco.training.local import LocalContext
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.prepare import ensure
from hcmoco_ray.train.pretrain import make_loader, make_plan, probe_views

_ADAMW = "optim.name=adamw optim.lr=0.004"
# Name -> recipe and overrides.
ARMS = {
    "people-cpu": "people-cpu",
    "AdamW": f"people-cpu {_ADAMW}",
    "a quarter outdoors": "people-cpu data.sources.indoor.weight=3",
    "16 rows": "people-cpu train.lanes=2 stages.stage2_steps=860",
    "a crop of its own for each modality": "people-cpu augment.independent=true",
    "200 anchors": "people-cpu objective.num_anchors=200",
    **{
        name: f"people-cpu model.rgb.name={name} model.depth.name={name} train.precision=float32"
        for name in ("mobilenetv4_conv_small", "regnetx_002")
    },
    "people-cpu-tables, one worker": "people-cpu-tables",
}
PROBES = {
    "dense correspondence, different crops": "dense_different_crops/mean",
    "same joint, RGB to RGB": "joint/rgb_to_rgb",
    "same joint, RGB to depth": "joint/rgb_to_depth",
    "dense correspondence, same crop": "dense_same_crop/mean",
    "retrieval, same crop": "retrieval_same_crop/mean",
    "retrieval, different crops": "retrieval_different_crops/mean",
}
_QUICK = ["stages={stage1_steps: 1, stage2_steps: 1}", "probe.num_people=8"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="people-cpu, 2 steps; the figures are a smoke test, not a result"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON (default benchmarks/results)")
    parser.add_argument("--data", type=Path, help="folder of the people; made where they are not there")
    parser.add_argument(
        "--arms", nargs="+", metavar="ARM", help=f"which (default all): {', '.join(ARMS)}, or NAME=RECIPE overrides"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each, from 0 (default 1)")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds: must be at least 1")
    asked = [_arm(text) for text in given.arms or (["people-cpu"] if given.quick else ARMS)]
    arms = dict(asked)
    if len(arms) < len(asked):
        parser.error("--arms: two arms have one name; give each a name of its own")
    torch.set_num_threads(1)
    table = Table("recipe-quick" if given.quick else "recipe", {"seeds": given.seeds})
    with TemporaryDirectory(prefix="hb-") as temporary:
        for name, arm in arms.items():
            # Quotes keep a value with blanks together.
            try:
                recipe, *overrides = shlex.split(arm)
            except ValueError as error:
                raise UserError(f"--arms {name}: {error}") from None
            taught = [
                train(recipe, [*overrides, *(_QUICK if given.quick else [])], given.data or Path(temporary), seed)
                for seed in range(given.seeds)
            ]
            table.add(f"{name}: CPU time", [each["seconds"] for each in taught], "s", note=arm)
            for what, probe in PROBES.items():
                table.add(f"  {name}: {what}", [each[probe] for each in taught], "%", better="higher")
    table.show()
    table.write(given.results)


def _arm(text: str) -> tuple[str, str]:
    name, _, arm = text.partition("=")
    arm = arm.strip() or ARMS.get(text, "")
    if not arm:
        raise UserError(
            f"--arms {text!r}: allowed are {', '.join(ARMS)}, or one of your own as 'NAME=RECIPE key=value'"
        )
    return name, arm


def train(recipe: str, overrides: list[str], data: Path, seed: int) -> dict[str, float]:
    """Train once; return the CPU `seconds` of the process, probes included, and the probes at the end."""
    own = parse_overrides(overrides)
    if decided := [key for key in ("seed", "output_dir") if key in own]:
        raise UserError(f"{decided[0]} is the benchmark's own; leave it out (--seeds trains several)")
    values = merge(load_recipe(ROOT / "recipes" / f"{recipe}.yaml"), own)
    values = merge(values, parse_overrides([f"seed={seed}", f"output_dir={data}/run", "train.workers=1"]))
    config = run_config.check(PretrainRecipe, values, recipe)
    if config.data.held_out is None or config.objective.method != "hcmoco":
        raise UserError(f"recipe {recipe}: data.held_out and objective.method=hcmoco are needed, for the probes")
    moved = {
        name: each.model_copy(update={"path": str(data / Path(each.path).name)})
        for name, each in {**config.data.sources, "": config.data.held_out}.items()
    }
    held_out = moved.pop("")
    sources = tuple(ensure.open_data(f"sources.{name}", each) for name, each in moved.items())
    views = probe_views(config, ensure.open_data("held_out", held_out, split="held-out"))
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()  # that has made the people
    plan = make_plan(config, sources)
    begun = time.process_time()
    trained = pretrain(config, plan, LocalContext(make_loader(config, plan, sources), threads=1), views)
    seconds = time.process_time() - begun
    return {"seconds": seconds, **trained.history[STAGE_2]["metrics"]}


if __name__ == "__main__":
    run(main)
