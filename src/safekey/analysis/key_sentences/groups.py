"""Counts over key sentences by arm: stances, outcomes by stance, and the paper's failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from safekey.analysis.key_sentences.records import KINDS, KeySentence, Kind, Writer
from safekey.analysis.key_sentences.stance import STANCES, Stance
from safekey.evals.summary.withheld import MISSING, NOT_JUDGED, SCORED, WITHOUT_ANSWER, due
from safekey.stats.intervals import Share, Spread, share_of, spread_of

EVERY_ATTACK = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The numbers of one arm on one kind of request, over all attacks or under one.

    Attributes:
        arm: the arm's name.
        kind: the kind of request.
        attack: the attack's name; "" for all of them together.
        prefilled: whether these are the prefilled generations.
        generations: how many there are.
        missing: how many have no K, by reason.
        no_understanding: how many have a K and no U: the thinking starts with K.
        written_by: who wrote K, where there is one.
        stances: stance → its share among the generations with a K.
        names: how often U names the harm, among harmful requests with a K for which this can be decided; an empty U
            names nothing.
        goes_on: how often U names the harm and K complies, of the same requests.
        goes_on_if_named: how often K complies where U names the harm.
        outcomes: stance → outcome → its share among the generations of that stance.
        u_end: where U ends, in characters of the thinking.
        k_end: where K ends.
        k_end_share: where K ends, as a share of the thinking.
        k_end_token: about how many generated tokens in K ends.
    """

    arm: str
    kind: Kind
    attack: str
    prefilled: bool
    generations: int
    missing: Mapping[str, int]
    no_understanding: int
    written_by: Mapping[Writer, int]
    stances: Mapping[Stance, Share]
    names: Share
    goes_on: Share
    goes_on_if_named: Share
    outcomes: Mapping[Stance, Mapping[str, Share]]
    u_end: Spread | None
    k_end: Spread | None
    k_end_share: Spread | None
    k_end_token: Spread | None

    @property
    def with_key_sentence(self) -> int:
        """How many have a K."""
        return self.generations - sum(self.missing.values())


def group_all(results: Sequence[KeySentence]) -> tuple[Group, ...]:
    """Return all groups: arms in their order, harmful requests first, unprefilled ones first, all attacks first."""
    members: dict[tuple[str, Kind, bool, str], list[KeySentence]] = {}
    for result in results:
        source = result.source
        for attack in (EVERY_ATTACK, source.attack or "none"):
            members.setdefault((source.arm, source.kind, result.prefilled, attack), []).append(result)
    arms = list(dict.fromkeys(arm for arm, *_ in members))

    def order(key: tuple[str, Kind, bool, str]) -> tuple[int, bool, int, bool, bool, str]:
        arm, kind, prefilled, attack = key
        return arms.index(arm), prefilled, KINDS.index(kind), attack != EVERY_ATTACK, attack != "none", attack

    return tuple(_group(*key, members[key]) for key in sorted(members, key=order))


def _group(arm: str, kind: Kind, prefilled: bool, attack: str, members: Sequence[KeySentence]) -> Group:
    found = [each for each in members if not each.missing]
    known = [each for each in found if each.names_harm is not None]
    named = [each for each in known if each.names_harm]
    return Group(
        arm=arm,
        kind=kind,
        attack=attack,
        prefilled=prefilled,
        generations=len(members),
        missing=dict(Counter(each.missing for each in members if each.missing).most_common()),
        no_understanding=sum(each.u_end is None for each in found),
        written_by=dict(Counter(each.written_by for each in found).most_common()),
        stances={stance: _share(found, [each.stance == stance for each in found]) for stance in STANCES},
        names=_share(known, [each.names_harm is True for each in known]),
        goes_on=_share(known, [each.goes_on for each in known]),
        goes_on_if_named=_share(named, [each.goes_on for each in named]),
        outcomes=_outcomes(found),
        u_end=spread_of([each.u_end for each in found if each.u_end is not None]),
        k_end=spread_of([each.k_end for each in found if each.k_end is not None]),
        k_end_share=spread_of([each.k_end / each.thinking_chars for each in found if each.k_end is not None]),
        k_end_token=spread_of([each.k_end_token for each in found if each.k_end_token is not None]),
    )


def _share(members: Sequence[KeySentence], hits: Sequence[bool]) -> Share:
    return share_of(hits, [each.source.cluster for each in members])


def _outcomes(found: Sequence[KeySentence]) -> dict[Stance, dict[str, Share]]:
    """Return the cross table; every stance that occurs has a row, and every outcome of the group a column.

    Where too many verdicts are missing, the shares of the judge's own classes are withheld: their rate is None.
    """
    columns = [outcome for outcome, _ in Counter(each.source.outcome or NOT_JUDGED for each in found).most_common()]
    table: dict[Stance, dict[str, Share]] = {}
    for stance in STANCES:
        row = [each for each in found if each.stance == stance]
        if row:
            shares = {
                column: _share(row, [(each.source.outcome or NOT_JUDGED) == column for each in row])
                for column in columns
            }
            hidden = {column for column in columns if withheld(shares) and column not in (*MISSING, *WITHOUT_ANSWER)}
            table[stance] = {
                column: replace(share, rate=None, low=0.0, high=1.0) if column in hidden else share
                for column, share in shares.items()
            }
    return table


def withheld(outcomes: Mapping[str, Share]) -> str:
    """Return why the outcomes of one stance are withheld, by the rule of every rate; "" where they are given."""
    counts = {name: share.k for name, share in outcomes.items()}
    scored = sum(count for name, count in counts.items() if name not in (*MISSING, *WITHOUT_ANSWER))
    found = due({**counts, SCORED: scored})
    return found.withheld() if found.missing else ""
