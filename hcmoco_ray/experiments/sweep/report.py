"""Report the results of a sweep: a table, a picture of the score over each key, and the best trial as a recipe."""

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
    """Sort trials, the best first.

    Trials that ran to their end come first, by score. Then come those that were stopped, by steps and score; then
    failures.
    """

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
    """Return the trial with the highest score of those that ran to their end; None if none has a score.

    A score that is undefined (NaN) does not count.
    """
    done = (record for record in ranked(records) if record["status"] == DONE and _known(record["score"]))
    return next(done, None)


def _known(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def table(records: Sequence[Mapping], space: Mapping[str, Dimension], what: str) -> str:
    """Format the trials as a Markdown table, the best first.

    Args:
        records: of finished trials.
        space: the keys that vary.
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
    """Format a value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(records: Sequence[Mapping], space: Mapping[str, Dimension], what: str) -> bytes:
    """Draw a panel per key with the score of each trial over its value; logarithmic where the space is.

    Args:
        records: of finished trials.
        space: the keys that vary.
        what: name of the score.

    Returns:
        A PNG file.
    """
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
    """Draw the trials over the values of one key. Every panel holds every kind of trial, so one legend serves all.

    Args:
        axis: of Matplotlib.
        records: of finished trials.
        first: the best trial, or None.
        key: that varies.
        dimension: its values.
    """
    groups: dict[str, list[Mapping]] = {kind: [] for kind in _ORDER}
    for record in records:
        groups[_kind(record)].append(record)
    scores = [trial["score"] for trial in (*groups[DONE], *groups[STOPPED]) if trial["score"] is not None]
    # A trial without a score is shown where nothing hides it: below all others.
    lowest = min(scores, default=0.0)
    below = lowest - 0.08 * max(1.0, max(scores, default=0.0) - lowest)

    def places(trials: Sequence[Mapping]) -> tuple[list[float], list[float]]:
        x = [_place(dimension, trial["values"][key]) for trial in trials]
        return x, [below if trial["score"] is None else trial["score"] for trial in trials]

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
        axis.set_xticks(range(len(dimension.choice)), [text(value) for value in dimension.choice])
        axis.set_xlim(-0.5, len(dimension.choice) - 0.5)
        return
    assert dimension.limits is not None
    low, high = dimension.limits
    if dimension.log:
        axis.set_xscale("log")
        axis.set_xticks(ticks := round_values(low, high), [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    elif dimension.integers is not None:
        axis.xaxis.get_major_locator().set_params(integer=True)
    pad = (high / low) ** 0.05 if dimension.log else 0.05 * (high - low)
    axis.set_xlim((low / pad, high * pad) if dimension.log else (low - pad, high + pad))


def round_values(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`, and their 2- and 5-fold if these are few enough to be read."""
    powers = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    values = [
        float(f"{power * factor:.6g}")
        for power in powers
        for factor in (1, 2, 5)
        if low <= float(f"{power * factor:.6g}") <= high
    ]
    return values if len(values) <= 6 else [value for value in values if f"{value:e}".startswith("1.0")]


def _place(dimension: Dimension, value: Value) -> float:
    return dimension.choice.index(value) if dimension.choice is not None else float(value)


def _kind(record: Mapping) -> str:
    return record["status"].partition(":")[0]


def recipe(base: dict, record: Mapping, config: SweepConfig, sweep: str, what: str) -> str:
    """Return the recipe of a trial as YAML for pretrain.py; a run of it gives the trial's weights.

    Args:
        base: the recipe's keys that all trials have.
        record: of the trial.
        config: of the sweep.
        sweep: name of the sweep.
        what: name of the score.
    """
    values = trial_values(base, record["values"])
    name = f"{values.get('name', 'pretrain')}-best"
    checked = build(
        PretrainRecipe,
        merge(values, {"name": name, "output_dir": f"{values['output_dir']}-best"}),
        f"trial {record['number']:04d}",
    )
    lines = [
        f"# The best of {config.num_trials} trials of the sweep {sweep}: trial {record['number']:04d}, "
        f"{what} {record['score']:.2f} %.",
        f"#   {', '.join(f'{key} = {text(value)}' for key, value in record['values'].items())}",
    ]
    if len(record["schedule"]) > 1:
        lines.append(
            "# Its values changed during the training, which a recipe cannot say; these are the last ones. From step 0 "
            "on:"
        )
        lines += [f"#   {_entry(entry)}" for entry in record["schedule"]]
    lines.append(
        f"# Steps and everything else are the trial's; the recipe {config.recipe} may be longer: "
        "stages.stage1_steps=... stages.stage2_steps=..."
    )
    return "\n".join([*lines, run_config.as_yaml(checked)])


def _entry(entry: Mapping) -> str:
    origin = f" (resumed from the state of trial {entry['from']:04d})" if "from" in entry else ""
    return (
        f"step {entry['step']}: {', '.join(f'{key} = {text(value)}' for key, value in entry['values'].items())}{origin}"
    )
