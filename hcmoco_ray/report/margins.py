"""Draw by how much HCMoCo is ahead in each main metric, with intervals, as an SVG."""

from collections.abc import Sequence

from hcmoco_ray.report.curves import as_svg
from hcmoco_ray.report.numbers import Margin

_AHEAD, _BEHIND = "#d55e00", "#0072b2"  # Okabe and Ito: people with color blindness tell them apart
_WIDTH, _LINE, _ENDS = 7.5, 0.24, 0.9  # inches: of the drawing, of a row, of title and axis together


def margins(rows: Sequence[tuple[str, Margin]], title: str) -> str:
    """Draw a row for each margin: a dot at the difference, a bar for its 95 % interval, hollow for a single seed.

    Args:
        rows: (name, margin), from top to bottom.
        title: above the drawing.

    Returns:
        An `<svg>` element, see `curves`.
    """
    from matplotlib.figure import Figure

    def draw() -> Figure:
        figure = Figure(figsize=(_WIDTH, _ENDS + _LINE * len(rows)), layout="constrained")
        axis = figure.subplots()
        axis.axvline(0, color="#555555", linewidth=1)
        for place, (_, margin) in enumerate(rows):
            color = _AHEAD if margin.first else _BEHIND
            axis.errorbar(
                margin.difference, place, xerr=margin.interval, color=color, marker="o", markersize=5, capsize=3,
                markerfacecolor=color if margin.interval is not None else "white", gid=f"margin-{place}",
            )  # fmt: skip
        axis.set_yticks(range(len(rows)), [name for name, _ in rows], parse_math=False)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel("percentage points")
        axis.set_title(title, fontsize=10, parse_math=False, loc="left")
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        return figure

    return as_svg("margins", draw)
