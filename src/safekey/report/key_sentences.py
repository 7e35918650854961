"""The key-sentence section: tables from what `analysis.key_sentences.from_runs` finds in saved outputs.

Of each group (arm, kind of request, attack; "" is all attacks) this reads plain values (`Diagnostics.to_dict()`):
`generations`, `missing`, `stances`, `names`, `goes_on`, `k_end`, `k_end_share` and `outcomes`, whose leaves are shares,
{"k", "n", "rate", "low", "high"}, and spreads, {"median", "lower", "upper"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safekey.analysis.key_sentences.find import Diagnostics
from safekey.analysis.key_sentences.from_runs import diagnose
from safekey.report.content import Material
from safekey.report.tables import NOT_THERE, Cell, Table

_KINDS = {"harmful": "harmful requests", "benign": "harmless requests", "problem": "problems"}
_TEXT = (
    "What does the key sentence K do after the understanding U? It refuses, hesitates (cautious), goes to work "
    "(complying), or does none of these (other). The failure that SafeKey is about: U names the harm, and K complies "
    "all the same.",
    "Found by rule, in saved outputs; the shares are of outputs that have a K. Intervals treat outputs as independent "
    "and pool seeds, so read them as a lower bound of the uncertainty. Where K ends: medians.",
)


@dataclass(frozen=True)
class Section:
    """What the page shows.

    Attributes:
        text: paragraphs.
        tables: all attacks together, for each kind of request.
        more: each attack alone, and outcomes by stance.
    """

    text: tuple[str, ...]
    tables: tuple[Table, ...]
    more: tuple[Table, ...]


def key_sentences(material: Material, found: Diagnostics | None = None) -> Section | None:
    """Show what was found, or look into the saved outputs of all runs, with the judges that the report uses."""
    if found is None:
        arms = {arm: [record.folder for record in records] for arm, records in material.records.items()}
        judges = sorted({str(judge) for by in material.found.chosen.values() for judge in by.values()})
        found = diagnose(arms, judges=judges, part=material.part)
    plain = {"groups": [asdict(group) for group in found.groups], "stance_rule": found.stance_rule}
    return section({**plain, "naming_rule": found.naming_rule}, material.arms)


def section(found: Mapping[str, Any] | None, arms: Sequence[str]) -> Section | None:
    """Return the section; None where there is nothing to show."""
    groups = [group for group in (found or {}).get("groups", ()) if group["arm"] in arms]
    if not groups:
        return None
    tables: list[Table] = []
    more: list[Table] = []
    keys = list(dict.fromkeys((group["kind"], bool(group["prefilled"])) for group in groups))
    for number, (kind, prefilled) in enumerate(sorted(keys, key=lambda key: (key[1], list(_KINDS).index(key[0])))):
        own = [group for group in groups if (group["kind"], bool(group["prefilled"])) == (kind, prefilled)]
        title = _KINDS[kind] + (", prefilled" if prefilled else "")
        every = sorted((group for group in own if not group["attack"]), key=lambda group: arms.index(group["arm"]))
        shown = more if kind == "problem" else tables
        shown.append(_stances(f"stance-{number}", f"Key sentences: {title}", every, kind))
        attacks = list(dict.fromkeys(group["attack"] for group in own if group["attack"]))
        if len(attacks) > 1:
            for place, attack in enumerate(attacks):
                rows = sorted((g for g in own if g["attack"] == attack), key=lambda g: arms.index(g["arm"]))
                name = "plain" if attack == "none" else attack
                more.append(_stances(f"stance-{number}-{place}", f"Key sentences: {title}, {name}", rows, kind))
        more += [_outcomes(f"outcome-{number}-{place}", group, title) for place, group in enumerate(every)]
    rules = [f"Stances by {found['stance_rule']}; U names the harm by {found['naming_rule']}."] if found else []
    return Section((*_TEXT, *rules), tuple(tables), tuple(table for table in more if table.rows))


def _stances(name: str, caption: str, groups: Sequence[Mapping[str, Any]], kind: str) -> Table:
    stances = list(dict.fromkeys(stance for group in groups for stance in group["stances"]))
    harmful = kind == "harmful"
    rows = []
    for group in groups:
        missing = sum(group["missing"].values())
        cells = [Cell(group["arm"]), Cell(f"{group['generations'] - missing:,}", (f"of {group['generations']:,}",))]
        cells += [_share(group["stances"].get(stance)) for stance in stances]
        cells += [_share(group[key]) for key in ("names", "goes_on")] if harmful else []
        cells.append(_end(group.get("k_end"), group.get("k_end_share")))
        rows.append(tuple(cells))
    head = ("arm", "with K", *stances, *(("U names the harm", "names it, K complies") if harmful else ()), "K ends at")
    return Table(name, caption, head, tuple(rows))


def _outcomes(name: str, group: Mapping[str, Any], title: str) -> Table:
    outcomes = group["outcomes"]
    columns = list(dict.fromkeys(column for row in outcomes.values() for column in row))
    rows = [
        (Cell(stance), *(_share(row.get(column)) for column in columns))
        for stance, row in outcomes.items()
        if any(share["n"] for share in row.values())
    ]
    return Table(name, f"{group['arm']}, {title}: outcome by K's stance", ("stance", *columns), tuple(rows))


def _end(end: Mapping[str, Any] | None, share: Mapping[str, Any] | None) -> Cell:
    if not end or not share:
        return Cell(NOT_THERE)
    return Cell(f"character {end['median']:,.0f}", (f"{100 * share['median']:.0f} % of the thinking",))


def _share(share: Mapping[str, Any] | None) -> Cell:
    if not share or share.get("rate") is None:
        return Cell(NOT_THERE)
    return Cell(f"{100 * share['rate']:.1f} %", (f"{100 * share['low']:.1f} – {100 * share['high']:.1f}",))
