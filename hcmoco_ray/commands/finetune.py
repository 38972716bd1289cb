"""Fine-tunes an encoder for a task, with any share of the labels, and scores it on the test data.

    python pipelines/finetune.py parsing-rgb init=runs/people-cpu fraction=0.1 seed=1
    python pipelines/finetune.py parsing-depth init=scratch samples=17
    python pipelines/finetune.py pose --recipe people-cpu init=runs/people-cpu
    python pipelines/finetune.py densepose init=imagenet imagenet_weights=hrnetv2_w18.pth --recipe paper-w18

`init` is always said: a folder of pretrain.py, a weights file, imagenet or scratch. The same command again goes on where a stopped one
was. Results lie in the recipe's `out`: results.json, table.md, model/, pictures/, states/, config.yaml, mlflow.db.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

from collections.abc import Sequence

from hcmoco_ray import cli
from hcmoco_ray.cluster import session


@session.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    parser = cli.task_parser(__doc__)
    given = parser.parse_intermixed_args(argv)
    values = cli.task_values(given.task, given.recipe, given.overrides)
    from hcmoco_ray.train import (
        finetune,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    return finetune.run(values, f"{given.task}/{given.recipe}")
