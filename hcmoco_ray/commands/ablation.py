"""Run the paper's ablation (Table 3): what each term of the objective adds, by fine-tunings with few labels.

    python tuning/ablation.py                                          # recipes/grids/ablation-people-cpu.yaml
    python tuning/ablation.py --plan                                   # what is missing, and how long it may take

Its rows are the sample level alone (which is CMC), with the hard or the soft dense term on top, and with the sparse
terms on top of the soft one (which is HCMoCo). Everything else is as in label_fractions.py, which shares its
experiments and pre-trainings. The table is RESULTS/ablation.md.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.experiments.cli import grid_parser, run_grid

TITLES = {"cmc": "sample level", "hard": "+ hard dense", "soft": "+ soft dense", "hcmoco": "+ sparse"}


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_intermixed_args(argv)

    def table(grid: Any, experiments: Any, results: Any) -> str:
        from hcmoco_ray.experiments.grid import tables

        return tables.ablation(experiments, results, TITLES)

    return run_grid("ablation", given, table)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return grid_parser(__doc__, "ablation-people-cpu")
