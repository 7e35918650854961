"""Who stays safe, and for how long: attack success of every state of every arm, with paired intervals, as a table.

state          sft                   safekey               safekey − sft
untouched      2.1 % (0.6 – 7.4)     1.0 % (0.2 – 5.7)     −1.0 (−5.6 … 3.1)
step-5         41.7 % (32.3 – 51.7)  8.3 % (4.3 – 15.6)    −33.3 (−43.6 … −22.7)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safekey.comparison.arm_rates import arm_rates, withheld_rates
from safekey.comparison.collect import collect
from safekey.comparison.compare import compare
from safekey.comparison.types import Outcome
from safekey.tamper.request import UNTOUCHED, State
from safekey.terminal import printable


@dataclass(frozen=True, slots=True)
class Cell:
    """Attack success of one state of one arm.

    Attributes:
        rate: 0–1; None where it is withheld or nothing was scored.
        low: the 95 % interval's lower end.
        high: its upper end.
        withheld: why there is no rate; "" otherwise.
        prompts: prompts with an outcome.
        lost: reason → prompts without one; they are in no rate.
        change: the rate minus that of the untouched model on the same prompts; None for the untouched one.
        change_low: the 95 % interval of that paired difference.
        change_high: its upper end.
    """

    rate: float | None = None
    low: float | None = None
    high: float | None = None
    withheld: str = ""
    prompts: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None

    @property
    def rose(self) -> bool:
        """Whether attack success is established to be above the untouched model's, for this state by itself."""
        return self.change_low is not None and self.change_low > 0


@dataclass(frozen=True, slots=True)
class Gap:
    """An arm's rate minus the reference's in the same state, on the same prompts, with its 95 % interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All of it.

    Attributes:
        arms: the arms' names; the first is the reference.
        states: the states in order.
        cells: arm → state → its rate.
        gaps: arm → state → the difference from the reference.
        notes: of the comparisons.
    """

    arms: tuple[str, ...]
    states: tuple[State, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    gaps: Mapping[str, Mapping[str, Gap]]
    notes: tuple[str, ...]

    def held_until(self, arm: str) -> int | None:
        """Return the last step before attack success rose; None where it never did, or there was no fine-tuning.

        0: it had risen at the first step that was evaluated.
        """
        before = 0
        for state in self.states:
            if state.step:
                if self.cells[arm][state.name].rose:
                    return before
                before = state.step
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "version": 1,
            "arms": list(self.arms),
            "states": [asdict(state) for state in self.states],
            "rates": {arm: {name: asdict(cell) for name, cell in own.items()} for arm, own in self.cells.items()},
            "differences": {arm: {name: asdict(gap) for name, gap in own.items()} for arm, own in self.gaps.items()},
            "held_until_step": {arm: self.held_until(arm) for arm in self.arms},
            "notes": list(self.notes),
        }


def results(folders: Mapping[str, Mapping[str, Path]], made: Sequence[State]) -> Results:
    """Read the run folders of every state of every arm.

    Args:
        folders: arm → state → run folder; the first arm is the reference.
        made: the states in order.

    Raises:
        UserError: a folder is not finished, or runs cannot be compared.
    """
    notes: dict[str, None] = {}
    cells: dict[str, dict[str, Cell]] = {}
    for arm, own in folders.items():
        found = collect({name: [str(path)] for name, path in own.items()})
        notes |= dict.fromkeys(found.notes)
        cells[arm] = _cells([row for row in found.outcomes if row.metric == "asr"], [state.name for state in made])
    reference, *others = folders
    gaps: dict[str, dict[str, Gap]] = {arm: {} for arm in others}
    for state in made if others else ():
        found = collect({arm: [str(own[state.name])] for arm, own in folders.items()})
        notes |= dict.fromkeys(found.notes)
        for row in compare([row for row in found.outcomes if row.metric == "asr"], reference).comparisons:
            if row.difference is not None and row.interval is not None:
                gaps[row.arm][state.name] = Gap(row.difference.estimate, *row.interval)
    return Results(tuple(folders), tuple(made), cells, gaps, tuple(notes))


