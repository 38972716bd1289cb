"""Pre-trains RGB, depth and keypoint encoders by contrasting them with each other; both stages in one run.

    python pipelines/pretrain.py                                          # synthetic people on two CPU workers
    python pipelines/pretrain.py --recipe people-gpu train.workers=4
    ray job submit --working-dir . -- python pipelines/pretrain.py --recipe people-cpu out=/shared/run

The same command again goes on where a stopped one was. Results lie in the recipe's `out`: config.yaml, states/, export/, mlflow.db.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file from a checkout, installed or not

from pipelines import _interrupts

if __name__ == "__main__":
    _interrupts.listen()  # before all that takes long to import

from pipelines import _arguments, _cluster


@_cluster.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    given = _arguments.parser(__doc__).parse_intermixed_args(argv)
    values = _arguments.values(given.recipe, given.overrides)
    from pipelines import _pretrain  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return _pretrain.run(values, given.recipe)


if __name__ == "__main__":
    sys.exit(main())
