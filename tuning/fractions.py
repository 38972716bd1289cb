"""Data-fraction experiments: a grid of (task, start of the encoder, share of the labels, seed), each cell trained and scored once.

    python tuning/fractions.py --grid people-cpu                       # recipes/grids/people-cpu.yaml
    python tuning/fractions.py --grid people-cpu --plan                # what there is to do, and how long it may take
    python tuning/fractions.py --grid mine.yaml train.gpu=true --cpus 4 --gpus 1

A finished cell is a small JSON file in OUT/cells; the same command again does what is missing, whether it was stopped, killed or a cell
failed. The table of means, spreads and paired differences is OUT/table.md.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file from a checkout, installed or not; and beside this file the standard library's `fractions` could not be found.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(each for each in sys.path if Path(each or ".").resolve() != _HERE)]

from pipelines import _cluster


@_cluster.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", default="people-cpu", help="a grid in recipes/grids/, or a path to a YAML file (default people-cpu)")
    parser.add_argument("--plan", action="store_true", help="print what there is to do, and stop")
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs that a cell asks the cluster for (default 1)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs that a cell asks the cluster for (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a cell's CPU arithmetic (default 1)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of every cell's recipe, for example steps=100")
    given = parser.parse_intermixed_args(argv)
    from tuning import _fractions  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return _fractions.run(given.grid, given.overrides, plan_only=given.plan, cpus=given.cpus, gpus=given.gpus, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
