"""Run a program by its name: `python -m hcmoco_ray pretrain ...`."""

import sys

from hcmoco_ray.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
