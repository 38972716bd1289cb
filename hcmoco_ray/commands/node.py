"""Run a node of a Ray cluster that announces its end, so that trainings save a state and move away.

    python -m hcmoco_ray node -- ray start --block --address=HEAD:6379
    python -m hcmoco_ray node --spot aws -- ray start --block --address=HEAD:6379
    python -m hcmoco_ray node --grace 120 -- ray start --block --head --num-cpus=0

SIGTERM (Kubernetes, Slurm, systemd), SIGINT and SIGUSR1 mean that this machine will go in GRACE seconds. With
--spot aws the notice of a spot instance is asked for every second. Give the same time to what sends the signal:
terminationGracePeriodSeconds, `--signal=...@SECONDS`, TimeoutStopSec.
"""

import argparse
import shutil
import sys
from pathlib import Path

from hcmoco_ray import cli
from hcmoco_ray.cluster.node_service import SpotNotice, serve


def main(arguments: list[str]) -> int:
    """Run the program and return its exit status."""
    given = parse(arguments)
    notice = SpotNotice().seconds_left if given.spot else lambda: None
    command = given.command
    program = shutil.which(command[0]) or shutil.which(command[0], path=str(Path(sys.executable).parent))
    if program is None:
        parser().error(f"{command[0]} is neither on PATH nor beside {sys.executable}; give its path")
    return serve([program, *command[1:]], given.grace, notice)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(prog=sys.argv[0], description=__doc__)
    arguments.add_argument(
        "--grace", type=float, default=30.0, help="seconds between a signal and the end of this machine (default 30)"
    )
    arguments.add_argument("--spot", choices=("aws",), help="whose notice of a spot instance's end is asked for")
    arguments.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command that starts Ray and stays")
    return arguments


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line, and end the program where it makes no sense."""
    known = parser()
    given = known.parse_args(arguments)
    if given.command[:1] == ["--"]:
        del given.command[0]
    if not given.command:
        known.error("name the command that starts Ray: -- ray start --block --address=HEAD:6379")
    if "ray" in given.command[0] and "--block" not in given.command:
        known.error("`ray start` needs --block here: without it the command ends at once, and nobody watches the node")
    if not given.grace > 0:
        known.error(f"--grace {given.grace:g}: must be more than 0")
    return given
