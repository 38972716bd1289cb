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
from hcmoco_ray.experiments.cli import grid_parser, run_grid


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    return run_grid("label_fractions", parser().parse_intermixed_args(argv))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return grid_parser(__doc__, "people-cpu")
