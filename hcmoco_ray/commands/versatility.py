"""What the shared dense space is good for: a parsing head trained on one modality and read on another (the paper's Tables 6 and 7).

    python tuning/versatility.py --recipe people-cpu                   # recipes/versatility/people-cpu.yaml
    python tuning/versatility.py --recipe people-cpu --plan            # what there is to do, and how long it may take
    python tuning/versatility.py --recipe mine.yaml --seeds 3 train.gpu=true --cpus 4 --gpus 1

Three experiments (RGB to depth, depth to RGB, one modality missing) with three methods each (no contrastive term, CMC, HCMoCo), all from
the encoders of one sample-level pre-training (init=), as co-trainings of one process that the cluster runs side by side.
A finished co-training is a small JSON file in RESULTS/versatility; the same command again does what is missing, whether it was stopped,
killed or one failed. The tables are RESULTS/versatility.md, and RESULTS/versatility/<experiment>.png shows what HCMoCo's heads see.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

from collections.abc import Sequence

from hcmoco_ray.cluster import session
from hcmoco_ray.experiments.cli import option_parser


@session.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "--recipe", default="people-cpu", help="in recipes/versatility/, or a path to a YAML file (default people-cpu)"
    )
    given = parser.parse_intermixed_args(argv)
    from hcmoco_ray.cluster import (
        resources,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it
    from hcmoco_ray.experiments.versatility import (
        run,
    )  # PyTorch and all that stands on it: --help and a wrong argument do not wait for it

    asked = resources.Asked("co-training", given.cpus, given.gpus, given.threads)
    return run.run(given.recipe, given.overrides, asked, seeds=given.seeds, plan_only=given.plan)
