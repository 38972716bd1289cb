"""Run a program by its name: `python -m hcmoco_ray pretrain ...`."""

import sys

from hcmoco_ray.cli import run_command

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv[0] = " ".join(["python -m hcmoco_ray", *given[:1]])  # what --help calls it
    sys.exit(run_command(given))
