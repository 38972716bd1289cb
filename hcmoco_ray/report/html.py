"""Render blocks as one HTML page that needs no network: it holds its style, drawings and pictures."""

import base64
import re
from collections.abc import Callable, Sequence

import jinja2

from hcmoco_ray.report.model import Block, Grid, Heading, TableCell

TaggedCell = tuple[str, list[str], TableCell]


def environment(*, escape: bool) -> jinja2.Environment:
    """Make the Jinja environment of the templates in this package.

    Args:
        escape: whether values are escaped for HTML.
    """
    result = jinja2.Environment(
        loader=jinja2.PackageLoader("hcmoco_ray.report"),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    result.filters["kind"] = lambda block: type(block).__name__
    return result


def page(title: str, blocks: Sequence[Block]) -> str:
    """Render the whole page, with links to its second-level headings and to the tables.

    Args:
        title: of the window.
        blocks: in order; the links follow the second one.
    """
    templates = environment(escape=True)
    filters: dict[str, Callable] = {
        "base64": lambda data: base64.b64encode(data).decode(),
        "inline": lambda svg: re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg),  # names that only a file of its own needs
        "head_rows": _head_rows,
        "body_rows": _body_rows,
    }
    templates.filters |= filters
    headings = [block for block in blocks if isinstance(block, Heading)]
    links = [heading for heading in headings if heading.level == 2 or heading.name.startswith("table-")]
    return templates.get_template("page.html.j2").render(title=title, blocks=blocks, links=links)


def _head_rows(grid: Grid) -> list[list[TaggedCell]]:
    rows = []
    for number, row in enumerate(grid.head):
        line, place = [], 0
        for cell in row:
            line.append(_tagged(cell, "th", number == 0 and place < grid.texts and cell.columns == 1))
            place += cell.columns
        rows.append(line)
    return rows


def _body_rows(grid: Grid) -> list[list[TaggedCell]]:
    rows = []
    held: dict[int, int] = {}  # column -> rows that a cell from above still takes
    for row in grid.body:
        line, place = [], 0
        for cell in row:
            while held.get(place):
                held[place] -= 1
                place += 1
            line.append(_tagged(cell, "th" if cell.kind == "head" else "td", place < grid.texts))
            if cell.rows > 1:
                held[place] = cell.rows - 1
            place += cell.columns
        rows.append(line)
    return rows


def _tagged(cell: TableCell, tag: str, text: bool) -> TaggedCell:
    classes = {
        cell.kind: cell.kind not in ("", "head"),
        "text": text,
        "edge": cell.edge,
        "narrow": cell.columns == 1 and bool(cell.small),
    }
    return tag, [name for name, applies in classes.items() if applies], cell
