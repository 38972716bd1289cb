"""Train a parsing head on one modality and test it on another, to show the use of the shared dense space.

    python tuning/versatility.py --recipe people-cpu                   # recipes/versatility/people-cpu.yaml
    python tuning/versatility.py --recipe people-cpu --plan            # what is missing, and how long it may take
    python tuning/versatility.py --recipe mine.yaml --seeds 3 train.gpu=true --cpus 4 --gpus 1

These are the experiments of the paper's Tables 6 and 7: RGB to depth, depth to RGB, and one modality missing, with
three methods each (no contrastive term, CMC, HCMoCo). All start from the encoders of one sample-level pre-training
(init=). Each co-training is one process, and the cluster runs several at a time.

A finished co-training is a small JSON file in RESULTS/versatility. The same command again runs what is missing, whether
it was stopped, killed or a co-training failed. The tables are RESULTS/versatility.md, and
RESULTS/versatility/<experiment>.png shows predictions of HCMoCo's heads.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.experiments.cli import option_parser


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_intermixed_args(argv)

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.cluster import resources
    from hcmoco_ray.experiments.versatility import run

    request = resources.ResourceRequest("co-training", given.cpus, given.gpus, given.threads)
    return run.run(given.recipe, given.overrides, request, seeds=given.seeds, plan_only=given.plan)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = option_parser(__doc__)
    arguments.add_argument(
        "--recipe", default="people-cpu", help="in recipes/versatility/, or a path to a YAML file (default people-cpu)"
    )
    return arguments
