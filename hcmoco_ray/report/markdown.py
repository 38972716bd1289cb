"""Render blocks as Markdown; drawings and pictures are files beside it."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from hcmoco.markdown import table
from hcmoco_ray.report.html import environment
from hcmoco_ray.report.model import Block, Grid, TableCell

_MARKS = re.compile(r"([\\`*_\[\]|~#])")


def document(blocks: Sequence[Block]) -> str:
    """Render the whole document."""
    templates = environment(escape=False)
    templates.filters |= {"plain": plain, "quote": quote, "table": _grid}
    return templates.get_template("page.md.j2").render(blocks=blocks)


def plain(text: str) -> str:
    """Return `text` as one line, with everything escaped that Markdown or HTML would interpret."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", text)


def _grid(grid: Grid) -> str:
    """Render a table.

    Markdown has one row of heads and no spans: heads are stacked, and a spanning cell is in its first place.
    """
    heads = _spread(grid.head, repeat=True)
    titles = [
        "<br>".join(dict.fromkeys(filter(None, (_text(row[place], bold=False) for row in heads))))
        for place in range(len(heads[0]))
    ]
    rows = [[_text(cell) for cell in row] for row in _spread(grid.body, repeat=False)]
    return table(titles, rows, "l" * grid.texts + "r" * (len(titles) - grid.texts))


def _text(cell: TableCell, *, bold: bool = True) -> str:
    text = plain(cell.text)
    if cell.strong and bold:
        text = f"**{text}**"
    return " ".join(filter(None, (text, plain(cell.small))))


def _spread(rows: Sequence[Sequence[TableCell]], *, repeat: bool) -> list[list[TableCell]]:
    """Return the rows with a cell in every place.

    Further columns of a spanning cell repeat its text or are empty; further rows repeat the cell.
    """
    full: list[list[TableCell]] = []
    held: dict[int, tuple[int, TableCell]] = {}
    for row in rows:
        line: list[TableCell] = []
        waiting = list(row)
        while waiting or held.get(len(line), (0, None))[0]:
            left, above = held.get(len(line), (0, TableCell("")))
            if left:
                held[len(line)] = (left - 1, above)
                line.append(above)
                continue
            cell = waiting.pop(0)
            for number in range(cell.columns):
                held[len(line)] = (cell.rows - 1, cell)
                line.append(cell if number == 0 else TableCell(cell.text if repeat else ""))
        full.append(line)
    return full
