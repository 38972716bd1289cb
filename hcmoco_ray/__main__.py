"""Run a program by its name: `hcmoco pretrain ...`, or `python -m hcmoco_ray pretrain ...`."""

import os
import sys

from hcmoco_ray.cli import run_command


def main() -> int:
    """Run the program that the command line names and return its exit status."""
    given = sys.argv[1:]
    called = os.path.basename(sys.argv[0])
    called = "python -m hcmoco_ray" if called in ("__main__.py", "-m") else called
    sys.argv[0] = " ".join([called, *given[:1]])  # what --help calls it
    return run_command(given, called)


if __name__ == "__main__":
    sys.exit(main())
