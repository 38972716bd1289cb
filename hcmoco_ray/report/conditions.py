"""Build the section on the conditions of the numbers: recipes, versions, steps, times, pre-trainings and probes."""

import json
import statistics
from collections.abc import Iterable
from pathlib import PurePosixPath

from hcmoco_ray.report.model import Block, Grid, Heading, TableCell, Text
from hcmoco_ray.report.reader import Entry, Pretraining, Results
from hcmoco_ray.report.tables import NAMES
from hcmoco_ray.tracking.progress import format_duration


def conditions(results: Results) -> list[Block]:
    """Build the section."""
    blocks: list[Block] = [Heading("Conditions", "conditions"), *_programs(results), *_times(results)]
    if results.pretrainings:
        blocks += _pretrainings(results.pretrainings)
    return blocks


def recipes(results: Results) -> str:
    """Return the names of the recipes, or "unknown"."""
    return ", ".join(dict.fromkeys(each.recipe for each in results.indices.values())) or "unknown"


def synthetic(results: Results) -> bool:
    """Return whether all recipes are of synthetic people, by their names."""
    return all(PurePosixPath(each.recipe).name.startswith("people") for each in results.indices.values())


def _heads(*names: str) -> tuple[TableCell, ...]:
    return tuple(TableCell(each, kind="head") for each in names)


def _row(*texts: str) -> tuple[TableCell, ...]:
    return tuple(TableCell(each) for each in texts)


def _among(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(each) for each in values if each != ""})) or "not recorded"


def _commit(commits: Iterable[str]) -> str:
    return _among(each[:10] if len(each) == 40 else each for each in commits)


def _programs(results: Results) -> list[Block]:
    body = []
    for program, index in results.indices.items():
        entries = [each for each in results.entries if each.program == program]
        runs = [each.run for each in entries if each.run]
        body.append(
            _row(
                f"tuning/{program}.py",
                index.recipe,
                f"{len(runs)} of {len(entries)}",
                _among(each.seed for each in entries if each.run),
                _among(run.precision for run in runs),
                _among([index.hcmoco, *(run.hcmoco for run in runs)]),
                _among(run.torch for run in runs),
                _commit([index.commit, *(run.commit for run in runs)]),
            )
        )
    if not body:
        return [Text("No program's index is in the folder.")]
    return [
        Grid(
            (_heads("Program", "Recipe", "Experiments done", "Seeds", "Precision", "hcmoco", "PyTorch", "Commit"),),
            tuple(body),
            texts=8,
        )
    ]


def _times(results: Results) -> list[Block]:
    """Build the table of steps and times by program and task. The sum counts a shared experiment once."""
    by_task: dict[tuple[str, str], list[Entry]] = {}
    for each in results.entries:
        if each.run:
            by_task.setdefault((each.program, each.task), []).append(each)
    if not by_task:
        return []
    body = []
    for (program, task), entries in by_task.items():
        runs = [each.run for each in entries if each.run]
        seconds = [run.seconds for run in runs]
        body.append(
            _row(
                program,
                task,
                _among(run.steps for run in runs),
                _among(f"{run.test.rows:,}" for run in runs),
                str(len(runs)),
                f"{format_duration(statistics.median(seconds))} "
                f"({format_duration(min(seconds))} to {format_duration(max(seconds))})",
                format_duration(sum(seconds)),
            )
        )
    once = {
        (each.task, each.init, each.labels, each.seed, each.run.seconds): each.run.seconds
        for each in results.entries
        if each.run
    }
    total = f"All experiments together {format_duration(sum(once.values()))}"
    timed = [each.seconds for each in results.pretrainings if each.seconds is not None]
    if timed:
        total += f", {len(timed)} pre-training{'s' if len(timed) > 1 else ''} {format_duration(sum(timed))}"
    head = _heads("Program", "Task", "Steps", "Test rows", "Experiments", "Time of one: median (range)", "Sum")
    total += ", by the clock of each process; processes that ran at the same time overlap."
    return [Grid((head,), tuple(body), texts=2), Text(total, "note")]


def _pretrainings(pretrainings: tuple[Pretraining, ...]) -> list[Block]:
    order = list(NAMES)
    ranked = sorted(
        pretrainings, key=lambda each: (order.index(each.init) if each.init in order else len(order), each.init)
    )
    head = _heads(
        "Start",
        "Recipe",
        "Overrides",
        "Precision",
        "Seed",
        "Steps",
        "Time",
        "RGB encoder",
        "Depth encoder",
        "hcmoco",
        "PyTorch",
        "Commit",
    )
    body = [
        _row(
            NAMES.get(each.init, each.init),
            each.recipe,
            _overrides(each.overrides) or "–",
            each.precision or "not recorded",
            str(each.seed),
            f"{each.steps:,}",
            "not timed" if each.seconds is None else format_duration(each.seconds),
            each.digests.get("rgb", "")[:10] or "–",
            each.digests.get("depth", "")[:10] or "–",
            each.hcmoco,
            each.torch,
            _commit([each.commit]),
        )
        for each in ranked
    ]
    blocks: list[Block] = [Heading("Pre-trainings", "pretrainings", 3), Grid((head,), tuple(body), texts=4)]
    columns = [(each, moment, figures) for each in ranked for moment, figures in list(each.probes.items())[-1:]]
    if not columns:
        return blocks
    figures = sorted({name for _, _, values in columns for name in values})
    heads = (
        TableCell("Probe, %", kind="head"),
        *(TableCell(NAMES.get(each.init, each.init), moment, kind="head") for each, moment, _ in columns),
    )
    lines = []
    for name in figures:
        best = max(values[name] for _, _, values in columns if name in values)
        numbers = (
            TableCell(f"{values[name]:.1f}", strong=len(columns) > 1 and values[name] == best)
            if name in values
            else TableCell("–")
            for _, _, values in columns
        )
        lines.append((TableCell(name), *numbers))
    return [
        *blocks,
        Heading("Probes of the pre-trainings", "probes", 3),
        Text("Probes on held-out people at the end of each pre-training, without any label or fine-tuning.", "note"),
        Grid((heads,), tuple(lines)),
    ]


def _overrides(overrides: list[str] | dict[str, object]) -> str:
    if isinstance(overrides, dict):
        return " ".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()
        )
    return " ".join(overrides)
