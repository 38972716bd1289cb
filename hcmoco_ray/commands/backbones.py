"""Run the paper's comparison on other backbones (Table 8): a larger encoder for DensePose, and depth as points.

    python tuning/backbones.py                                         # recipes/grids/backbones-people-cpu.yaml
    python tuning/backbones.py --plan                                  # what is missing, and how long it may take

Everything else is as in label_fractions.py: the pre-trainings run first, a finished experiment is a small JSON file in
RESULTS/experiments, and the same command again runs what is missing. The table is RESULTS/backbones.md.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.experiments.cli import grid_parser, run_grid


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    return run_grid("backbones", parser().parse_intermixed_args(argv))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return grid_parser(__doc__, "backbones-people-cpu")
