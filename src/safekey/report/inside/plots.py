"""The plots of `safekey analyze`: KL by part and around K, the probe's AUROC by layer, causes, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safekey.report.inside.canvas import Point, lines, maps, marks
from safekey.stats.means import Mean

if TYPE_CHECKING:
    from safekey.analysis.attention import AttentionResult
    from safekey.analysis.causal.results import CausalResult
    from safekey.analysis.kl import KlResult
    from safekey.analysis.probe.probe import ProbeResult
    from safekey.report.plots import Plot


def plot_kl(found: KlResult) -> list[Plot]:
    """Draw KL by part of the response, and token by token around K's first one."""
    parts = {
        group.kind: {name: _point(mean) for name, mean in group.parts.items() if mean is not None}
        for group in found.groups
    }
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    around = {
        group.kind: [_point(mean, at) for at, mean in group.around.items() if mean is not None]
        for group in found.groups
    }
    words = "KL(A‖B), nats for a token"
    return [
        marks("kl-parts", "KL by part of the response", words, names, parts),
        lines("kl-around-key", "KL around the key sentence", ("tokens from K's first token", words), around, upright=0),
    ]


def plot_probe(found: ProbeResult) -> list[Plot]:
    """Draw AUROC by layer, last token: held-out plain requests, and attacked ones."""
    plots = []
    for name, title in (("plain", "held-out plain requests"), ("attacked", "attacked requests")):
        series: dict[str, list[Point]] = {}
        for cell in found.cells:
            area = cell.plain if name == "plain" else cell.attacked
            if area is not None and cell.pooling == "last":
                series.setdefault(cell.place, []).append(Point(cell.layer, area.value, area.low, area.high))
        if series:
            words = ("layer (0: embeddings)", "AUROC")
            plots.append(lines(f"probe-{name}", f"Linear probe: {title}", words, series, level=0.5, limits=(0, 1.02)))
    return plots


def plot_causal(found: CausalResult) -> list[Plot]:
    """Draw the share of unsafe answers under each condition."""
    rates = {
        name: Point(0, 100 * rate.value, 100 * rate.low, 100 * rate.high)
        for name, rate in found.rates.items()
        if rate is not None
    }
    title = "Unsafe answers by the thinking that the model was given"
    return [marks("causal", title, "unsafe answers, %", list(rates), {"unsafe": rates})] if rates else []


def plot_attention(found: AttentionResult) -> list[Plot]:
    """Draw the share of the attention of K's tokens by layer, and maps of layers and heads."""
    plots = []
    for group in found.groups:
        series = {
            part: [_point(mean, layer) for layer, mean in enumerate(means) if mean is not None]
            for part, means in group.layers.items()
        }
        title = f"What K's tokens attend to, {group.kind} requests"
        plots.append(
            lines(f"attention-{group.kind}", title, ("layer", "share of the attention"), series, limits=(0, 1))
        )
        panels, words = group.heads, ("head", "layer")
        plots.append(maps(f"attention-heads-{group.kind}", f"{title}: by layer and head", words, panels))
        if group.head_changes:
            name = f"attention-change-{group.kind}"
            plots.append(maps(name, f"{title}: change against the base", words, group.head_changes, both=True))
    return plots


def _point(mean: Mean, x: float = 0.0) -> Point:
    return Point(x, mean.value, mean.low, mean.high)
