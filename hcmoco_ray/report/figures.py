"""Arrange the validation scores of experiments into panels and lines, as in Figure 6 of the paper, for every task."""

import math
from collections.abc import Sequence

from hcmoco_ray.report.curves import Line, Panel, curves
from hcmoco_ray.report.model import Drawing
from hcmoco_ray.report.reader import Entry
from hcmoco_ray.report.tables import NAMES

_TASKS = {
    "parsing-rgb": "RGB human parsing",
    "parsing-depth": "Depth human parsing",
    "pose": "3D pose from depth",
    "densepose": "DensePose",
}
_EXPERIMENTS = {
    "rgb-to-depth": "RGB → depth",
    "depth-to-rgb": "Depth → RGB",
    "missing-modality": "Missing modality",
}
_METRICS = {"acc_10cm": "joints within 10 cm", "gps_ap": "GPS AP", "gpsm_ap": "GPSM AP", "box_ap": "box AP"}


def drawings(entries: Sequence[Entry]) -> list[Drawing]:
    """Draw the curves of each task of label_fractions.py, and of the co-trainings together."""
    result = []
    for task, title in _TASKS.items():
        shares: dict[str, list[Entry]] = {}
        for each in entries:
            if each.task == task and each.program == "label_fractions" and each.run:
                shares.setdefault(each.labels, []).append(each)
        ranked = sorted(shares.items(), key=lambda pair: -_rows(pair[1]))
        panels = [_panel(f"{labels} ({_rows(cells):,} labeled rows)", cells) for labels, cells in ranked]
        result += _drawing(task, title, panels, [cell for cells in shares.values() for cell in cells])
    cells = [each for each in entries if each.program == "versatility" and each.run]
    panels = [
        _panel(title, [each for each in cells if each.task == experiment]) for experiment, title in _EXPERIMENTS.items()
    ]
    return result + _drawing("versatility", "Co-trainings, by the modality that is tested", panels, cells)


def _drawing(name: str, title: str, panels: Sequence[Panel], cells: Sequence[Entry]) -> list[Drawing]:
    filled = [panel for panel in panels if panel.lines]
    names = dict.fromkeys(entry.run.primary_metric.rpartition("/")[2] for entry in cells if entry.run)
    if not filled:
        return []
    metric = ", ".join(_METRICS.get(metric, metric) for metric in names)
    caption = f"{title}: {metric} on validation rows"
    return [Drawing(f"curves/{name}.svg", curves(name, filled, metric), caption)]


def _rows(cells: Sequence[Entry]) -> int:
    return max(each.run.labels.rows for each in cells if each.run)


def _panel(title: str, cells: Sequence[Entry]) -> Panel:
    """Make a panel with a line for each initialization that has a validation."""
    order = list(NAMES)
    lines = []
    for init in sorted(
        {each.init for each in cells}, key=lambda name: (order.index(name) if name in NAMES else len(order), name)
    ):
        steps: dict[int, list[float]] = {}
        for each in cells:
            for step, figures in each.run.evals if each.run and each.init == init else ():
                value = figures.get(each.run.primary_metric, math.nan) if each.run else math.nan
                if math.isfinite(value):
                    steps.setdefault(step, []).append(100 * value)
        if steps:
            lines.append(Line(init, NAMES.get(init, init), tuple((step, tuple(steps[step])) for step in sorted(steps))))
    return Panel(title, tuple(lines))
