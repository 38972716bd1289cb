"""Fill a table of the paper with the scores of a results folder, and find who is first in each column. All in %."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scipy.special import stdtrit

from hcmoco_ray.experiments.results import NO_WEIGHTS
from hcmoco_ray.report.paper_tables import Group, Row, Table
from hcmoco_ray.report.reader import Entry

METHOD = "hcmoco"


@dataclass(frozen=True)
class Score:
    """The scores of an initialization in one column: seed -> score in %."""

    seeds: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.mean(self.seeds.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.seeds.values()) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Margin:
    """HCMoCo compared with the strongest other initialization in one column.

    Attributes:
        score: HCMoCo's mean.
        other: name of the strongest other.
        other_score: its mean.
        difference: mean over the common seeds of HCMoCo's score less the other's.
        interval: the difference's 95 % interval reaches this far to each side (Student's t, paired by seed); None for
            one seed.
        seeds: number of common seeds; 0 for the paper, which does not say.
    """

    score: float
    other: str
    other_score: float
    difference: float
    interval: float | None
    seeds: int

    @property
    def first(self) -> bool:
        return self.difference > 0

    @property
    def clear(self) -> bool:
        """Whether the 95 % interval leaves out 0; never for one seed."""
        return self.interval is not None and abs(self.difference) > self.interval

    @property
    def mark(self) -> str:
        """✓ first, ✗ not first; in brackets if the interval has 0 in it or for a single seed, never for the paper's."""
        sign = "✓" if self.first else "✗"
        return sign if self.clear or not self.seeds else f"({sign})"


@dataclass(frozen=True)
class Column:
    """One metric of a group, with the scores here by initialization.

    Attributes:
        paper_place: index in the values of the paper's rows; None if the paper does not have the column.
    """

    group: Group
    head: str
    figure: str
    main: bool
    paper_place: int | None
    scores: dict[str, Score]
    here: Margin | None = None
    paper: Margin | None = None


@dataclass(frozen=True)
class Filled:
    """A table of the paper with the scores of a results folder.

    Attributes:
        rows: the paper's, then the initializations that only the folder has.
        labels: for each group, the share of the labels here that is shown in it; "" if none was run.
        facts: for each group, a line about what was run here: the share if it differs, labeled rows, seeds.
        open: (init, group number) -> status of the experiments without a result.
    """

    table: Table
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    facts: tuple[str, ...]
    open: dict[tuple[str, int], str] = field(default_factory=dict)


def fill(table: Table, entries: Sequence[Entry]) -> Filled:
    """Fill a table with the entries of its program. Shares of the labels that the paper does not have get own groups.

    Args:
        table: of the paper.
        entries: all of a results folder.
    """
    mine = [each for each in entries if each.program == table.program]
    groups = [*table.groups, *_more_groups(table, mine)]
    columns: list[Column] = []
    labels, facts = [], []
    open_cells: dict[tuple[str, int], str] = {}
    place = 0
    for number, group in enumerate(groups):
        chosen, label = _of_group(group, mine)
        labels.append(label)
        facts.append(_facts(chosen, other_share(group, label)))
        for each in chosen:
            if each.run is None:
                open_cells.setdefault((each.init, number), each.status)
        for which, (head, figure) in enumerate(group.figures):
            scores = _scores(chosen, figure)
            in_paper = number < len(table.groups)
            columns.append(
                Column(
                    group,
                    head,
                    figure,
                    which == group.main,
                    place if in_paper else None,
                    scores,
                    _margin_here(scores),
                    _margin_paper(table, place) if in_paper else None,
                )
            )
            place += in_paper
    known = {row.init + ending for row in table.rows for ending in ("", *(group.ending for group in groups))}
    strange = dict.fromkeys(each.init for each in mine if each.init not in known)
    rows = (*table.rows, *(Row(init, "", init, False, ()) for init in strange))
    return Filled(table, tuple(groups), rows, tuple(columns), tuple(labels), tuple(facts), open_cells)


def other_share(group: Group, label: str) -> str:
    """Return `label`, the share of the labels here, if the group's title says another; else ""."""
    return "" if label in group.title or group.title.startswith("Full") else label


def status(filled: Filled, row: Row, group: int) -> str:
    """Return why a row has no number here in a group."""
    text = filled.open.get((row.init, group), "")
    if not text or text == "missing":
        return "not run"
    return "failed" if text.startswith("failed") else text


