"""Format the paper's tables: each method with the paper's line and, below it, the line of the results here."""

from collections.abc import Sequence
from dataclasses import replace

from hcmoco_ray.report.margins import margins
from hcmoco_ray.report.model import Block, Bullets, Drawing, Grid, Heading, TableCell, Text
from hcmoco_ray.report.numbers import METHOD, Column, Filled, Margin, has_line, other_share, status
from hcmoco_ray.report.paper_tables import SUBJECTS, Row

NAMES = {
    "scratch": "From Scratch",
    "imagenet": "IN Pre-train",
    "cmc": "CMC",
    "mmv": "MMV",
    "hard": "+ hard dense",
    "soft": "+ soft dense",
    "hcmoco": "HCMoCo",
    "none": "No Contrastive",
}


def table_blocks(filled: Filled, source: str) -> list[Block]:
    """Return heading, grid and note of one table; `source` names the lines that are not the paper's."""
    table = filled.table
    without = [row.method for row in filled.rows if row.values and not has_line(filled, row)]
    notes = [table.note] if table.note else []
    if without and table.program:
        notes.append(
            f"{', '.join(without)}: these start from ImageNet's weights, which were not at hand, so they have the "
            "paper's line alone. Where to get the file and which key takes it: docs/fine-tuning.md."
        )
    heading = Heading(f"Table {table.number}. {table.title}", f"table-{table.number}", 3)
    return [heading, _grid(filled, source), *(Text(each, "note") for each in notes)]


def _grid(filled: Filled, source: str) -> Grid:
    head = [[TableCell("Method", kind="head", rows=2), TableCell("%", kind="head", rows=2)], []]
    for number, group in enumerate(filled.groups):
        fact = f"{source}: {filled.facts[number]}" if filled.table.program else ""
        head[0].append(TableCell(group.title, fact, kind="head", edge=True, columns=len(group.figures)))
        head[1] += [TableCell(title, kind="head", edge=place == 0) for place, (title, _) in enumerate(group.figures)]
    body = []
    for row in filled.rows:
        lines = [_paper_line(filled, row)] if row.values else []
        if filled.table.program and has_line(filled, row):
            lines.append(_here_line(filled, row, source))
        note = row.note or ("HCMoCo" if row.init == METHOD and row.method.startswith("Ours") else "")
        name = TableCell(row.method or NAMES.get(row.init, row.init), note, kind="head", rows=len(lines))
        body += [(name, *line) if place == 0 else tuple(line) for place, line in enumerate(lines)]
    if filled.table.program:
        body += [
            (
                TableCell("HCMoCo first?", kind="head", rows=2),
                TableCell("paper", kind="mark"),
                *(_mark(each, each.paper) for each in filled.columns),
            ),
            (TableCell(source, kind="mark"), *(_mark(each, each.here) for each in filled.columns)),
        ]
    return Grid(tuple(tuple(each) for each in head), tuple(body), texts=2)


def _edge(column: Column) -> bool:
    return column.figure == column.group.figures[0][1]


def _mark(column: Column, margin: Margin | None) -> TableCell:
    return TableCell(margin.mark if margin else "–", kind="mark", edge=_edge(column))


def _paper_line(filled: Filled, row: Row) -> list[TableCell]:
    cells = [TableCell("paper", kind="paper")]
    rivals = [each for each in filled.table.rows if each.compared == row.compared and each.values]
    for column in filled.columns:
        if column.paper_place is None:
            cells.append(TableCell("–", kind="paper", edge=_edge(column)))
            continue
        value = row.values[column.paper_place]
        best = row.compared and value == max(each.values[column.paper_place] for each in rivals)
        cells.append(TableCell(f"{value:.2f}", kind="paper", strong=best, edge=_edge(column)))
    return cells


def _here_line(filled: Filled, row: Row, source: str) -> list[TableCell]:
    """Return the cells of a line here. Neighboring groups without numbers for the same reason share a cell."""
    cells = [TableCell(source, kind="here")]
    for number, group in enumerate(filled.groups):
        columns = [each for each in filled.columns if each.group is group]
        if any(row.init in each.scores for each in columns):
            cells += [_score(each, row.init) for each in columns]
            continue
        reason = status(filled, row, number)
        if cells[-1].kind == "no" and cells[-1].text == reason:
            cells[-1] = replace(cells[-1], columns=cells[-1].columns + len(columns))
        else:
            cells.append(TableCell(reason, kind="no", edge=True, columns=len(columns)))
    return cells


def _score(column: Column, init: str) -> TableCell:
    if init not in column.scores:
        return TableCell("–", kind="here", edge=_edge(column))
    score = column.scores[init]
    max_seeds = max(len(other.seeds) for other in column.scores.values())
    small = [] if score.spread is None else [f"± {score.spread:.2f}"]
    small += [f"({len(score.seeds)} of {max_seeds} seeds)"] if len(score.seeds) < max_seeds else []
    best = len(column.scores) > 1 and score.mean == max(each.mean for each in column.scores.values())
    return TableCell(f"{score.mean:.2f}", " ".join(small), kind="here", strong=best, edge=_edge(column))


