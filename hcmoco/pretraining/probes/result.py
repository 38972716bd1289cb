"""What a probe reports: named figures in percent, each with its chance level and, where there is one, the baseline of
position alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

_NOTE = (
    "+-: standard error over people. Retrieval is mostly the framing of the crop: its last column is the box of "
    "the silhouette alone. "
    "'different crops': the two modalities are cut and turned differently, so that position alone does not answer."
)


@dataclass
class ProbeResult:
    """Figures of one probe of one model.

    Attributes:
        people: how many people were looked at.
        metrics: name -> percent. Names are `<probe>/<from>_to_<to>`; a probe that nobody of these people could take is
            not there.
        errors: name -> standard error over people, percentage points.
        chance: name -> percent of a blind guess.
        position: name -> percent of an embedding that knows only where in the crop something is.
        notes: name -> percent, facts about the views: how much of them was asked.
        signals: name -> how far the embeddings are from collapse, see `probes.collapse`.
    """

    people: int
    metrics: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    position: dict[str, float] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)
    signals: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, score_N: Tensor, chance_N: Tensor | float, position_N: Tensor | None = None) -> None:
        """Record per-person shares (0..1; NaN where not asked) under `name`, as percentages averaged over the people
        asked."""
        asked_N = ~torch.isnan(score_N)
        count = int(asked_N.sum())
        if not count:
            return
        scores = score_N[asked_N].double()
        self.metrics[name] = 100 * float(scores.mean())
        self.errors[name] = 100 * float(scores.std(correction=1)) / math.sqrt(count) if count > 1 else math.nan
        self.chance[name] = 100 * (
            float(chance_N) if not isinstance(chance_N, Tensor) else float(chance_N[asked_N].double().mean())
        )
        if position_N is not None:
            self.position[name] = 100 * float(position_N[asked_N].double().mean())

    def add_mean(self, name: str, of: str) -> None:
        """Record under `name` the plain mean of the figures whose names start with `of`; no error is claimed for it."""
        members = [key for key in self.metrics if key.startswith(of)]
        for values in (self.metrics, self.chance, self.position):
            present = [values[key] for key in members if key in values]
            if present:
                values[name] = sum(present) / len(present)

    def flat(self, prefix: str = "probe/") -> dict[str, float]:
        """The metrics and signals alone, under names for a tracker."""
        return {prefix + name: value for name, value in (self.metrics | self.signals).items()}

    def note(self, name: str, share_N: Tensor) -> None:
        """Record a fact about the views (shares 0..1, NaN: none) as a percentage."""
        known_N = share_N[~torch.isnan(share_N)]
        if len(known_N):
            self.notes[name] = 100 * float(known_N.double().mean())

    def to_json(self) -> dict:
        """The result as plain numbers, without those that JSON does not have."""
        return {
            key: value if key == "people" else {name: number for name, number in value.items() if math.isfinite(number)}
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict) -> "ProbeResult":
        """The result of `to_json`; TypeError for anything else."""
        return cls(**values)

    def table(self, *, markdown: bool = False) -> str:
        """All figures as text with aligned columns, or as a Markdown table."""
        rows = [
            (name, f"{value:.1f}", *(_number(column, name) for column in (self.errors, self.chance, self.position)))
            for name, value in self.metrics.items()
        ]
        notes = "; ".join(f"{name}: {value:.1f} %" for name, value in self.notes.items())
        closing = f"{self.people} people. {_NOTE}" + (f" {notes}." if notes else "")
        return f"{_aligned(('probe', '%', '+-', 'chance', 'position alone'), rows, markdown)}\n\n{closing}"


def comparison(results: Mapping[str, ProbeResult], *, only: Sequence[str] | None = None, markdown: bool = False) -> str:
    """Several results side by side, one column each under its name, with chance and position alone of the last that has
    the figure.

    `only` chooses figures and their order; one that no result has is left out.
    """
    names = list(dict.fromkeys(name for result in results.values() for name in result.metrics))
    names = names if only is None else [name for name in only if name in names]
    chance = {name: value for result in results.values() for name, value in result.chance.items()}
    position = {name: value for result in results.values() for name, value in result.position.items()}
    rows = [
        (
            name,
            *(_number(each.metrics, name) for each in results.values()),
            *(_number(each, name) for each in (chance, position)),
        )
        for name in names
    ]
    return _aligned(("probe, %", *results, "chance", "position alone"), rows, markdown)


def _number(column: Mapping[str, float], name: str) -> str:
    value = column.get(name, math.nan)
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in [head, *rows]
    ]
    if not markdown:
        return "\n".join("  ".join(line) for line in lines)
    text = ["| " + " | ".join(line) + " |" for line in lines]
    rule = "|" + "-" * (widths[0] + 2) + "|" + "".join("-" * (width + 1) + ":|" for width in widths[1:])
    return "\n".join([text[0], rule, *text[1:]])