def has_line(filled: Filled, row: Row) -> bool:
    """Whether a row has a line of results here: not if it starts from weights that were not at hand."""
    if not row.init:
        return False
    reasons = {status(filled, row, group) for group in range(len(filled.groups)) if (row.init, group) in filled.open}
    return reasons != {NO_WEIGHTS} or any(row.init in column.scores for column in filled.columns)


def _more_groups(table: Table, entries: Sequence[Entry]) -> list[Group]:
    """Return groups of label shares, and of a co-training's metrics, that were run here and are not in the paper."""
    if table.program == "versatility":
        sides = {
            "rgb-to-depth": ("RGB, where it was supervised", "rgb"),
            "depth-to-rgb": ("Depth, where it was supervised", "depth"),
        }
        sides["missing-modality"] = ("Both modalities", "fused")
        more = []
        for task in dict.fromkeys(group.task for group in table.groups):
            title, side = sides[task]
            figures = tuple((head, f"{side}/{head}") for head, _ in table.groups[0].figures)
            if any(each.task == task and each.run and figures[0][1] in each.run.test.metrics for each in entries):
                more.append(Group(title, task, (), figures))
        return more
    if table.program != "label_fractions":
        return []
    tasks = {group.task for group in table.groups}
    taken = {label for group in table.groups for label in group.labels}
    more_labels = dict.fromkeys(each.labels for each in entries if each.task in tasks and each.labels not in taken)
    first = table.groups[0]
    return [Group(label, first.task, (label,), first.figures, first.main) for label in more_labels]


def _of_group(group: Group, entries: Sequence[Entry]) -> tuple[list[Entry], str]:
    """Return the entries of a group and their share of the labels: the first that has a result, else the first.

    The entries have the names of the table's rows, without the group's ending.
    """
    of_task = [replace(each, init=each.init.removesuffix(group.ending)) for each in entries if each.task == group.task]
    if not group.labels:
        return of_task, ""
    there = [label for label in group.labels if any(each.labels == label for each in of_task)]
    done = [label for label in there if any(each.labels == label and each.run for each in of_task)]
    label = next(iter(done or there), "")
    return [each for each in of_task if each.labels == label], label


def _facts(entries: Sequence[Entry], label: str) -> str:
    runs = [each.run for each in entries if each.run]
    if not runs:
        return "not run" if not entries else "no result yet"
    rows = sorted({run.labels.rows for run in runs})
    seeds = len({each.seed for each in entries if each.run})
    counted = " or ".join(f"{each:,}" for each in rows)
    share = f"{label}, " if label and not label.endswith("samples") else ""
    return f"{share}{counted} rows, {seeds} seed{'s' if seeds > 1 else ''}"


def _scores(entries: Sequence[Entry], figure: str) -> dict[str, Score]:
    seeds: dict[str, dict[int, float]] = {}
    for each in entries:
        value = each.run.test.metrics.get(figure) if each.run else None
        if value is not None and math.isfinite(value):
            seeds.setdefault(each.init, {})[each.seed] = 100 * value
    return {init: Score(values) for init, values in seeds.items()}


def _margin_here(scores: dict[str, Score]) -> Margin | None:
    """Compare HCMoCo with the initialization of the least paired difference, or of means without a common seed."""
    if METHOD not in scores:
        return None
    own = scores[METHOD]
    margins = []
    for init, other in scores.items():
        if init == METHOD:
            continue
        shared = sorted(own.seeds.keys() & other.seeds.keys())
        pairs = [own.seeds[seed] - other.seeds[seed] for seed in shared]
        difference = statistics.mean(pairs) if pairs else own.mean - other.mean
        margins.append(Margin(own.mean, init, other.mean, difference, interval_95(pairs), max(1, len(pairs))))
    return min(margins, key=lambda each: each.difference, default=None)


def interval_95(values: Sequence[float]) -> float | None:
    """Return how far the 95 % interval of a mean reaches to each side, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def _margin_paper(table: Table, place: int) -> Margin | None:
    rows = [row for row in table.rows if row.compared and row.values]
    own = next((row for row in rows if row.init == METHOD), None)
    others = [row for row in rows if row is not own]
    if own is None or not others:
        return None
    best = max(others, key=lambda row: row.values[place])
    difference = round(own.values[place] - best.values[place], 2)
    return Margin(own.values[place], best.method, best.values[place], difference, None, 0)
