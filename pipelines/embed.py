"""Embed whole sets of people in the shared space; `--help` says how."""

import sys

try:
    from hcmoco_ray.cli import run_script
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed; run `pip install -e '.[run]'` in the checkout of this script")

if __name__ == "__main__":
    sys.exit(run_script("embed", __file__))
