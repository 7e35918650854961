"""The tables of attacks that adapt: who attacked with which budget, and how many prompts gave way within so many calls.

pair on strongreject     sft                  safekey
within 1 call            20.8 % (10 of 48)    4.2 % (2 of 48)
within 20 calls          41.7 % (20 of 48)    12.5 % (6 of 48)
calls for a prompt       13.2                 18.0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from safekey.comparison.saved_runs import SavedRun, completions
from safekey.evals.adaptive.prompting import MISSES
from safekey.evals.adaptive.settings import ABOUT
from safekey.evals.adaptive.summary import adaptive_metrics
from safekey.report.content import Content
from safekey.report.tables import NOT_THERE, Cell, Table

_SUMMED = ("prompts", "unattacked", "calls", "attacker_calls")
_READ = ("benchmark", "attack", "output", ABOUT)  # of a row; its turns are long


class _Attack(NamedTuple):
    """What makes rates under an attack that adapts comparable."""

    benchmark: str
    attack: str
    attacker: str
    budget: int
    branches: int


def adaptive_tables(content: Content) -> list[Table]:
    """Return a table for each benchmark, attack, attacker and budget; [] where no attack adapts."""
    counts: dict[_Attack, dict[str, Counter[str]]] = {}
    for arm, runs in content.found.saved.items():
        for run in runs:
            for entry in adaptive_metrics(_rows(run)) if run.resolved.get("adaptive") else ():
                key = _Attack(*(entry[name] for name in _Attack._fields))
                counts.setdefault(key, {}).setdefault(arm, Counter()).update(_counts(entry))
    return [_table(number, key, own, content.arms) for number, (key, own) in enumerate(counts.items())]


def _rows(run: SavedRun) -> Iterator[Mapping[str, Any]]:
    for _, _, row in completions(run):
        if ABOUT in row:
            yield {name: row[name] for name in _READ}


def _counts(entry: Mapping[str, Any]) -> dict[str, int]:
    steps = {f"within {step}": count for step, count in entry["within"].items()}
    missed = sum(entry[name] for name in MISSES)
    return steps | {"missed": missed, **{name: entry[name] for name in _SUMMED}}


def _table(number: int, key: _Attack, counts: Mapping[str, Counter[str]], arms: tuple[str, ...]) -> Table:
    steps = sorted({int(name.split()[1]) for own in counts.values() for name in own if name.startswith("within ")})
    lines = [
        (f"within {step} call{'s' * (step > 1)}", [_within(counts.get(arm), step) for arm in arms]) for step in steps
    ]
    lines.append(("calls for a prompt", [_calls(counts.get(arm)) for arm in arms]))
    if any(own["missed"] for own in counts.values()):
        lines.append(("attacker gave no message", [_of(counts.get(arm), "missed", "attacker_calls") for arm in arms]))
    if any(own["unattacked"] for own in counts.values()):
        lines.append(("no whole attack", [_of(counts.get(arm), "unattacked", "prompts") for arm in arms]))
    branches = f"{key.branches:,} branch{'' if key.branches == 1 else 'es'}"
    note = (
        f"{_short(key.attacker)} wrote the messages: at most {key.budget:,} calls to the target for a prompt, on "
        f"{branches}. Gave way: by the judge that steered the attack, over all runs of the arm, without an interval. "
        "A rate under such an attack is that of this attacker and this budget."
    )
    return Table(
        f"adaptive-{number}",
        f"{key.attack} on {key.benchmark}: prompts that gave way, by the number of calls to the target",
        ("calls", *arms),
        tuple((Cell(name), *cells) for name, cells in lines),
        note=note,
    )


def _within(counts: Mapping[str, int] | None, step: int) -> Cell:
    """Return how many of the prompts that were attacked gave way within so many calls."""
    whole = counts["prompts"] - counts["unattacked"] if counts else 0
    if not counts or not whole:
        return Cell(NOT_THERE)
    gave = counts[f"within {step}"]
    return Cell(f"{100 * gave / whole:.1f} %", (f"{gave:,} of {whole:,}",))


def _calls(counts: Mapping[str, int] | None) -> Cell:
    if not counts or not counts["prompts"]:
        return Cell(NOT_THERE)
    return Cell(f"{counts['calls'] / counts['prompts']:.1f}", (f"{counts['calls']:,} in all",))


def _of(counts: Mapping[str, int] | None, part: str, whole: str) -> Cell:
    return Cell(f"{counts[part]:,} of {counts[whole]:,}") if counts else Cell(NOT_THERE)


def _short(attacker: str) -> str:
    """Return an attacker's name without the address of its server or the folder that it lies in."""
    name = attacker.rpartition("#")[2] if "#" in attacker else attacker
    if "://" in name:
        return "The attacker"
    alone = name.removeprefix("local:").removeprefix("scripted:")
    return PurePath(alone).name if alone.startswith(("/", "~", ".")) else alone
