"""The paper's ablation (Table 3): what each term of the objective adds, by fine-tunings with few labels.

    python tuning/ablation.py                                          # recipes/grids/ablation-people-cpu.yaml
    python tuning/ablation.py --plan                                   # what there is to do, and how long it may take

Its rows are the sample level alone (which is CMC), with the hard or the soft dense term on top, and with the sparse terms on top of the
soft one (which is HCMoCo). Everything else is as in fractions.py, which shares its cells and pre-trainings; the table is
RESULTS/ablation.md.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file from a checkout, installed or not; beside this file the standard library's `fractions` could not be found.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [str(_HERE.parent), *(each for each in sys.path if Path(each or ".").resolve() != _HERE)]

from pipelines import _interrupts

if __name__ == "__main__":
    _interrupts.listen()  # before all that takes long to import

from pipelines import _cluster
from tuning._parser import grid_parser

TITLES = {"cmc": "sample level", "hard": "+ hard dense", "soft": "+ soft dense", "hcmoco": "+ sparse"}


@_cluster.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = grid_parser(__doc__, "ablation-people-cpu").parse_intermixed_args(argv)
    from tuning import _asked, _fractions, _summary  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return _fractions.run(
        "ablation",
        given.grid,
        given.overrides,
        _asked.Asked("cell", given.cpus, given.gpus, given.threads),
        lambda grid, cells, results: _summary.ablation(cells, results, TITLES),
        plan_only=given.plan,
        seeds=given.seeds,
    )


if __name__ == "__main__":
    sys.exit(main())
