"""Three kinds of plots in the report's style: lines with bands, marks with intervals, and a map of layers and heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

from safekey.report import palette
from safekey.report.plots import STYLE, Plot, finished, new_figure
from safekey.terminal import printable


class Point(NamedTuple):
    """A value with its interval at a place; without an interval both ends are None."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None


def _styled(draw: Callable[..., Plot]) -> Callable[..., Plot]:
    @wraps(draw)
    def styled(*args: Any, **more: Any) -> Plot:
        import matplotlib as mpl

        with mpl.rc_context(dict(STYLE)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph", UserWarning)  # characters that the font lacks
            return draw(*args, **more)

    return styled


@_styled
def lines(
    name: str, title: str, axes: tuple[str, str], series: Mapping[str, Sequence[Point]], *,
    upright: float | None = None, level: float | None = None, limits: tuple[float, float] | None = None,
) -> Plot:  # fmt: skip
    """Draw one line with its band for each series.

    Args:
        name: file name without its ending.
        title: what the plot shows.
        axes: the words at the two axes.
        series: label → its points.
        upright: where a vertical line stands.
        level: where a horizontal line stands.
        limits: of the vertical axis.
    """
    figure, grid = new_figure(7.2, 3.6)
    ax = grid[0][0]
    said = []
    for place, (label, points) in enumerate(series.items()):
        color = palette.arm(place + 1).light
        x = [point.x for point in points]
        ax.plot(x, [point.value for point in points], color=color, linestyle=palette.dash(place),
                marker=palette.marker(place), markersize=3, label=printable(label))  # fmt: skip
        if any(point.low is not None for point in points):
            low = [point.value if point.low is None else point.low for point in points]
            high = [point.value if point.high is None else point.high for point in points]
            ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        top = max(points, key=lambda point: point.value)
        said.append(f"{printable(label)}: highest {top.value:.3g} at {top.x:g}")
    _finish(ax, axes, upright, level)
    if limits:
        ax.set_ylim(*limits)
    if len(series) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return finished(figure, name, title, f"{title}. {'; '.join(said)}. The tables hold every number.")


@_styled
def marks(
    name: str, title: str, word: str, rows: Sequence[str], series: Mapping[str, Mapping[str, Point]], *,
    level: float | None = None,
) -> Plot:  # fmt: skip
    """Draw one mark with its interval for each row and series; a point's `x` is not used.

    Args:
        name: file name without its ending.
        title: what the plot shows.
        word: what the numbers are.
        rows: from top to bottom.
        series: label → row → its value.
        level: where a vertical line stands.
    """
    figure, grid = new_figure(7.2, 0.9 + len(rows) * max(0.3, 0.16 * len(series) + 0.1))
    ax = grid[0][0]
    step = 0.7 / max(len(series), 1)
    said = []
    for place, (label, values) in enumerate(series.items()):
        for at, row in enumerate(rows):
            point = values.get(row)
            if point is None:
                continue
            low = point.value if point.low is None else point.low
            high = point.value if point.high is None else point.high
            ends = [[max(point.value - low, 0)], [max(high - point.value, 0)]]
            ax.errorbar(point.value, at + (place - (len(series) - 1) / 2) * step, xerr=ends, linestyle="",
                        marker=palette.marker(place), markersize=5, elinewidth=1.3, color=palette.arm(place + 1).light,
                        label=printable(label) if label not in ax.get_legend_handles_labels()[1] else None)  # fmt: skip
            said.append(f"{printable(label)}, {printable(row)}: {point.value:.3g}")
    ax.set_yticks(range(len(rows)), [printable(row) for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    _finish(ax, (word, ""), level, None)
    if len(series) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return finished(figure, name, title, f"{title}. {'; '.join(said)}.")


@_styled
def maps(
    name: str, title: str, axes: tuple[str, str], panels: Mapping[str, Sequence[Sequence[float]]], *, both: bool = False
) -> Plot:
    """Draw a map [row, column] for each panel, all on one scale.

    Args:
        name: file name without its ending.
        title: what the plot shows.
        axes: the words at the two axes.
        panels: label → numbers [row][column].
        both: whether numbers have both signs; the scale is then the same to both sides of 0.
    """
    figure, grid = new_figure(2.3 * len(panels) + 0.8, 3.2, 1, len(panels))
    numbers = [value for panel in panels.values() for row in panel for value in row]
    top = max((abs(value) for value in numbers), default=1.0) or 1.0
    drawn = None
    for ax, (label, panel) in zip(grid[0], panels.items(), strict=True):
        drawn = ax.imshow(panel, aspect="auto", origin="lower", cmap="RdBu_r" if both else "viridis",
                          vmin=-top if both else 0.0, vmax=top, interpolation="nearest")  # fmt: skip
        ax.set_title(printable(label))
        ax.grid(visible=False)
        ax.set_xlabel(axes[0])
    grid[0][0].set_ylabel(axes[1])
    if drawn is not None:
        figure.colorbar(drawn, ax=list(grid[0]), shrink=0.85)
    means = (f"{printable(label)}: mean {_mean(panel):.3g}" for label, panel in panels.items())
    return finished(figure, name, title, f"{title}. {'; '.join(means)}. result.json holds every number.")


def _finish(ax: Any, axes: tuple[str, str], upright: float | None, level: float | None) -> None:
    ax.set_xlabel(axes[0])
    ax.set_ylabel(axes[1])
    if upright is not None:
        ax.axvline(upright, color=palette.SOFT.light, linewidth=1, linestyle=":")
    if level is not None:
        ax.axhline(level, color=palette.SOFT.light, linewidth=1, linestyle=":")


def _mean(panel: Sequence[Sequence[float]]) -> float:
    values = [value for row in panel for value in row]
    return sum(values) / max(1, len(values))
