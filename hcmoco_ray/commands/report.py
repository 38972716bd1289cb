"""Write a page of the paper's tables, with the paper's numbers beside those of a results folder.

    python pipelines/report.py                                          # results/people-cpu
    python pipelines/report.py runs/tables/people-gpu --out /tmp/page

RESULTS is a folder that the programs in tuning/ wrote: label_fractions.json, ablation.json and versatility.json with
their experiments, pretrainings/ and pictures/. The page lists what is missing. OUT/index.html is one file that holds
every picture; OUT/tables.md is the same as Markdown, with its pictures in OUT/curves and OUT/pictures. Nothing is
trained and no cluster is started. The same results give the same bytes.

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.report import build


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    return build.run(resolve_path(given.results), resolve_path(given.output_dir or given.results))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument(
        "results",
        nargs="?",
        default="results/people-cpu",
        metavar="RESULTS",
        help="folder or URI of results (default results/people-cpu)",
    )
    arguments.add_argument(
        "--output-dir",
        "--out",
        dest="output_dir",
        metavar="FOLDER",
        help="folder or URI of the page (default: RESULTS)",
    )
    return arguments
