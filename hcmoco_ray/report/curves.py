"""Validation scores by step as an SVG: a panel for each share of the labels, a line for each start, its spread over seeds as a band."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Colours that people with colour-blindness tell apart (Okabe and Ito), and a dash and a mark of its own for each.
_LOOKS = {
    "hcmoco": ("#d55e00", "", "circle"),
    "cmc": ("#0072b2", "7 4", "square"),
    "mmv": ("#009e73", "9 3 2 3", "triangle"),
    "scratch": ("#7a7a7a", "2 3", "cross"),
    "none": ("#7a7a7a", "2 3", "cross"),
    "imagenet": ("#b8860b", "12 4", "diamond"),
    "hard": ("#56b4e9", "5 2", "triangle"),
    "soft": ("#cc79a7", "4 2 1 2", "diamond"),
}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 380, 290, 52, 12, 30, 44, 28


@dataclass(frozen=True)
class Line:
    """A start's scores: `points` are (step, one value in % for each seed)."""

    init: str
    name: str
    points: tuple[tuple[int, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Panel:
    """A share of the labels."""

    title: str
    lines: tuple[Line, ...]


def curves(panels: Sequence[Panel], figure: str, *, alone: bool = False) -> str:
    """The SVG; `figure` names the axis. `alone`: for a file of its own, with namespace and a white ground."""
    names: dict[str, str] = {line.init: line.name for panel in panels for line in panel.lines}
    width, height = _WIDTH * len(panels), _HEIGHT + _LEGEND
    points = [seeds for panel in panels for line in panel.lines for _, seeds in line.points]
    values = [statistics.mean(seeds) + sign * _spread(seeds) for seeds in points for sign in (-1, 1)]
    low, high, unit = _scale(min(values), max(values))
    parts = [_panel(panel, number * _WIDTH, figure, low, high, unit) for number, panel in enumerate(panels)]
    place = _LEFT
    for init, name in names.items():
        parts.append(_legend(init, name, place, _HEIGHT + 14))
        place += 46 + 7 * len(name) + 18
    style = 'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12" fill="currentColor"'
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    ground = f'<rect width="{max(width, place)}" height="{height}" fill="white"/>' if alone else ""
    color = ' color="#1b1f24"' if alone else ""
    title = f"{figure} by training step: {', '.join(panel.title for panel in panels)}"
    return (
        f'<svg{space} viewBox="0 0 {max(width, place)} {height}" width="{max(width, place)}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" {style}{color}>{ground}' + "".join(parts) + "</svg>"
    )


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Ends of the axis and the distance of its ticks: 1, 2 or 5 times a power of ten, four to eight of them."""
    raw = max(high - low, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    unit = next(power * step for step in (1, 2, 5, 10) if power * step >= raw)
    return math.floor(low / unit) * unit, math.ceil(high / unit) * unit, unit


def _spread(seeds: tuple[float, ...]) -> float:
    return statistics.stdev(seeds) if len(seeds) > 1 else 0.0


def _panel(panel: Panel, offset: int, figure: str, low: float, high: float, unit: float) -> str:
    last = max(step for line in panel.lines for step, _ in line.points)
    left, right, top, bottom = offset + _LEFT, offset + _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM

    def at(step: float, value: float) -> tuple[float, float]:
        return left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / (high - low)

    parts = [
        f'<text x="{(left + right) / 2:.0f}" y="18" text-anchor="middle" font-weight="600">{escape(panel.title)}</text>'
    ]
    for number in range(round((high - low) / unit) + 1):
        value = low + number * unit
        y = at(0, value)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="currentColor" stroke-opacity=".15"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    steps = sorted({step for line in panel.lines for step, _ in line.points})
    for step in [0, *steps[:: -max(1, math.ceil(len(steps) / 5))]]:
        x = at(step, low)[0]
        parts.append(f'<path d="M{x:.1f} {bottom}v4" stroke="currentColor"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{step}</text>')
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor"/>')
    parts.append(f'<text x="{(left + right) / 2:.0f}" y="{bottom + 34}" text-anchor="middle">training step</text>')
    middle = (top + bottom) / 2
    parts.append(
        f'<text x="{offset + 14}" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 {offset + 14} {middle:.0f})">'
        f"{escape(figure)} [%]</text>"
    )
    # HCMoCo last, so that it lies on top.
    for line in sorted(panel.lines, key=lambda each: each.init == "hcmoco"):
        color, dash, mark = _look(line.init)
        middles = [(step, statistics.mean(seeds)) for step, seeds in line.points]
        spreads = [_spread(seeds) for _, seeds in line.points]
        if any(spreads):
            upper = [at(step, value + spread) for (step, value), spread in zip(middles, spreads, strict=True)]
            lower = [at(step, value - spread) for (step, value), spread in zip(middles, spreads, strict=True)]
            outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower[::-1])
            parts.append(f'<polygon points="{outline}" fill="{color}" fill-opacity=".15"/>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(step, value) for step, value in middles))
        parts.append(_stroke(path, color, dash, 2.4 if line.init == "hcmoco" else 1.8))
        parts += [_mark(*at(step, value), color, mark) for step, value in middles]
    return "".join(parts)


def _look(init: str) -> tuple[str, str, str]:
    return _LOOKS.get(init, ("#555555", "1 2", "square"))


def _stroke(points: str, color: str, dash: str, width: float) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'


def _mark(x: float, y: float, color: str, mark: str) -> str:
    if mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{color}"/>'
    if mark == "cross":
        return f'<path d="M{x - 3.4:.1f} {y - 3.4:.1f}l6.8 6.8m0 -6.8l-6.8 6.8" stroke="{color}" stroke-width="1.8" fill="none"/>'
    shapes = {
        "square": "m-3.2 -3.2h6.4v6.4h-6.4z",
        "triangle": "m0 -4.4l4.2 7.4h-8.4z",
        "diamond": "m0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    }
    return f'<path d="M{x:.1f} {y:.1f}{shapes[mark]}" fill="{color}"/>'


def _legend(init: str, name: str, x: float, y: float) -> str:
    color, dash, mark = _look(init)
    return (
        _stroke(f"{x:.0f},{y} {x + 36:.0f},{y}", color, dash, 2.4 if init == "hcmoco" else 1.8)
        + _mark(x + 18, y, color, mark)
        + f'<text x="{x + 43:.0f}" y="{y + 4}">{escape(name)}</text>'
    )
