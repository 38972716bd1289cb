"""Write docs/benchmarks.md from the committed results of the benchmarks.

python benchmarks/_tables.py
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks._results import RESULTS, ROOT, number, title
from hcmoco import markdown

PAGE = ROOT / "docs" / "benchmarks.md"
_MOST = 12
_HEAD = """# Benchmarks

Written by `python benchmarks/_tables.py` from the JSON files in `benchmarks/results/`, which `make bench` writes, and
on a machine with a GPU `make bench-gpu`: do not edit it. Figures are medians with their ranges over turns of one run,
in which what is compared takes turns. The load is the machine's, of one minute, before and after: with more than there
are cores, times on the clock are too long.
[Measurements](measurements.md) says what the figures mean.
"""


def page(folder: Path = RESULTS) -> str:
    """Return the page of all results in a folder, by machine."""
    machines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        machines[title(result["machine"])].append({**result, "file": path.name})
    parts = [_HEAD]
    for machine in sorted(machines):
        parts.append(f"## {machine}\n")
        parts += [_section(result) for result in machines[machine]]
    return "\n".join(parts)


def _section(result: dict[str, Any]) -> str:
    rows = [row for row in result["rows"] if row["target"]] or [
        row for row in result["rows"] if not row["what"].startswith(" ")
    ]
    load = " to ".join(number(round(result["load_average"][when][0], 1)) for when in ("before", "after"))
    facts = f"`{result['benchmark']}`, {result['date'][:10]}, commit {result['commit']}, load {load}"
    left = f"; {len(rows) - _MOST} more rows in the file" if len(rows) > _MOST else ""
    table = markdown.table(("", "measured", "aim"), [_cells(row) for row in rows[:_MOST]], "lrr")
    return f"{facts} ([{result['file']}](../benchmarks/results/{result['file']}){left}):\n\n{table}\n"


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    least, most = row["range"]
    spread = f" ({number(least)} to {number(most)})" if most > least else ""
    aim = "" if not row["target"] else row["target"] + ("" if row["met"] else ", missed")
    return row["what"].strip(), f"{number(row['median'])} {row['unit']}".rstrip() + spread, aim


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"written to {PAGE}")
