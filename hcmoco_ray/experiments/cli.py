"""What the programs of the grids share: their command lines, without importing PyTorch, and how they run."""

import argparse
from collections.abc import Callable
from typing import Any

from hcmoco_ray.cli import Parser


def grid_parser(description: str | None, grid: str) -> argparse.ArgumentParser:
    """Build a parser of `--grid NAME [--plan] [--seeds N] [--cpus C] [--gpus G] [--threads T] [key=value ...]`.

    Args:
        description: for `--help`.
        grid: the default of `--grid`.
    """
    parser = option_parser(description)
    parser.add_argument(
        "--grid", default=grid, help=f"a grid in recipes/grids/, or a path to a YAML file (default {grid})"
    )
    return parser


def run_grid(program: str, given: argparse.Namespace, table: Callable[[Any, Any, Any], str] | None = None) -> int:
    """Run the grid that a command line names, and return the exit status.

    Args:
        program: name of the program and of its table.
        given: what `grid_parser` parsed.
        table: (grid, experiments, results) -> the table; None: the comparison with the grid's baseline.
    """
    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.cluster import resources
    from hcmoco_ray.experiments.grid import run, tables

    return run.run(
        program,
        given.grid,
        given.overrides,
        resources.ResourceRequest("grid experiment", given.cpus, given.gpus, given.threads),
        table or (lambda grid, experiments, results: tables.comparison(experiments, results, grid.baseline)),
        plan_only=given.plan,
        seeds=given.seeds,
    )


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """Build the same parser without `--grid`."""
    parser = Parser(description=description)
    parser.add_argument("--plan", action="store_true", help="print which experiments are missing, and stop")
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train every experiment with the seeds 0 to N - 1 instead of the grid's own",
    )
    parser.add_argument(
        "--cpus", type=float, default=1.0, help="CPUs that an experiment asks the cluster for (default 1)"
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="GPUs that an experiment asks the cluster for (default 0)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of an experiment's CPU arithmetic (default 1)")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted keys of every experiment's recipe, for example steps=100",
    )
    return parser
