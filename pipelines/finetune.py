"""Fine-tunes an encoder for a task, with any share of the labels, and scores it on the test data.

    python pipelines/finetune.py parsing-rgb init=runs/people-cpu fraction=0.1 seed=1
    python pipelines/finetune.py parsing-depth init=scratch samples=17
    python pipelines/finetune.py pose --recipe people-cpu init=runs/people-cpu
    python pipelines/finetune.py densepose init=imagenet imagenet_weights=hrnetv2_w18.pth --recipe paper-w18

`init` is always said: a folder of pretrain.py, a weights file, imagenet or scratch. The same command again goes on where a stopped one
was. Results lie in the recipe's `out`: results.json, table.md, model/, pictures/, states/, config.yaml, mlflow.db.
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
    parser = _arguments.task_parser(__doc__)
    given = parser.parse_intermixed_args(argv)
    values = _arguments.task_values(given.task, given.recipe, given.overrides)
    from pipelines import _finetune  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return _finetune.run(values, f"{given.task}/{given.recipe}")


if __name__ == "__main__":
    sys.exit(main())
