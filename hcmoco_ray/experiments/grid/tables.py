"""Format the finished experiments of a grid as Markdown tables: means, spreads and paired differences, in %."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from hcmoco import markdown
from hcmoco_ray.experiments.grid.experiments import Experiment
from hcmoco_ray.experiments.results import difference_text, mean_text

_T = TypeVar("_T")


def comparison(experiments: Sequence[Experiment], results: Mapping[str, dict], baseline: str) -> str:
    """Compare encoder initializations: a row per task and share of the labels.

    A column per initialization holds mean and standard deviation over seeds. Another column for each but the baseline
    holds the mean paired difference to the baseline with its standard error, over the seeds that both have.

    Args:
        experiments: all of the grid.
        results: by name of the experiment.
        baseline: name of an initialization.

    Returns:
        A Markdown table; several where not all tasks compare the same initializations.
    """
    compared: dict[tuple[str, ...], list[Experiment]] = {}
    for column in _unique((experiment.task, experiment.labels) for experiment in experiments):
        of_row = [each for each in experiments if (each.task, each.labels) == column]
        compared.setdefault(tuple(_unique(each.init for each in of_row)), []).extend(of_row)
    return "\n\n".join(_comparison(some, results, baseline) for some in compared.values())


def _comparison(experiments: Sequence[Experiment], results: Mapping[str, dict], baseline: str) -> str:
    inits = _unique(experiment.init for experiment in experiments)
    others = [init for init in inits if init != baseline]
    head = ["task", "labels", "metric", "seeds", *inits, *(f"{init} - {baseline}" for init in others)]
    rows = []
    for task, labels in _unique((experiment.task, experiment.labels) for experiment in experiments):
        scores, metric, count = _scores(experiments, results, task, labels)
        texts = [_text(scores, init, experiments) for init in inits]
        reference = scores.get(baseline, {})
        for init in others:
            found = scores.get(init, {})
            texts.append(difference_text([found[seed] - reference[seed] for seed in sorted(found.keys() & reference)]))
        seeds = max((len(by_seed) for by_seed in scores.values()), default=0)
        rows.append([task, f"{labels} ({count})", metric, str(seeds), *texts])
    return markdown.table(head, rows, "llll" + "r" * (len(head) - 4))


def ablation(experiments: Sequence[Experiment], results: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    """Format Table 3 of the paper.

    A row per objective, which adds a term to the one above; a column per task and share of the labels.

    Args:
        experiments: all of the grid.
        results: by name of the experiment.
        titles: initialization -> title of its row.

    Returns:
        A Markdown table.
    """
    columns = _unique((experiment.task, experiment.labels) for experiment in experiments)
    found = [_scores(experiments, results, *column) for column in columns]
    names = [f"{task} {labels} {metric}" for (task, labels), (_, metric, _) in zip(columns, found, strict=True)]
    rows = [
        [titles.get(init, init), *(mean_text(list(scores.get(init, {}).values())) for scores, _, _ in found)]
        for init in _unique(experiment.init for experiment in experiments)
    ]
    return markdown.table(["objective", *names], rows, "l" + "r" * len(names))


def _scores(
    experiments: Sequence[Experiment], results: Mapping[str, dict], task: str, labels: str
) -> tuple[dict[str, dict[int, float]], str, int]:
    """Return initialization -> seed -> the primary metric in %, the metric's name, and the number of labeled rows."""
    scores: dict[str, dict[int, float]] = {}
    metric, rows = "", 0
    for experiment in experiments:
        result = results.get(experiment.name)
        if (experiment.task, experiment.labels) == (task, labels) and result:
            metric, rows = result["primary_metric"], result["labels"]["rows"]
            by_seed = scores.setdefault(experiment.init, {})
            by_seed[experiment.config.seed] = 100 * result["test"]["metrics"][metric]
    return scores, metric, rows


def _unique(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))


def _text(scores: Mapping[str, dict[int, float]], init: str, experiments: Sequence[Experiment]) -> str:
    """Return the score of an initialization, or why it was not run."""
    reasons = (experiment.refused for experiment in experiments if experiment.init == init and experiment.refused)
    return mean_text(list(scores[init].values())) if init in scores else next(reasons, "-")
