"""Tables in Markdown."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Return a Markdown table, without a newline at its end.

    Args:
        head: titles of the columns.
        rows: texts of the cells, as Markdown; a row has a text for each column.
        align: a letter for each column: "l" left, "r" right.
    Raises:
        ValueError: `align` or a row has another length than `head`.
    """
    rules = [{"l": "---", "r": "--:"}[letter] for letter in align]
    for line in (rules, *rows):
        if len(line) != len(head):
            raise ValueError(f"{len(head)} columns, but {len(line)} in {list(line)}")
    return "\n".join([_line(head), f"|{'|'.join(rules)}|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
