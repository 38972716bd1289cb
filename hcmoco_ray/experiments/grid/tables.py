"""Tables over the finished cells of a grid, in Markdown: means, spreads, paired differences, in %."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hcmoco_ray.experiments.grid.cells import Cell
from hcmoco_ray.experiments.results import difference_text, mean_text


def comparison(cells: Sequence[Cell], results: Mapping[str, dict], baseline: str) -> str:
    """A row per task and share of the labels, a column per start with mean and standard deviation over seeds, and for each other start
    the mean paired difference to the baseline with its standard error, over the seeds that both have."""
    inits = _in_order(cell.init for cell in cells)
    others = [init for init in inits if init != baseline]
    lines = _head(["task", "labels", "figure", "seeds"], [*inits, *(f"{init} - {baseline}" for init in others)])
    for task, labels in _in_order((cell.task, cell.labels) for cell in cells):
        scores, main, rows = _scores(cells, results, task, labels)
        texts = [_text(scores, init, cells) for init in inits]
        differences = []
        for init in others:
            one, other = scores.get(init, {}), scores.get(baseline, {})
            differences.append(difference_text([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]))
        seeds = max((len(each) for each in scores.values()), default=0)
        lines.append(f"| {' | '.join([task, f'{labels} ({rows})', main, str(seeds), *texts, *differences])} |")
    return "\n".join(lines)


def ablation(cells: Sequence[Cell], results: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    """Table 3's form: a row per start, which adds a term to the one above; a column per task and share of the labels.

    Args:
        titles: start -> what its row is called.
    """
    columns = _in_order((cell.task, cell.labels) for cell in cells)
    found = [_scores(cells, results, *column) for column in columns]
    names = [f"{task} {labels} {main}" for (task, labels), (_, main, _) in zip(columns, found, strict=True)]
    lines = _head(["objective"], names)
    for init in _in_order(cell.init for cell in cells):
        texts = [mean_text(list(scores.get(init, {}).values())) for scores, _, _ in found]
        lines.append(f"| {' | '.join([titles.get(init, init), *texts])} |")
    return "\n".join(lines)


def _scores(
    cells: Sequence[Cell], results: Mapping[str, dict], task: str, labels: str
) -> tuple[dict[str, dict[int, float]], str, int]:
    """Start -> seed -> the main figure in %, the figure's name, and the number of labelled rows."""
    scores: dict[str, dict[int, float]] = {}
    main, rows = "", 0
    for cell in cells:
        result = results.get(cell.name)
        if (cell.task, cell.labels) == (task, labels) and result:
            main, rows = result["main"], result["labels"]["rows"]
            scores.setdefault(cell.init, {})[cell.config.seed] = 100 * result["test"]["figures"][main]
    return scores, main, rows


def _head(texts: list[str], figures: list[str]) -> list[str]:
    return [f"| {' | '.join([*texts, *figures])} |", "|---" * len(texts) + "|--:" * len(figures) + "|"]


def _in_order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _text(scores: Mapping[str, dict[int, float]], init: str, cells: Sequence[Cell]) -> str:
    """The figure of a start, or why it was not run."""
    refused = next((cell.refused for cell in cells if cell.init == init and cell.refused), "")
    return mean_text(list(scores[init].values())) if init in scores else refused or "-"
