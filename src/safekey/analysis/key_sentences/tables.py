"""Tables of key sentences for the terminal: one of stances and one of outcomes for each arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from safekey.analysis.key_sentences.find import Diagnostics
from safekey.analysis.key_sentences.groups import EVERY_ATTACK, Group, withheld
from safekey.analysis.key_sentences.records import KeySentence, Kind
from safekey.analysis.key_sentences.stance import STANCES
from safekey.stats.intervals import Share
from safekey.terminal import printable

NOTABLE = 1.05  # from this factor on, the wider clustered interval is mentioned
_SHOWN = 160  # characters of a sentence in an example
_TITLES: Mapping[Kind, str] = {"harmful": "harmful requests", "benign": "benign requests", "problem": "problems"}


def stance_table(groups: list[Group]) -> Table:
    """Return one arm's stances, and how often U names the harm and K complies, by attack."""
    table = Table(
        box=box.SIMPLE_HEAD, title_justify="left", title=Text(f"{printable(groups[0].arm)}: the key sentence")
    )
    table.add_column("requests")
    table.add_column("attack", overflow="fold")
    table.add_column("with K", justify="right")
    for stance in STANCES:
        table.add_column(stance, justify="right")
    table.add_column("U names the harm", justify="right")
    table.add_column("names it, K complies", justify="right")
    for group in groups:
        shares = [_percent(group.stances[stance]) for stance in STANCES]
        harmful = group.kind == "harmful"
        table.add_row(
            Text(_title(group) if group.attack == EVERY_ATTACK else ""),
            Text(printable(group.attack) or "all"),
            f"{group.with_key_sentence}/{group.generations}",
            *shares,
            _percent(group.names) if harmful else "",
            _interval(group.goes_on) if harmful else "",
            style="bold" if group.attack == EVERY_ATTACK else "",
        )
    return table


def outcome_table(group: Group) -> Table | None:
    """Return the cross table of stance and outcome; None where no generation has a K."""
    columns = list(next(iter(group.outcomes.values()), {}))
    if not columns:
        return None
    title = Text(f"{printable(group.arm)}, {_title(group)}: outcome by stance")
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", title=title)
    table.add_column("stance")
    table.add_column("n", justify="right")
    for column in columns:
        table.add_column(Text(printable(column)), justify="right")
    for stance, row in group.outcomes.items():
        n = next(iter(row.values())).n
        table.add_row(stance, str(n), *(_outcome(row[column]) for column in columns))
    return table


def group_notes(groups: list[Group]) -> Iterator[str]:
    """Yield notes to the tables: where K ends, and why generations have no K."""
    for group in groups:
        if group.attack != EVERY_ATTACK:
            continue
        name = _title(group)
        if group.k_end is not None and group.k_end_share is not None:
            end, share = group.k_end, group.k_end_share
            token = f", about generated token {group.k_end_token.median:.0f}" if group.k_end_token else ""
            u_end = f"U ends at character {group.u_end.median:.0f}, " if group.u_end else ""
            yield (
                f"{name}: {u_end}K at {end.median:.0f} (quartiles {end.lower:.0f} and {end.upper:.0f}), "
                f"{100 * share.median:.0f} % of the thinking{token} (medians)"
            )
        if group.prefilled:
            words = {"model": "the model", "prefill": "the prefill", "both": "both"}
            said = ", ".join(f"{words[writer]} {count}" for writer, count in group.written_by.items())
            yield f"{name}: K written by {said or 'nobody'}"
        if group.missing:
            reasons = ", ".join(f"{printable(reason)} {count}" for reason, count in group.missing.items())
            yield f"{name}: {sum(group.missing.values())} of {group.generations} without a K ({reasons})"
        for stance, row in group.outcomes.items():
            if reason := withheld(row):
                yield f"{name}, {stance}: outcomes withheld ({reason})"
        if group.no_understanding:
            yield f"{name}: {group.no_understanding} begin with K and have no U"


def interval_note(groups: list[Group]) -> str:
    """Say whether intervals clustered by behaviour would be wider than the ones shown."""
    shares = [share for group in groups for share in (*group.stances.values(), group.goes_on) if share.n]
    repeated = [share for share in shares if share.clusters < share.n]
    if not repeated:
        return "Intervals: Wilson, 95 %; every generation has a behaviour of its own."
    known = [share.widening for share in repeated if share.widening is not None]
    wider = max(known, default=1.0)
    one = any(share.clusters == 1 for share in repeated)
    if wider < NOTABLE and not one:
        return "Intervals: Wilson, 95 %; behaviours repeat, but clustered intervals would hardly be wider."
    much = f"clustered ones would be up to {wider:.1f} times as wide. " if wider >= NOTABLE else ""
    alone = "Of one behaviour alone nothing can be said about others. " if one else ""
    return (
        "Intervals: Wilson, 95 %, as if generations were independent. Behaviours repeat (prompts with one objective, "
        f"attacks, samples, runs): {much}{alone}Training seeds are pooled."
    )


def examples(diagnostics: Diagnostics, arm: str, most: int) -> Iterator[str]:
    """Yield U | K of at most `most` generations a stance; harmful requests and the paper's failure come first."""
    for stance in STANCES:
        found = [each for each in diagnostics.results if each.source.arm == arm and each.stance == stance]
        found.sort(key=lambda each: (each.prefilled, each.source.kind != "harmful", not each.goes_on))
        for each in found[:most]:
            yield _example(each)


def _example(found: KeySentence) -> str:
    source = found.source
    marks = [source.attack, source.outcome, *(["prefilled"] if found.prefilled else [])]
    where = ", ".join(mark for mark in (source.benchmark, source.item, *marks) if mark)
    u, k = (_short(text) for text in (found.understanding, found.key_sentence))
    return printable(f"{found.stance} ({where})\n    {u or '(no U)'} | {k}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _title(group: Group) -> str:
    return _TITLES[group.kind] + (", prefilled" if group.prefilled else "")


def _outcome(share: Share) -> str:
    if share.rate is None:
        return f"withheld ({share.k})"
    return _interval(share) if share.k else "–"


def _percent(share: Share) -> str:
    return "–" if share.rate is None else f"{100 * share.rate:.1f} %"


def _interval(share: Share) -> str:
    if share.rate is None:
        return "–"
    return f"{100 * share.rate:.1f} % ({100 * share.low:.1f} – {100 * share.high:.1f})"
