"""Pre-train RGB, depth and keypoint encoders by contrasting them with each other; both stages in one run.

    python pipelines/pretrain.py                                          # synthetic people on two CPU cores
    python pipelines/pretrain.py --recipe people-gpu train.workers=4
    ray job submit --working-dir . -- python pipelines/pretrain.py --recipe people-cpu output_dir=/shared/run

The same command again resumes a stopped run. Results are in the recipe's `output_dir`: config.yaml, states/, export/,
mlflow.db.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_intermixed_args(argv)
    values = cli.values(given.recipe, given.overrides)

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.train import pretrain

    return pretrain.run(values, given.recipe)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return cli.parser(__doc__)
