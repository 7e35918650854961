"""The report's plots, by matplotlib: rates of each arm, rates by attack, and training curves.

Each function returns a `Plot`, or None where there is nothing to draw. Equal input gives equal bytes.
"""

from __future__ import annotations

import io
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safekey.comparison.arm_rates import ArmRate
from safekey.report import palette
from safekey.report.content import Content, Slice
from safekey.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: readable, searchable, small
    "svg.hashsalt": "safekey",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": palette.SOFT.light,
    "axes.labelcolor": palette.INK.light,
    "axes.titlecolor": palette.INK.light,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.facecolor": palette.GROUND.light,
    "figure.facecolor": palette.GROUND.light,
    "savefig.facecolor": palette.GROUND.light,
    "text.color": palette.INK.light,
    "text.parse_math": False,  # "$" in an arm's name is a dollar
    "xtick.color": palette.SOFT.light,
    "ytick.color": palette.SOFT.light,
    "xtick.labelcolor": palette.INK.light,
    "ytick.labelcolor": palette.INK.light,
    "axes.grid": True,
    "grid.color": palette.LINE.light,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
"""Of every plot."""
LOSSES: Mapping[str, str] = {
    "loss": "whole objective",
    "loss_sft": "fine-tuning loss (SFT)",
    "loss_qmm": "key sentence, query masked (QMM)",
    "loss_qsm": "key sentence, query swapped (QSM)",
    "loss_ksm": "after a wrong key sentence (KSM)",
    "loss_dpsh": "safety heads (DPSH)",
    "loss_key": "key sentence up-weighted",
    "eval_loss": "held-out: whole objective",
    "eval_loss_key": "held-out: key sentence",
}
KEY_ACCURACY: Mapping[str, str] = {
    "key_accuracy_visible": "query visible",
    "key_accuracy_hidden": "query hidden",
    "key_accuracy_swapped": "another row's query",
    "key_accuracy_recovered": "after a wrong key sentence",
    "head_auroc_understanding": "head on U: AUROC",
    "head_auroc_query_and_understanding": "head on X and U: AUROC",
}
_ONE_OBJECTIVE = ("loss", "loss_sft")
_POINTS = 150  # of one curve that are drawn
_MOST_SLICES = 40  # rows of one plot; the tables hold more


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        name: file name without its ending.
        title: what it shows.
        description: its content in words, for screen readers.
        svg: the SVG file.
        png: the PNG file.
    """

    name: str
    title: str
    description: str
    svg: str
    png: bytes


def draw(content: Content) -> list[Plot]:
    """Draw all plots that there is something to draw for."""
    import matplotlib as mpl

    with mpl.rc_context(dict(STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # characters that the font lacks; the SVG keeps them
        drawn = [_plane(content), _by_attack(content, "asr"), _by_attack(content, "orr")]
        drawn.append(_by_attack(content, "asr", prefill=True))
        drawn.append(_curves(content, "losses", "Losses over training steps", LOSSES, None))
        title = "Key-sentence accuracy and the heads' AUROC over training steps"
        drawn.append(_curves(content, "key-accuracy", title, KEY_ACCURACY, (0.0, 1.03)))
    return [plot for plot in drawn if plot is not None]


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """Return a figure of this size in inches, and its axes as an array [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def finished(figure: Figure, name: str, title: str, description: str) -> Plot:
    """Return the figure as SVG and PNG."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Plot(name, title, description, svg.getvalue(), png.getvalue())


def _plane(content: Content) -> Plot | None:
    """Attack success against over-refusal, with each arm's intervals and its runs as small dots."""
    both = [arm for arm in content.arms if {(arm, "asr"), (arm, "orr")} <= content.rates.keys()]
    if not both:
        return None
    figure, axes = new_figure(7.2, 4.6)
    ax: Axes = axes[0][0]
    said, top = [], [0.0, 0.0]
    for place, arm in enumerate(content.arms):
        if arm not in both:
            continue
        asr, orr = content.rates[arm, "asr"], content.rates[arm, "orr"]
        color = palette.arm(place).light
        (x, left, right), (y, down, up) = _bar(asr), _bar(orr)
        if len(asr.per_seed) == len(orr.per_seed) > 1:
            dots = [100 * rate for rate in asr.per_seed], [100 * rate for rate in orr.per_seed]
            ax.plot(*dots, linestyle="", marker=palette.marker(place), markersize=3.5, color=color, alpha=0.45)
        ax.errorbar(x, y, xerr=[[left], [right]], yerr=[[down], [up]], fmt=palette.marker(place), color=color,
                    markersize=9, elinewidth=1.6, capsize=3, label=_name(arm))  # fmt: skip
        top = [max(top[0], 100 * asr.high), max(top[1], 100 * orr.high)]
        said.append(f"{printable(arm)}: ASR {_percent(asr)}, ORR {_percent(orr)}")
    ax.set_xlim(-2, min(max(top[0] * 1.08, 10), 104))
    ax.set_ylim(-0.02 * max(top[1], 10), min(max(top[1] * 1.15, 10), 104))
    ax.set_xlabel("attack success rate, % (harmful requests fulfilled)")
    ax.set_ylabel("over-refusal rate, % (harmless ones refused)")
    ax.annotate("better", xy=(0.015, 0.02), xytext=(0.13, 0.145), xycoords="axes fraction", fontsize=9,
                color=palette.GOOD.light, arrowprops={"arrowstyle": "->", "color": palette.GOOD.light})  # fmt: skip
    _legend(ax, content)
    title = "Attack success against over-refusal"
    return finished(figure, "asr-orr", title, f"{title}; lower left is better. {'; '.join(said)}.")


def _by_attack(content: Content, metric: str, prefill: bool = False) -> Plot | None:
    """One row for each slice of a metric, one marker with its interval for each arm."""
    slices = [part for part in content.slices if part.metric == metric and content.is_prefill(part) == prefill]
    if not 2 <= len(slices) <= _MOST_SLICES:
        return None
    arms = list(enumerate(content.arms))
    step = 0.78 / max(len(arms), 1)
    figure, axes = new_figure(7.2, 0.9 + len(slices) * max(0.3, 0.13 * len(arms) + 0.08))
    ax: Axes = axes[0][0]
    for place, arm in arms:
        rows = [(row, content.slice_rates.get((arm, part))) for row, part in enumerate(slices)]
        known = [(row + (place - (len(arms) - 1) / 2) * step, rate) for row, rate in rows if rate is not None]
        if not known:
            continue
        x, low, high = zip(*(_bar(rate) for _, rate in known), strict=True)
        ax.errorbar(x, [y for y, _ in known], xerr=[low, high], fmt=palette.marker(place), linestyle="", markersize=5,
                    elinewidth=1.3, color=palette.arm(place).light, label=_name(arm))  # fmt: skip
    for row in range(len(slices) - 1):
        ax.axhline(row + 0.5, color=palette.LINE.light, linewidth=0.8)
    ax.set_yticks(range(len(slices)), [_name(part.label(slices)) for part in slices])
    ax.set_ylim(len(slices) - 0.5, -0.5)
    most = max((100 * rate.high for key, rate in content.slice_rates.items() if key[1] in slices), default=100)
    ax.set_xlim(-0.02 * most, min(1.05 * most, 102))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    words = {"asr": "attack success rate", "orr": "over-refusal rate"}[metric]
    ax.set_xlabel(f"{words}, %")
    _legend(ax, content)
    title = f"{words.capitalize()} {'under prefilling' if prefill else 'by benchmark and attack'}"
    description = f"{title}. The tables hold every number. {_said(content, slices)}"
    return finished(figure, f"{metric}-{'prefill' if prefill else 'by-attack'}", title, description)


def _bar(rate: ArmRate) -> tuple[float, float, float]:
    """Return a rate in percent and the lengths of its error bar below and above."""
    return 100 * rate.value, max(100 * (rate.value - rate.low), 0), max(100 * (rate.high - rate.value), 0)


def _legend(ax: Axes, content: Content) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=palette.marker(place), color=palette.arm(place).light, label=_name(arm))
        for place, arm in enumerate(content.arms)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _said(content: Content, slices: Sequence[Slice]) -> str:
    lines = []
    for part in slices:
        rates = [(arm, content.slice_rates.get((arm, part))) for arm in content.arms]
        known = ", ".join(f"{printable(arm)} {100 * rate.value:.1f} %" for arm, rate in rates if rate is not None)
        lines.append(f"{printable(part.label(slices))}: {known}.")
    return " ".join(lines)


