"""What a page is made of, before it is HTML or Markdown. All text is plain: the writers escape it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TableCell:
    """A table's cell.

    Attributes:
        text: first line; `small`: a lesser second part.
        kind: "head", "paper", "here", "mark", "no" (why there is no number) or "" for plain text.
        strong: the best of its column.
        edge: the first of a group of columns.
        columns, rows: how many it spans.
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
    """`name` is the anchor that links lead to."""

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
    """A table: rows of heads, rows of cells; numbers stand right but in the first `texts` columns."""

    head: tuple[tuple[TableCell, ...], ...]
    body: tuple[tuple[TableCell, ...], ...]
    texts: int = 1


@dataclass(frozen=True)
class Drawing:
    """An `<svg>` element; `name` is the file's below the page's folder."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG below the page's folder, and what the page embeds: `data` of type `mime`, perhaps smaller."""

    name: str
    mime: str
    data: bytes
    caption: str


Block = Heading | Text | Bullets | Grid | Drawing | Picture
