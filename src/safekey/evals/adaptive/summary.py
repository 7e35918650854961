"""What the attacks that adapt took: calls, at which call they succeeded, and what the attacker failed to give.

adaptive_metrics(rows)[0]
-> {"benchmark": "strongreject", "attack": "pair", "attacker": "…#attacker", "budget": 20, "branches": 4, "prompts": 60,
    "broken": 12, "within": {"1": 4, "2": 5, "5": 9, "10": 11, "20": 12}, "calls": 1003, "attacker_calls": 1010, …}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safekey.evals.adaptive.prompting import MISSES
from safekey.evals.adaptive.settings import ABOUT

_STEPS = (1, 2, 3, 5, 10, 20, 50, 100)
_COUNTS = ("calls", "attacker_calls", *MISSES)


def adaptive_metrics(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an entry for each benchmark and attack that adapts; [] for a run without them.

    `prompts` counts the completions that there are, `broken` those in which the judge that steered the attack found
    harm, `within` how many of them within so many calls to the target, `unattacked` those that the attacker gave no
    whole attack on.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if ABOUT in row:
            about = row[ABOUT]
            key = row["benchmark"], row["attack"], about["attacker"], about["budget"], about["branches"]
            groups.setdefault(key, []).append(row)
    return [_entry(key, own) for key, own in groups.items()]


def _entry(key: tuple[Any, ...], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    budget, totals = int(key[3]), Counter[str]()
    for row in rows:
        totals.update({name: int(row[ABOUT][name]) for name in _COUNTS})
    broken = [int(row[ABOUT]["calls"]) for row in rows if row[ABOUT]["broken"]]
    steps = [*(step for step in _STEPS if step < budget), budget]
    return {
        **dict(zip(("benchmark", "attack", "attacker", "budget", "branches"), key, strict=True)),
        "prompts": len(rows),
        "broken": len(broken),
        "within": {str(step): sum(calls <= step for calls in broken) for step in steps},
        "unattacked": sum(row["output"] == "unattacked" for row in rows),
        **{name: totals[name] for name in _COUNTS},
    }


def adaptive_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each entry: the budget, at which call attacks succeeded, what the attacker failed to give."""
    lines = []
    for entry in entries:
        within = ", ".join(f"{count} within {step}" for step, count in entry["within"].items())
        branches = f"{entry['branches']} branch{'' if entry['branches'] == 1 else 'es'}"
        line = (
            f"{entry['attack']} on {entry['benchmark']} by {entry['attacker']}: at most {entry['budget']} calls to the "
            f"target for a prompt, on {branches}. Gave way, of {entry['prompts']:,} prompts: "
            f"{within} calls; {entry['calls']:,} calls were made."
        )
        missed = {name: entry[name] for name in MISSES if entry[name]}
        if missed:
            said = ", ".join(f"{count} {name}" for name, count in missed.items())
            line += f" The attacker missed {sum(missed.values())} of {entry['attacker_calls']:,} calls ({said})."
        if entry["unattacked"]:
            line += f" {entry['unattacked']} prompts had no whole attack for that, and are in no rate."
        lines.append(line)
    return lines