def _curves(
    content: Content, name: str, title: str, wanted: Mapping[str, str], limits: tuple[float, float] | None
) -> Plot | None:
    """One panel for each logged number: a thin line for each run, a thick one for the arm's mean."""
    runs = {arm: [record.training.curves for record in records if record.training]
            for arm, records in content.records.items()}  # fmt: skip
    there = [key for key in wanted if any(key in curves for group in runs.values() for curves in group)]
    if set(_ONE_OBJECTIVE) == set(there):
        there = ["loss_sft"]  # the objective is the fine-tuning loss
    if not there:
        return None
    columns = min(2, len(there))
    rows = -(-len(there) // columns)
    figure, axes = new_figure(7.2, 2.6 * rows + 0.55, rows, columns)
    used: dict[str, Any] = {}
    for ax, key in zip(axes.flat, there, strict=False):
        for place, arm in enumerate(content.arms):
            curves = [curve[key] for curve in runs[arm] if key in curve]
            for curve in curves if len(curves) > 1 else ():
                ax.plot(*zip(*_thin(curve), strict=True), color=palette.arm(place).light, linewidth=0.7, alpha=0.4)
            if curves:
                points = _thin(mean_curve(curves))
                (used[arm],) = ax.plot(*zip(*points, strict=True), color=palette.arm(place).light, linewidth=1.9,
                                       linestyle=palette.dash(place))  # fmt: skip
        ax.set_title(wanted[key])
        ax.set_xlabel("step")
        if limits:
            ax.set_ylim(*limits)
        elif _wide([value for group in runs.values() for curve in group for _, value in curve.get(key, ())]):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
        else:
            ax.set_ylim(bottom=0)
    for ax in list(axes.flat)[len(there) :]:
        ax.set_visible(False)
    figure.legend(list(used.values()), [_name(arm) for arm in used], loc="outside lower center", ncols=4)
    last = "; ".join(
        f"{wanted[key]}, last: " + ", ".join(
            f"{printable(arm)} {mean_curve(curves)[-1][1]:.3g}"
            for arm in content.arms
            if (curves := [curve[key] for curve in runs[arm] if key in curve])
        )
        for key in there
    )  # fmt: skip
    return finished(figure, name, title, f"{title}: a thick line for each arm's mean, thin ones for its runs. {last}.")


def _wide(values: Sequence[float]) -> bool:
    """Whether the values span so much that a logarithmic scale is needed."""
    return min(values) > 0 and max(values) > 20 * min(values)


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean over runs at the steps that all of them logged; the first run's where none is shared."""
    shared = set.intersection(*({step for step, _ in curve} for curve in curves))
    if not shared:
        return list(curves[0])
    values: dict[float, list[float]] = {step: [] for step in sorted(shared)}
    for curve in curves:
        for step, value in curve:
            if step in values:
                values[step].append(value)
    return [(step, statistics.fmean(group)) for step, group in values.items()]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbouring points so that at most `_POINTS` remain."""
    size = -(-len(points) // _POINTS)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(group[-1][0], statistics.fmean(value for _, value in group)) for group in groups]


def _percent(rate: ArmRate) -> str:
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def _name(text: str, most: int = 32) -> str:
    """Shorten a name for a plot: one line, no control characters; matplotlib hides labels that begin with "_"."""
    line = " ".join(printable(text).split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return f"\u2060{line}" if line.startswith("_") else line