def summary_blocks(tables: Sequence[Filled], source: str) -> list[Block]:
    """Summarize where HCMoCo is first and where not; `source` heads the numbers that are not the paper's."""
    found = [(filled, column, column.here) for filled in tables for column in filled.columns if column.here]
    if not found:
        return [Text("No comparison with HCMoCo has a result here yet.")]
    first = [each for each in found if each[2].first]
    clear = sum(each[2].clear for each in first)
    mains = [margin for _, column, margin in found if column.main]
    papers = [column.paper for _, column, _ in found if column.paper]
    counted = (
        f"HCMoCo is first in {len(first)} of the {len(found)} columns that have a comparison here, in {clear} of them "
        f"by more than the 95 % interval of the paired difference; of the {len(mains)} main metrics in "
        f"{sum(margin.first for margin in mains)}."
    )
    if papers:
        counted += (
            f" Of these columns the paper has {len(papers)}, and is first in {sum(each.first for each in papers)}."
        )
    if len(first) == len(found):
        counted += " It is first in every column."
    people = "synthetic people" if source == "synthetic" else "this project's own runs"
    title = f"HCMoCo less the strongest other initialization, {people}"
    rows = [
        (f"{SUBJECTS[filled.table.number]}, {_group(filled, column)}, {column.head}", margin)
        for filled, column, margin in found
        if column.main
    ]
    return [
        Text(counted),
        Drawing(
            "curves/margins.svg",
            margins(rows, title),
            f"{title}; main metrics; bars are 95 % intervals, hollow: a single seed",
        ),
        Heading("Margins of the main metrics", "margins", 3),
        _margins(tables, source),
        Text(_MARKS, "note"),
    ]


def loss_blocks(tables: Sequence[Filled]) -> list[Block]:
    """List the columns in which HCMoCo is not first, here and in the paper."""
    found = [(filled, column, column.here) for filled in tables for column in filled.columns if column.here]
    losses = [_loss(*each) for each in found if not each[2].first]
    blocks: list[Block] = [Text("Not first here:"), Bullets(tuple(losses))] if losses else []
    compared = [(filled, column) for filled in tables if filled.table.program for column in filled.columns]
    paper_losses = [
        _paper_loss(filled, column) for filled, column in compared if column.paper and not column.paper.first
    ]
    if paper_losses:
        blocks += [Text("Not first in the paper, among the rows compared:"), Bullets(tuple(paper_losses))]
    return [Heading("Where HCMoCo is not first", "losses", 3), *blocks] if blocks else []


_MARKS = (
    "Difference: HCMoCo less the strongest of the others, mean over the seeds that both have ± its 95 % interval "
    "(Student's t, paired by seed). The seeds are those of the fine-tunings; each objective was pre-trained once, and "
    "how much another pre-training would differ is not in the interval. "
    "✓ HCMoCo is first, ✗ it is not; in brackets where the interval has 0 in it or only one seed was run. The paper "
    "gives no spread, so its marks have no brackets; in its Tables 1 and 2 the rows with random weights before "
    "pre-training are compared (From Scratch and *), as here."
)


def _where(filled: Filled, column: Column) -> str:
    return f"Table {filled.table.number}, {_group(filled, column)}, {column.head}"


def _group(filled: Filled, column: Column) -> str:
    """Return the group's title, with the share of the labels here if it differs."""
    share = other_share(column.group, filled.labels[filled.groups.index(column.group)])
    return f"{column.group.title} (here {share})" if share else column.group.title


def _difference(margin: Margin) -> str:
    return _signed(margin.difference) + ("" if margin.interval is None else f" ± {margin.interval:.2f}")


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")


def _loss(filled: Filled, column: Column, margin: Margin) -> str:
    doubt = "" if margin.clear or margin.seeds == 1 else ", the interval has 0 in it"
    seeds = f"{margin.seeds} seed{'s' if margin.seeds > 1 else ''}"
    other = NAMES.get(margin.other, margin.other)
    return (
        f"{_where(filled, column)}: HCMoCo {margin.score:.2f}, {other} {margin.other_score:.2f} "
        f"(difference {_difference(margin)}, {seeds}{doubt})"
    )


def _paper_loss(filled: Filled, column: Column) -> str:
    margin = column.paper
    assert margin is not None
    return f"{_where(filled, column)}: {margin.score:.2f}, {margin.other} {margin.other_score:.2f}"


def _margins(tables: Sequence[Filled], source: str) -> Grid:
    head = (
        "Table",
        "Columns",
        "Metric",
        "HCMoCo",
        "Strongest other",
        "Difference",
        "Seeds",
        "First?",
        "Difference",
        "First?",
    )
    spans = (
        TableCell("", kind="head", columns=3),
        TableCell(source.capitalize(), kind="head", edge=True, columns=5),
        TableCell("Paper", kind="head", edge=True, columns=2),
    )
    body = []
    for filled in tables:
        for column in filled.columns:
            here, paper = column.here, column.paper
            if not column.main or here is None:
                continue
            cells = [TableCell(str(filled.table.number)), TableCell(_group(filled, column)), TableCell(column.head)]
            own = column.scores[METHOD]
            cells += [
                TableCell(f"{own.mean:.2f}", "" if own.spread is None else f"± {own.spread:.2f}", kind="here"),
                TableCell(f"{here.other_score:.2f}", NAMES.get(here.other, here.other), kind="here"),
                TableCell(_difference(here), kind="here", strong=here.first),
                TableCell(str(here.seeds), kind="here"),
                TableCell(here.mark, kind="mark"),
            ]
            cells += [
                TableCell(_signed(paper.difference) if paper else "–", kind="paper"),
                TableCell(paper.mark if paper else "–", kind="mark"),
            ]
            body.append(tuple(cells))
    return Grid((spans, tuple(TableCell(each, kind="head") for each in head)), tuple(body), texts=3)
