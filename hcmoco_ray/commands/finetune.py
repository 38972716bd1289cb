"""Fine-tune an encoder for a task, with any share of the labels, and score it on the test data.

    python pipelines/finetune.py parsing-rgb init=runs/people-cpu fraction=0.1 seed=1
    python pipelines/finetune.py parsing-depth init=scratch num_samples=17
    python pipelines/finetune.py pose --recipe people-cpu init=runs/people-cpu
    python pipelines/finetune.py densepose init=imagenet imagenet_weights=hrnetv2_w18.pth --recipe paper-w18

`init` is required: a folder of pretrain.py, a weights file, imagenet or scratch. The same command again resumes a
stopped run. Results are in the recipe's `output_dir`: results.json, table.md, model/, pictures/, states/, config.yaml,
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
    values = cli.task_values(given.task, given.recipe, given.overrides)

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.train import finetune

    return finetune.run(values, f"{given.task}/{given.recipe}")


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    return cli.task_parser(__doc__)
