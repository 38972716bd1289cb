"""The paper's tables with the paper's numbers beside those of a results folder: one HTML page that needs nothing else, and Markdown.

    python pipelines/report.py                                          # docs/tables/people-cpu
    python pipelines/report.py runs/tables/people-gpu --out /tmp/page

RESULTS is what the programs in tuning/ leave: fractions.json, ablation.json and versatility.json with their cells, pretrainings/ and
pictures/. What is missing there is named on the page. OUT/index.html holds every picture; OUT/tables.md is the same beside OUT/curves and
OUT/pictures. Nothing is trained and no cluster is started; the same results give the same bytes.
A relative path lies in the current folder, or under HCMOCO_HOME where that is set; in a submitted job, under ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco_ray.cluster import session
from hcmoco_ray.paths import at_home
from hcmoco_ray.report import build


@session.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status. `argv` defaults to the command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results",
        nargs="?",
        default="docs/tables/people-cpu",
        metavar="RESULTS",
        help="folder or URI of results (default docs/tables/people-cpu)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder or URI of the page (default: RESULTS)")
    given = parser.parse_args(argv)
    return build.run(at_home(given.results), at_home(given.out or given.results))
