"""Blocks as one HTML page that asks nothing of a network: style, drawings and pictures are inside."""

import base64
from collections.abc import Sequence
from html import escape

from hcmoco_ray.report.model import Block, Bullets, Cell, Drawing, Grid, Heading, Picture, Text

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --paper: #fff; --line: #d0d7de;
  --tint: #eef4fb; --here: #0b4a8f; --head: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --dim: #9aa4af; --paper: #14171a; --line: #3a424b;
    --tint: #1a2634; --here: #8ec1ff; --head: #1d2226; }
}
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 56rem; margin: .5rem 0; }
li { margin: .15rem 0; }
.lead { font-size: 1.05rem; }
.note { color: var(--dim); font-size: .86rem; }
nav { font-size: .88rem; margin: 1rem 0; }
nav a { margin-right: .9rem; white-space: nowrap; }
a { color: var(--here); }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .55rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { background: var(--head); text-align: center; vertical-align: bottom; font-weight: 600; border-top: 1px solid var(--line); }
thead small { color: var(--here); }
thead .narrow small { max-width: 10em; margin: 0 auto; white-space: normal; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper); }
.edge { border-left: 1px solid var(--line); }
th.text, td.text { text-align: left; }
small { display: block; font-size: .86em; font-weight: 400; color: var(--dim); }
td.paper { color: var(--dim); border-bottom-style: dotted; }
td.here { background: var(--tint); color: var(--here); }
td.no { background: var(--tint); color: var(--dim); text-align: center; font-style: italic; }
td.mark { background: var(--head); text-align: center; }
td.mark.text { text-align: left; color: var(--dim); }
b { font-weight: 700; color: var(--ink); }
td.here b { color: var(--here); }
figure { margin: 1.2rem 0; }
figure svg, figure img { max-width: 100%; height: auto; }
figcaption { color: var(--dim); font-size: .86rem; }
"""


def page(title: str, blocks: Sequence[Block]) -> str:
    """The whole page, with links to its headings of the first two levels and to the tables."""
    links = [
        each for each in blocks if isinstance(each, Heading) and (each.level == 2 or each.name.startswith("table-"))
    ]
    nav = "".join(f'<a href="#{escape(each.name)}">{escape(each.text.split(". ")[0])}</a>' for each in links)
    parts = [_block(each) for each in blocks]
    parts.insert(2, f"<nav>{nav}</nav>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text, name, level):
            return f'<h{level} id="{escape(name)}">{escape(text)}</h{level}>'
        case Text(text, kind):
            return f"<p{_class(kind)}>{escape(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{escape(each)}</li>" for each in items) + "\n</ul>"
        case Grid():
            return _grid(block)
        case Drawing(_, svg, caption):
            return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        case Picture(_, mime, data, caption):
            source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
            return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _class(*names: str) -> str:
    there = " ".join(each for each in names if each)
    return f' class="{there}"' if there else ""


def _grid(grid: Grid) -> str:
    head = []
    for number, row in enumerate(grid.head):
        cells, place = [], 0
        for each in row:
            cells.append(_cell(each, "th", "text" if number == 0 and place < grid.texts and each.columns == 1 else ""))
            place += each.columns
        head.append(f"<tr>{''.join(cells)}</tr>")
    body = []
    held: dict[int, int] = {}  # column -> rows that a cell from above still takes
    for row in grid.body:
        cells, place = [], 0
        for each in row:
            while held.get(place):
                held[place] -= 1
                place += 1
            cells.append(_cell(each, "th" if each.kind == "head" else "td", "text" if place < grid.texts else ""))
            if each.rows > 1:
                held[place] = each.rows - 1
            place += each.columns
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<div class="wide"><table>\n<thead>\n'
        + "\n".join(head)
        + "\n</thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody>\n</table></div>"
    )


def _cell(cell: Cell, tag: str, text: str) -> str:
    spans = (f' colspan="{cell.columns}"' if cell.columns > 1 else "") + (
        f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
    )
    inner = escape(cell.text)
    if cell.strong:
        inner = f"<b>{inner}</b>"
    if cell.small:
        inner += f"<small>{escape(cell.small)}</small>"
    kind = "" if cell.kind == "head" else cell.kind
    narrow = "narrow" if cell.columns == 1 and cell.small else ""
    return f"<{tag}{_class(kind, text, 'edge' if cell.edge else '', narrow)}{spans}>{inner}</{tag}>"
