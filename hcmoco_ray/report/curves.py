"""Draw validation scores by step as an SVG: a panel per share of the labels, a line and a band per initialization."""

import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Colors that people with color blindness tell apart (Okabe and Ito), and a dash and a marker of its own for each.
_STYLES: dict[str, tuple[str, Any, str]] = {
    "hcmoco": ("#d55e00", "-", "o"),
    "cmc": ("#0072b2", (0, (4, 2)), "s"),
    "mmv": ("#009e73", (0, (5, 2, 1, 2)), "^"),
    "scratch": ("#7a7a7a", (0, (1, 2)), "x"),
    "none": ("#7a7a7a", (0, (1, 2)), "x"),
    "imagenet": ("#b8860b", (0, (7, 2)), "D"),
    "hard": ("#56b4e9", (0, (3, 1)), "^"),
    "soft": ("#cc79a7", (0, (3, 1, 1, 1)), "D"),
}
_OTHER_STYLE = ("#555555", ":", "s")
_WIDTH, _HEIGHT = 3.8, 3.2  # of a panel, in inches


@dataclass(frozen=True)
class Line:
    """The scores of an initialization: `points` are (step, one value in % for each seed)."""

    init: str
    name: str
    points: tuple[tuple[int, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Panel:
    """A share of the labels."""

    title: str
    lines: tuple[Line, ...]


def curves(name: str, panels: Sequence[Panel], metric: str) -> str:
    """Draw the panels; equal arguments give equal bytes.

    Args:
        name: unique in a page; the ids in the drawing are made from it.
        panels: from left to right; they share the vertical axis.
        metric: names that axis.

    Returns:
        An `<svg>` element with its namespace, without XML declaration.
    """
    from matplotlib.figure import Figure

    def draw() -> Figure:
        figure = Figure(figsize=(_WIDTH * len(panels), _HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        handles: dict[str, Any] = {}
        for number, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
            axis.set_title(panel.title, fontsize=10, parse_math=False)
            axis.set_xlabel("training step")
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
            for line in panel.lines:
                handles.setdefault(line.name, _draw(axis, line, f"{name}-{number}-{line.init}"))
            axis.set_xlim(left=0)
        axes[0].set_ylabel(f"{metric} [%]", parse_math=False)
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure

    return as_svg(name, draw)


def as_svg(name: str, draw: Callable[[], Any]) -> str:
    """Return the figure that `draw` makes as an `<svg>` element; `name` is unique in a page."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9}):
        figure = draw()
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].rstrip()


def _draw(axis: Any, line: Line, gid: str) -> Any:
    """Draw one line and its band; HCMoCo lies on top. Returns the line, for the legend."""
    color, dashes, marker = _STYLES.get(line.init, _OTHER_STYLE)
    steps = [step for step, _ in line.points]
    means = [statistics.mean(seeds) for _, seeds in line.points]
    spreads = [statistics.stdev(seeds) if len(seeds) > 1 else 0.0 for _, seeds in line.points]
    first = line.init == "hcmoco"
    if any(spreads):
        lower = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        upper = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axis.fill_between(steps, lower, upper, color=color, alpha=0.15, linewidth=0)
    (drawn,) = axis.plot(
        steps, means, color=color, linestyle=dashes, marker=marker, markersize=4.5,
        linewidth=2.0 if first else 1.5, zorder=4 if first else 3, gid=gid,
    )  # fmt: skip
    return drawn
