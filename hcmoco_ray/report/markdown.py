"""Blocks as Markdown; drawings and pictures are files beside it."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from hcmoco_ray.report.model import Block, Bullets, Cell, Drawing, Grid, Heading, Picture, Text

_MARKS = re.compile(r"([\\`*_\[\]|~#])")


def document(blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join(_block(each) for each in blocks) + "\n"


def plain(text: str) -> str:
    """`text` in one line with nothing in it that Markdown or HTML would read."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", text)


def _block(block: Block) -> str:
    match block:
        case Heading(text, _, level):
            return f"{'#' * level} {plain(text)}"
        case Text(text, kind):
            return f"*{plain(text)}*" if kind == "note" else plain(text)
        case Bullets(items):
            return "\n".join(f"- {plain(each)}" for each in items)
        case Grid():
            return _grid(block)
        case Drawing(name, _, caption) | Picture(name, _, _, caption):
            return f"![{plain(caption)}]({quote(name)})\n\n*{plain(caption)}*"


def _grid(grid: Grid) -> str:
    """Markdown has one row of heads and no spans: heads are stacked, a spanning cell stands in its first place."""
    heads = _spread(grid.head, repeat=True)
    titles = [
        "<br>".join(dict.fromkeys(filter(None, (_text(row[place], bold=False) for row in heads))))
        for place in range(len(heads[0]))
    ]
    lines = [titles, ["---" if place < grid.texts else "--:" for place in range(len(titles))]]
    lines += [[_text(each) for each in row] for row in _spread(grid.body, repeat=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(cell: Cell, *, bold: bool = True) -> str:
    text = plain(cell.text)
    if cell.strong and bold:
        text = f"**{text}**"
    return " ".join(filter(None, (text, plain(cell.small))))


def _spread(rows: Sequence[Sequence[Cell]], *, repeat: bool) -> list[list[Cell]]:
    """The rows with a cell in every place; a span's further columns repeat its text or are empty, its further rows repeat it."""
    full: list[list[Cell]] = []
    held: dict[int, tuple[int, Cell]] = {}
    for row in rows:
        line: list[Cell] = []
        waiting = list(row)
        while waiting or held.get(len(line), (0, None))[0]:
            left, above = held.get(len(line), (0, Cell("")))
            if left:
                held[len(line)] = (left - 1, above)
                line.append(above)
                continue
            cell = waiting.pop(0)
            for number in range(cell.columns):
                held[len(line)] = (cell.rows - 1, cell)
                line.append(cell if number == 0 else Cell(cell.text if repeat else ""))
        full.append(line)
    return full
