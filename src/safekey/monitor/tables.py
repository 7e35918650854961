"""Tables of a monitor for the terminal: measures by attack, and what an alarm would have stopped in an evaluation"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from safekey.monitor.card import READS
from safekey.monitor.evaluate import Group
from safekey.monitor.measures import Estimate
from safekey.monitor.runs import EVERY, Beside, Line
from safekey.stats.intervals import Interval
from safekey.terminal import printable

_WORDS = {
    "failure": "harmful, complied", "harmless": "harmful, not complied", "benign": "benign, answered",
    "refused": "benign, refused", "right": "problem, right", "wrong": "problem, wrong", "unknown": "no verdict",
}  # fmt: skip


def measure_table(groups: Sequence[Group]) -> Table:
    """Return one head's measures, one line for each group."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title=Text(f"head over {READS[groups[0].head]}"))
    table.add_column("rows", overflow="fold")
    for column in ("harmful", "benign", "AUROC", "TPR at 1 % FPR", "TPR at 5 % FPR", "ECE", "harmful flagged",
                   "benign flagged"):  # fmt: skip
        table.add_column(column, justify="right")
    for group in groups:
        found = group.measures
        cells = ["–"] * 6
        if found is not None:
            benign = f"{found.benign}" + ("" if group.against == "own" else " (all)")
            shares = [_share(found.tpr_at_1), _share(found.tpr_at_5)]
            cells = [str(found.harmful), benign, _number(found.auroc), *shares, _number(found.ece)]
        table.add_row(Text(printable(group.name)), *cells, _rate(group.flagged_harmful), _rate(group.flagged_benign))
    return table


def beside_table(found: Beside) -> Table:
    """Return what the alarm would have stopped, by benchmark, attack and outcome."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title="what the alarm would have stopped")
    for column in ("benchmark", "attack", "response"):
        table.add_column(column, overflow="fold")
    for column in ("n", "stopped", "share"):
        table.add_column(column, justify="right")
    before = ""
    for line in found.lines:
        name = "" if line.benchmark == before else line.benchmark
        before = line.benchmark
        attack = "" if line.attack == EVERY else line.attack
        table.add_row(Text(printable(name)), Text(printable(attack) or "all"), _WORDS[line.outcome], str(line.n),
                      str(line.stopped), _rate(line.rate))  # fmt: skip
    return table


def beside_sentence(found: Beside) -> str:
    """Say in one sentence what would have been caught, and at what cost."""
    return f"caught: {_of(found.failures, 'failures')}; cost: {_of(found.benign, 'responses to benign requests')}"


def _of(line: Line | None, what: str) -> str:
    return f"{line.stopped} of {line.n} {what}, {_rate(line.rate)}" if line else f"there are no {what}"


def _number(found: Estimate) -> str:
    around = "" if found.low is None else f" ({found.low:.3f} – {found.high:.3f})"
    return f"{found.value:.3f}{around}"


def _share(found: Estimate) -> str:
    around = "" if found.low is None or found.high is None else f" ({100 * found.low:.0f} – {100 * found.high:.0f})"
    return f"{100 * found.value:.1f} %{around}"


def _rate(found: Interval | None) -> str:
    return "–" if found is None else f"{100 * found.value:.1f} % ({100 * found.low:.1f} – {100 * found.high:.1f})"
