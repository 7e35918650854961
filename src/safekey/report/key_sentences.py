"""The page's section on key sentences: tables of what `analysis.key_sentences` found in saved outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safekey.analysis.key_sentences.find import Diagnostics
from safekey.analysis.key_sentences.from_runs import diagnose
from safekey.analysis.key_sentences.groups import EVERY_ATTACK, Group
from safekey.analysis.key_sentences.records import KINDS
from safekey.report.content import PLAIN, Content
from safekey.report.tables import NOT_THERE, Cell, Table
from safekey.stats.intervals import Share

_KINDS = {"harmful": "harmful requests", "benign": "harmless requests", "problem": "problems"}
_TEXT = (
    "What is the stance of the key sentence K, which follows the understanding U? It refuses, hesitates (cautious), "
    "starts to help (complying), or none of these (other). SafeKey is about one failure: U names the harm, and K "
    "complies nevertheless.",
    "U and K are found by rule in saved outputs; the shares are of outputs that have a K. The intervals treat outputs "
    "as independent and pool seeds, so the true uncertainty is larger. The position of K's end is a median.",
)


@dataclass(frozen=True)
class KeySentenceSection:
    """The section's text and tables.

    Attributes:
        text: paragraphs.
        tables: all attacks together, for each kind of request.
        more: each attack alone, and outcomes by stance.
    """

    text: tuple[str, ...]
    tables: tuple[Table, ...]
    more: tuple[Table, ...]


def key_sentences(content: Content, found: Diagnostics | None = None) -> KeySentenceSection | None:
    """Return the section; None where there is nothing to show.

    Args:
        content: the report's content.
        found: the key sentences; None: they are found here, with the judges that the report uses.
    """
    if found is None:
        arms = {arm: [record.folder for record in records] for arm, records in content.records.items()}
        judges = sorted({str(judge) for by in content.found.chosen.values() for judge in by.values()})
        found = diagnose(arms, judges=judges, part=content.part)
    return section(found, content.arms)


def section(found: Diagnostics, arms: Sequence[str]) -> KeySentenceSection | None:
    """Return the section on these arms; None where there is nothing to show."""
    groups = sorted((group for group in found.groups if group.arm in arms), key=lambda group: arms.index(group.arm))
    if not groups:
        return None
    tables: list[Table] = []
    more: list[Table] = []
    keys = [(kind, prefilled) for prefilled in (False, True) for kind in KINDS]
    for number, (kind, prefilled) in enumerate(keys):
        own = [group for group in groups if (group.kind, group.prefilled) == (kind, prefilled)]
        if not own:
            continue
        title = _KINDS[kind] + (", prefilled" if prefilled else "")
        every = [group for group in own if group.attack == EVERY_ATTACK]
        shown = more if kind == "problem" else tables
        shown.append(_stances(f"stance-{number}", f"Key sentences: {title}", every))
        attacks = list(dict.fromkeys(group.attack for group in own if group.attack != EVERY_ATTACK))
        for place, attack in enumerate(attacks if len(attacks) > 1 else ()):
            name = "plain" if attack == PLAIN else attack
            rows = [group for group in own if group.attack == attack]
            more.append(_stances(f"stance-{number}-{place}", f"Key sentences: {title}, {name}", rows))
        more += [_outcomes(f"outcome-{number}-{place}", group, title) for place, group in enumerate(every)]
    rules = f"Stances by {found.stance_rule}; U names the harm by {found.naming_rule}."
    return KeySentenceSection((*_TEXT, rules), tuple(tables), tuple(table for table in more if table.rows))


def _stances(name: str, caption: str, groups: Sequence[Group]) -> Table:
    harmful = groups[0].kind == "harmful"
    stances = list(groups[0].stances)
    rows = []
    for group in groups:
        cells = [Cell(group.arm), Cell(f"{group.with_key_sentence:,}", (f"of {group.generations:,}",))]
        cells += [_share(group.stances[stance]) for stance in stances]
        cells += [_share(group.names), _share(group.goes_on)] if harmful else []
        rows.append((*cells, _end(group)))
    head = ("arm", "with K", *stances, *(("U names the harm", "names it, K complies") if harmful else ()), "K ends at")
    return Table(name, caption, head, tuple(rows))


def _outcomes(name: str, group: Group, title: str) -> Table:
    columns = list(next(iter(group.outcomes.values()), {}))
    rows = [
        (Cell(stance), *(_share(row[column]) for column in columns))
        for stance, row in group.outcomes.items()
        if any(share.n for share in row.values())
    ]
    return Table(name, f"{group.arm}, {title}: outcome by K's stance", ("stance", *columns), tuple(rows))


def _end(group: Group) -> Cell:
    if group.k_end is None or group.k_end_share is None:
        return Cell(NOT_THERE)
    return Cell(f"character {group.k_end.median:,.0f}", (f"{100 * group.k_end_share.median:.0f} % of the thinking",))


def _share(share: Share) -> Cell:
    if share.rate is None:
        return Cell("withheld", (f"{share.k:,} known",)) if share.k else Cell(NOT_THERE)
    return Cell(f"{100 * share.rate:.1f} %", (f"{100 * share.low:.1f} – {100 * share.high:.1f}",))
