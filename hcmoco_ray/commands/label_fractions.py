"""Run a grid of fine-tunings over task, encoder initialization, share of the labels and seed.

    python tuning/label_fractions.py --grid people-cpu                       # recipes/grids/people-cpu.yaml
    python tuning/label_fractions.py --grid people-cpu --plan                # what is missing, and how long it may take
    python tuning/label_fractions.py --grid mine.yaml train.gpu=true --cpus 4 --gpus 1

An initialization may be a pre-training, which runs first. A finished experiment is a small JSON file in
RESULTS/experiments. The same command again runs what is missing, whether it was stopped, killed or an experiment
failed. The table of means, spreads and paired differences is RESULTS/label_fractions.md.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.experiments.cli import grid_parser


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_intermixed_args(argv)

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.cluster import resources
    from hcmoco_ray.experiments.grid import run, tables

    return run.run(
        "label_fractions",
        given.grid,
        given.overrides,
        resources.ResourceRequest("grid experiment", given.cpus, given.gpus, given.threads),
        lambda grid, experiments, results: tables.comparison(experiments, results, grid.baseline),
        plan_only=given.plan,
        seeds=given.seeds,
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return grid_parser(__doc__, "people-cpu")
