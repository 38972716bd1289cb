"""The command line that the grids share, read without importing PyTorch."""

import argparse


def grid_parser(description: str | None, grid: str) -> argparse.ArgumentParser:
    """A parser of `--grid NAME [--plan] [--seeds N] [--cpus C] [--gpus G] [--threads T] [key=value ...]`.

    Args:
        grid: the grid that is taken where none is named.
    """
    parser = option_parser(description)
    parser.add_argument(
        "--grid", default=grid, help=f"a grid in recipes/grids/, or a path to a YAML file (default {grid})"
    )
    return parser


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """The same without what names the grid."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", action="store_true", help="print what there is to do, and stop")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train every cell with the seeds 0 to N - 1 instead of the grid's own"
    )
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs that a cell asks the cluster for (default 1)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs that a cell asks the cluster for (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a cell's CPU arithmetic (default 1)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of every cell's recipe, for example steps=100"
    )
    return parser