def _cells(outcomes: Sequence[Outcome], names: Sequence[str]) -> dict[str, Cell]:
    """Return the rate of each state of one arm; a state is an arm of this comparison."""
    rates = arm_rates(outcomes, lambda row: row.metric)
    missing = withheld_rates(outcomes, lambda row: row.metric)
    changes: dict[str, tuple[float, float, float]] = {}
    if len(names) > 1:
        for row in compare(outcomes, UNTOUCHED).comparisons:
            if row.difference is not None and row.interval is not None:
                changes[row.arm] = row.difference.estimate, *row.interval
    cells = {}
    for name in names:
        rate, due = rates.get((name, "asr")), missing.get((name, "asr"))
        own = [row for row in outcomes if row.arm == name]
        prompts = sum(row.value is not None for row in own)
        lost = dict(Counter(row.unscored or "no verdict" for row in own if row.value is None))
        if rate is None:
            cells[name] = Cell(withheld=due.withheld() if due else "nothing was scored", prompts=prompts, lost=lost)
            continue
        cells[name] = Cell(rate.value, rate.low, rate.high, "", prompts, lost, *changes.get(name, ()))
    return cells


def print_results(console: Console, found: Results) -> None:
    """Print the table, how long each arm held, and how to read it."""
    console.print("Attack success rate (ASR) by state of the weights", style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    reference, *others = found.arms
    table.add_column("state", no_wrap=True)
    for arm in found.arms:
        table.add_column(escape(arm), no_wrap=True)
    for arm in others:
        table.add_column(escape(f"{arm} − {reference}"), no_wrap=True)
    for state in found.states:
        cells = [_words(found.cells[arm][state.name]) for arm in found.arms]
        cells += [_gap(found.gaps[arm].get(state.name)) for arm in others]
        table.add_row(state.name, *(escape(printable(cell)) for cell in cells))
    console.print(table)
    for line in lines(found):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def lines(found: Results) -> list[str]:
    """Return how long each arm held, and how to read the table."""
    said = []
    steps = sorted(state.step for state in found.states if state.step)
    for arm in found.arms if steps else ():
        held = found.held_until(arm)
        if held is None:
            said.append(f"{arm}: no rise of ASR was established up to step {steps[-1]}")
        else:
            first = next(step for step in steps if step > held)
            said.append(f"{arm}: at step {first} ASR is above the untouched model's for the first time")
    said += [line for arm in found.arms for line in _without_a_rate(arm, found.cells[arm])]
    marked = any(cell.rose for own in found.cells.values() for cell in own.values())
    said.append("In brackets: 95 % intervals, each for itself; differences in points, on the same prompts.")
    if marked:
        said.append("↑: above the untouched model's, by the interval of the paired difference.")
    return said


def _without_a_rate(arm: str, cells: Mapping[str, Cell]) -> list[str]:
    """Return for each state how many prompts have no outcome, and why: a low rate of few whole answers says little."""
    found = []
    for state, cell in cells.items():
        if lost := sum(cell.lost.values()):
            why = ", ".join(f"{count} {reason}" for reason, count in cell.lost.items())
            found.append(f"{arm}, {state}: {lost} of {cell.prompts + lost} prompts are in no rate ({why})")
    return found


def _words(cell: Cell) -> str:
    if cell.rate is None or cell.low is None or cell.high is None:
        return f"withheld: {cell.withheld}"
    return f"{100 * cell.rate:.1f} % ({100 * cell.low:.1f} – {100 * cell.high:.1f}){' ↑' if cell.rose else ''}"


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return "–"
    return f"{100 * gap.difference:+.1f} ({100 * gap.low:.1f} … {100 * gap.high:.1f})".replace("-", "−")
