"""Label-fraction experiments: a grid of (task, encoder initialization, share of the labels, seed), each trained and scored once.

    python tuning/label_fractions.py --grid people-cpu                       # recipes/grids/people-cpu.yaml
    python tuning/label_fractions.py --grid people-cpu --plan                # what there is to do, and how long it may take
    python tuning/label_fractions.py --grid mine.yaml train.gpu=true --cpus 4 --gpus 1

An initialization may be a pre-training, which is done first. A finished experiment is a small JSON file in RESULTS/experiments. The same
command again does what is missing, whether it was stopped, killed or an experiment failed. The table of means, spreads and paired
differences is RESULTS/label_fractions.md.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

from collections.abc import Sequence

from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.experiments.cli import grid_parser


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = grid_parser(__doc__, "people-cpu").parse_intermixed_args(argv)
    from hcmoco_ray.cluster import (
        resources,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it
    from hcmoco_ray.experiments.grid import (
        run,
        tables,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return run.run(
        "label_fractions",
        given.grid,
        given.overrides,
        resources.ResourceRequest("grid experiment", given.cpus, given.gpus, given.threads),
        lambda grid, experiments, results: tables.comparison(experiments, results, grid.baseline),
        plan_only=given.plan,
        seeds=given.seeds,
    )
