"""Measure what pre-training recipes teach for their CPU time: the training itself, no Ray, people not counted.

    python benchmarks/recipe.py                                # people-cpu, and what was compared with it
    python benchmarks/recipe.py --arms people-cpu --seeds 3    # one of them, with three seeds
    python benchmarks/recipe.py --arms people-cpu "mine=people-cpu optim.lr=0.01 stages.stage2_steps=800"

An arm is a recipe with overrides, trained in one process of one thread. A recipe with more workers is trained by one,
whose batch norms and negatives see the rows of all.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks._measure import Table, arguments, run
from benchmarks._results import ROOT
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
    parser = arguments(__doc__, rounds=1, quick="people-cpu, few people, 2 steps")
    parser.add_argument("--data", type=Path, help="folder of the people; made where they are not there")
    parser.add_argument(
        "--arms", nargs="+", metavar="ARM", help=f"which (default all): {', '.join(ARMS)}, or NAME=RECIPE overrides"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each, from 0 (default 1)")
    given = parser.parse_args()
    arms = dict(_arm(text) for text in (["people-cpu"] if given.quick else given.arms or ARMS))
    torch.set_num_threads(1)
    table = Table("recipe-quick" if given.quick else "recipe", {"seeds": given.seeds})
    with TemporaryDirectory(prefix="hb-") as temporary:
        for name, arm in arms.items():
            recipe, *overrides = arm.split()
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
    values = load_recipe(ROOT / "recipes" / f"{recipe}.yaml")
    for override in [*overrides, f"seed={seed}", f"output_dir={data}/run", "train.workers=1"]:
        values = merge(values, parse_overrides([override]))
    for source in (*values["data"]["sources"].values(), values["data"]["held_out"]):
        source["path"] = str(data / Path(source["path"]).name)
    config = run_config.check(PretrainRecipe, values, recipe)
    sources = tuple(ensure.open_data(f"sources.{name}", each) for name, each in config.data.sources.items())
    assert config.data.held_out is not None
    views = probe_views(config, ensure.open_data("held_out", config.data.held_out, split="held-out"))
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()  # that has made the people
    plan = make_plan(config, sources)
    begun = time.process_time()
    trained = pretrain(config, plan, LocalContext(make_loader(config, plan, sources), threads=1), views)
    seconds = time.process_time() - begun
    return {"seconds": seconds, **trained.history[STAGE_2]["metrics"]}


if __name__ == "__main__":
    run(main)
