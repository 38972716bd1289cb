"""Pre-trains RGB, depth and keypoint encoders by contrasting them with each other; both stages in one run.

    python pipelines/pretrain.py                                          # synthetic people on two CPU workers
    python pipelines/pretrain.py --recipe people-gpu train.workers=4
    ray job submit --working-dir . -- python pipelines/pretrain.py --recipe people-cpu out=/shared/run

The same command again goes on where a stopped one was. Results lie in the recipe's `out`: config.yaml, states/, export/, mlflow.db.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

from collections.abc import Sequence

from hcmoco_ray import cli
from hcmoco_ray.cluster import session


@session.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = cli.parser(__doc__).parse_intermixed_args(argv)
    values = cli.values(given.recipe, given.overrides)
    from hcmoco_ray.train import (
        pretrain,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return pretrain.run(values, given.recipe)
