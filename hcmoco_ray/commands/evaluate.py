"""Score a fine-tuned model on a prepared data set, each row once, with any number of workers.

    python pipelines/evaluate.py runs/parsing-rgb --data data/people-test-128
    python pipelines/evaluate.py s3://bucket/run --data s3://bucket/h36m-test --workers 4 --gpu

The scores are the same for any number of workers, bit for bit on one machine's CPU. Another --piece-rows or --threads
changes them by rounding (docs/reproducibility.md). They are printed, and written to OUT/results.json with OUT/table.md
and OUT/sheet.png (default: evaluations/<name of the data's folder> beside the model; with --mask that name and what
masks, such as people-test-128-mask-rows).

A model that was trained on depth of people alone says nothing right of depth with its background: a line tells, and
--mask removes it before the rows are scored.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.commands.mask_options import add_mask_options, mask_settings
from hcmoco_ray.paths import resolve_model, resolve_path

_FORMS = (
    "rows: the masks that the rows have; a folder of masks named like the rows' pictures; a depth picture of the empty "
    "scene, of the size of the pictures; or the weight file of a Mask R-CNN, which looks at the rows' RGB"
)


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.train import evaluate

    return evaluate.run(
        resolve_model(given.weights),
        resolve_path(given.data),
        out=resolve_path(given.output_dir) if given.output_dir else None,
        workers=given.workers,
        gpu=given.gpu,
        cpus=given.cpus,
        threads=given.threads,
        piece_rows=given.piece_rows,
        mask=given.mask,
        segment=mask_settings(given),
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument("weights", help="folder of a finished fine-tuning, or of its model")
    arguments.add_argument("--data", required=True, help="folder or URI of a prepared data set with the task's labels")
    arguments.add_argument("--output-dir", "--out", dest="output_dir", help="folder or URI of the results")
    arguments.add_argument("--workers", type=int, default=1, help="processes that predict (default 1)")
    arguments.add_argument("--gpu", action="store_true", help="run each of them on its own GPU")
    arguments.add_argument(
        "--cpus", type=float, default=0.5, help="share of the cluster's CPUs that each worker asks for (default 0.5)"
    )
    arguments.add_argument("--threads", type=int, default=2, help="threads of a worker's CPU arithmetic (default 2)")
    arguments.add_argument("--piece-rows", type=int, default=32, help="rows that are predicted together (default 32)")
    add_mask_options(arguments, _FORMS)
    return arguments
