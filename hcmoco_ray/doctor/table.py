"""Show a report: a row for each check and a column for each node, and a line for each fault."""

from collections.abc import Sequence
from typing import Any

from hcmoco_ray.doctor.judge import Report
from hcmoco_ray.doctor.verdicts import Verdict

WIDTH = 120
_GAP = "  "
_NOTHING = Verdict("-")


def render(report: Report, width: int = WIDTH) -> str:
    """Return the table, in blocks of as many nodes as fit side by side, and below it a line for each fault and advice.

    Args:
        report: of all nodes.
        width: of the table, in characters. The lines below it are as long as they are.
    """
    head = [
        [each.node.hostname + (" (head)" if each.node.is_head and each.node.hostname != "head" else "")]
        for each in report.examined
    ]
    columns = [
        [*title, each.node.address, *(_cell(shown.get(row, _NOTHING)) for row in report.rows)]
        for title, each, shown in zip(head, report.examined, report.verdicts, strict=True)
    ]
    labels = ["node", "address", *report.rows]
    blocks = [_block(labels, block) for block in _side_by_side(labels, columns, width)]
    faults, advice = report.lines("fault"), report.lines("advice")
    said = [f"fault: {where}: {line}" for where, line in faults] + [
        f"advice: {where}: {line}" for where, line in advice
    ]
    nodes = f"{len(columns)} node{'s' if len(columns) != 1 else ''}"
    count = f"{len(faults) or 'no'} fault{'s' if len(faults) != 1 else ''}"
    return "\n\n".join([*blocks, "\n".join([*said, f"{count} on {nodes}"])])


def _cell(verdict: Verdict) -> str:
    return f"FAULT {verdict.text}" if verdict.is_fault else verdict.text


def _side_by_side(labels: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> list[list[Sequence[str]]]:
    """Deal the columns to blocks that are at most `width` wide; a wider column has its own."""
    own = max(map(len, labels))
    blocks: list[list[Sequence[str]]] = []
    used = width + 1
    for column in columns:
        needed = len(_GAP) + max(map(len, column))
        if used + needed > width:
            blocks.append([])
            used = own
        blocks[-1].append(column)
        used += needed
    return blocks


def _block(labels: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    cells = [labels, *columns]
    widths = [max(map(len, column)) for column in cells]
    rows = zip(*cells, strict=True)
    return "\n".join(
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the whole report as values of JSON: what each node answered, and what it was taken for."""
    return {
        "nodes": [
            {
                **vars(each.node),
                "answers": each.answers,
                "rows": {
                    row: {"text": verdict.text, **({verdict.level: verdict.line} if verdict.line else {})}
                    for row, verdict in shown.items()
                },
            }
            for each, shown in zip(report.examined, report.verdicts, strict=True)
        ],
        **{
            level: [{"where": where, "line": line} for where, line in report.lines(level)]
            for level in ("fault", "advice")
        },
    }
