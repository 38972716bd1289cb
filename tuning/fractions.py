"""Data-fraction experiments: a grid of (task, start of the encoder, share of the labels, seed), each cell trained and scored once.

    python tuning/fractions.py --grid people-cpu                       # recipes/grids/people-cpu.yaml
    python tuning/fractions.py --grid people-cpu --plan                # what there is to do, and how long it may take
    python tuning/fractions.py --grid mine.yaml train.gpu=true --cpus 4 --gpus 1

A start may be a pre-training, which is done first. A finished cell is a small JSON file in RESULTS/cells; the same command again does what
is missing, whether it was stopped, killed or a cell failed. The table of means, spreads and paired differences is RESULTS/fractions.md.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file from a checkout, installed or not; and beside this file the standard library's `fractions` could not be found.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(each for each in sys.path if Path(each or ".").resolve() != _HERE)]

from pipelines import _interrupts

if __name__ == "__main__":
    _interrupts.listen()  # before all that takes long to import

from pipelines import _cluster
from tuning._parser import grid_parser


@_cluster.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = grid_parser(__doc__, "people-cpu").parse_intermixed_args(argv)
    from tuning import _asked, _fractions, _summary  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return _fractions.run(
        "fractions",
        given.grid,
        given.overrides,
        _asked.Asked("cell", given.cpus, given.gpus, given.threads),
        lambda grid, cells, results: _summary.comparison(cells, results, grid.baseline),
        plan_only=given.plan,
        seeds=given.seeds,
    )


if __name__ == "__main__":
    sys.exit(main())
