"""Run a hyperparameter sweep: many short pre-trainings with drawn or chosen values, and find the best of them.

    python tuning/sweep.py --sweep people-cpu                # recipes/sweeps/people-cpu.yaml
    python tuning/sweep.py --sweep mine.yaml stages.stage2_steps=200 output_dir=runs/other
    ray job submit --working-dir . -- python tuning/sweep.py --sweep mine.yaml output_dir=/shared/sweep --gpus 1

Overrides are keys of every trial; output_dir is the sweep's.

The sweep's file says which dotted keys of the pre-training vary, how the next values are found (random, optuna, asha,
pbt) and what a trial's score is: a metric of the probe, or a fine-tuning with few labels from the trial's encoder.

The same command again resumes a stopped or killed sweep: finished trials stay, the others resume from their newest
state. The number of trials may be raised later. To run a trial again, delete its file in OUT/trials.

A trial has train.workers workers, each of which needs --cpus and --gpus of one node. As many trials run at a time as
the cluster has room for.

Results: OUT/trials (a JSON file for each), table.md, response.png, and best.yaml, a recipe for pretrain.py.

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

    # Imported late: --help and a wrong argument do not wait for PyTorch.
    from hcmoco_ray.experiments.sweep import run

    return run.run(given.sweep, given.overrides, cpus=given.cpus, gpus=given.gpus, threads=given.threads)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument(
        "--sweep",
        default="people-cpu",
        help="a sweep in recipes/sweeps/, or a path to a YAML file (default people-cpu)",
    )
    arguments.add_argument("--cpus", type=float, default=1.0, help="CPUs that each worker of a trial needs (default 1)")
    arguments.add_argument("--gpus", type=float, default=0.0, help="GPUs that each worker of a trial needs (default 0)")
    arguments.add_argument("--threads", type=int, default=1, help="threads of a worker's CPU arithmetic (default 1)")
    arguments.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted keys of all trials, for example stages.stage2_steps=100",
    )
    return arguments
