"""What a sweep has shown: a table of its trials, a picture of the score against each key, and the best trial as a recipe."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hcmoco import markdown
from hcmoco.config import build, merge
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.sweep.config import Dimension, SweepConfig, Value
from hcmoco_ray.experiments.sweep.records import DONE, FAILED, STOPPED
from hcmoco_ray.experiments.sweep.trial_config import trial_values

_ORDER = {DONE: 0, STOPPED: 1, FAILED: 2}


def ranked(records: Sequence[Mapping]) -> list[Mapping]:
    """The best first: those that came to their end by score, then those that were stopped by how far they came and score, then failures."""

    def key(record: Mapping) -> tuple:
        kind, score = _kind(record), record["score"]
        return (
            _ORDER[kind],
            -record["steps"] if kind == STOPPED else 0,
            -score if _known(score) else math.inf,
            record["number"],
        )

    return sorted(records, key=key)


def best(records: Sequence[Mapping]) -> Mapping | None:
    """The trial with the highest score of those that came to their end: a figure on the way is another figure. None if there is none; a
    score that is undefined (NaN) is none."""
    return next((each for each in ranked(records) if each["status"] == DONE and _known(each["score"])), None)


def _known(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def table(records: Sequence[Mapping], space: Mapping[str, Dimension], what: str) -> str:
    """Markdown: a row per trial, the best first.

    Args:
        what: name of the score.
    """
    head = ["trial", f"{what}, %", *space, "steps", "seconds", "status"]
    rows = []
    for record in ranked(records):
        values = [text(record["values"][key]) for key in space]
        score = f"{record['score']:.2f}" if _known(record["score"]) else "-"
        cells = [
            f"{record['number']:04d}",
            score,
            *values,
            str(record["steps"]),
            f"{record['seconds']:.0f}",
            record["status"],
        ]
        rows.append([cell.replace("|", "/") for cell in cells])
    return markdown.table(head, rows, "r" * (len(head) - 1) + "l")


def text(value: Value) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(records: Sequence[Mapping], space: Mapping[str, Dimension], what: str) -> bytes:
    """PNG: a panel per key with the score of each trial over its value; logarithmic where the space is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(4, len(space))
    rows = -(-len(space) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns + 0.6, 3.0 * rows + 0.7), sharey=True, squeeze=False, layout="constrained"
    )
    first = best(records)
    for axis, (key, dimension) in zip(axes.flat, space.items(), strict=False):
        draw_panel(axis, records, first, key, dimension)
    for row in axes:
        row[0].set_ylabel(f"{what}, %")
    for axis in axes.flat[len(space) :]:
        axis.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def draw_panel(axis: Any, records: Sequence[Mapping], first: Mapping | None, key: str, dimension: Dimension) -> None:
    """Whatever a key's trials were is in every panel, so that one legend serves all."""
    groups: dict[str, list[Mapping]] = {kind: [] for kind in _ORDER}
    for record in records:
        groups[_kind(record)].append(record)
    scored = [each for each in (*groups[DONE], *groups[STOPPED]) if each["score"] is not None]
    # Without a score a trial is shown where nothing hides it: below all others.
    lowest = min((each["score"] for each in scored), default=0.0)
    below = lowest - 0.08 * max(1.0, max((each["score"] for each in scored), default=0.0) - lowest)

    def places(some: Sequence[Mapping]) -> tuple[list[float], list[float]]:
        return [_place(dimension, each["values"][key]) for each in some], [
            below if each["score"] is None else each["score"] for each in some
        ]

    axis.scatter(*places(groups[DONE]), color="tab:blue", label="to its end", zorder=3)
    if groups[STOPPED]:
        axis.scatter(
            *places(groups[STOPPED]), facecolors="none", edgecolors="tab:blue", label="stopped early", zorder=2
        )
    if groups[FAILED]:
        axis.scatter(*places(groups[FAILED]), marker="x", color="tab:red", label="failed", zorder=2)
    if first is not None:
        axis.scatter(
            *places([first]),
            marker="*",
            s=180,
            color="tab:orange",
            label=f"best: trial {first['number']:04d}",
            zorder=4,
        )
    axis.set_xlabel(key)
    axis.margins(y=0.12)
    axis.grid(alpha=0.3)
    if dimension.choice is not None:
        axis.set_xticks(range(len(dimension.choice)), [text(each) for each in dimension.choice])
        axis.set_xlim(-0.5, len(dimension.choice) - 0.5)
        return
    assert dimension.limits is not None
    low, high = dimension.limits
    if dimension.log:
        axis.set_xscale("log")
        axis.set_xticks(ticks := round_values(low, high), [f"{each:g}" for each in ticks])
        axis.minorticks_off()
    elif dimension.integers is not None:
        axis.xaxis.get_major_locator().set_params(integer=True)
    pad = (high / low) ** 0.05 if dimension.log else 0.05 * (high - low)
    axis.set_xlim((low / pad, high * pad) if dimension.log else (low - pad, high + pad))


def round_values(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, and their 2- and 5-fold where that leaves few enough to be read."""
    powers = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    every = [
        float(f"{power * factor:.6g}")
        for power in powers
        for factor in (1, 2, 5)
        if low <= float(f"{power * factor:.6g}") <= high
    ]
    return every if len(every) <= 6 else [each for each in every if f"{each:e}".startswith("1.0")]


def _place(dimension: Dimension, value: Value) -> float:
    return dimension.choice.index(value) if dimension.choice is not None else float(value)


def _kind(record: Mapping) -> str:
    return record["status"].partition(":")[0]


def recipe(base: dict, record: Mapping, config: SweepConfig, sweep: str, what: str) -> str:
    """The recipe of a trial as YAML that pretrain.py takes: that of a run with the trial's weights, its worker included."""
    values = trial_values(base, record["values"])
    name = f"{values.get('name', 'pretrain')}-best"
    checked = build(
        PretrainRecipe,
        merge(values, {"name": name, "output_dir": f"{values['output_dir']}-best"}),
        f"trial {record['number']:04d}",
    )
    lines = [
        f"# The best of {config.num_trials} trials of the sweep {sweep}: trial {record['number']:04d}, {what} {record['score']:.2f} %.",
        f"#   {', '.join(f'{key} = {text(value)}' for key, value in record['values'].items())}",
    ]
    if len(record["schedule"]) > 1:
        lines.append(
            "# Its values changed on the way, which a recipe cannot say; these are the last ones. From step 0 on:"
        )
        lines += [f"#   {_entry(entry)}" for entry in record["schedule"]]
    lines.append(
        f"# Steps and everything else are the trial's; the recipe {config.recipe} may be longer: "
        "stages.stage1_steps=... stages.stage2_steps=..."
    )
    return "\n".join([*lines, run_config.as_yaml(checked)])


def _entry(entry: Mapping) -> str:
    origin = f" (went on from the state of trial {entry['from']:04d})" if "from" in entry else ""
    return (
        f"step {entry['step']}: {', '.join(f'{key} = {text(value)}' for key, value in entry['values'].items())}{origin}"
    )
