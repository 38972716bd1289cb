"""The blocks of a page, before they are HTML or Markdown. All text is plain: the writers escape it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TableCell:
    """A table's cell.

    Attributes:
        text: first line.
        small: a second part in small print.
        kind: "head", "paper", "here", "mark", "no" (why a number is missing) or "" for plain text.
        strong: whether it is the best of its column.
        edge: whether it is the first of a group of columns.
        columns: number of columns that it spans.
        rows: number of rows that it spans.
    """

    text: str
    small: str = ""
    kind: str = ""
    strong: bool = False
    edge: bool = False
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Heading:
    """A heading; `name` is the anchor for links."""

    text: str
    name: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind` is "lead", "note" or ""."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table: rows of heads, rows of cells. The first `texts` columns are aligned left, the others right."""

    head: tuple[tuple[TableCell, ...], ...]
    body: tuple[tuple[TableCell, ...], ...]
    texts: int = 1


@dataclass(frozen=True)
class Drawing:
    """An `<svg>` element; `name` is its file below the page's folder."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG file `name` below the page's folder; the page embeds `data` of type `mime`, which may be smaller."""

    name: str
    mime: str
    data: bytes
    caption: str


Block = Heading | Text | Bullets | Grid | Drawing | Picture
