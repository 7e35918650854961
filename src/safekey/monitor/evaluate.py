"""`safekey monitor eval`: how well the monitor tells harmful from benign requests, by attack, on rows it has not seen

Attacked rows are measured apart from plain ones: a monitor that is good on plain requests may be blind under an attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safekey.errors import UserError
from safekey.monitor.fit import readable, sha256_of
from safekey.monitor.measures import DRAWS, Measures, measure
from safekey.monitor.monitor import Monitor
from safekey.monitor.request import HEADS, Head, MeasureRequest
from safekey.monitor.rows import NONE, Row, labelled_rows
from safekey.monitor.states import Progress
from safekey.options import check_ranges
from safekey.stats.intervals import Interval, interval

ALL, PLAIN, ATTACKED = "all", "plain", "attacked"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Group:
    """What was measured on one group of rows, by one head.

    Attributes:
        name: "all", "plain", "attacked", or an attack's name.
        head: the head that scored.
        against: the benign rows that the harmful ones are held against: "own" ones of the group, or "all" where it has
            none.
        measures: AUROC and the like; None where a class is missing.
        flagged_harmful: the share of the group's harmful rows that are flagged; None without rows or a threshold.
        flagged_benign: the share of the group's own benign rows that are flagged.
        unread: rows that the head cannot read (no U); they are in no measure, and are not flagged.
    """

    name: str
    head: Head
    against: str
    measures: Measures | None
    flagged_harmful: Interval | None
    flagged_benign: Interval | None
    unread: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All groups, and what there is to say.

    Attributes:
        groups: for the head that decides first, then for the other.
        rows: rows that were measured.
        notes: what was left out, and warnings.
    """

    groups: tuple[Group, ...]
    rows: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        named = [
            {**asdict(group), "flagged_harmful": _plain(group.flagged_harmful),
             "flagged_benign": _plain(group.flagged_benign)}
            for group in self.groups
        ]  # fmt: skip
        return {"version": FORMAT, "rows": self.rows, "notes": list(self.notes), "groups": named}


def _plain(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()


def evaluate(request: MeasureRequest, progress: Progress | None = None) -> tuple[Monitor, Measured]:
    """Load a monitor and measure it; `progress` is told how many rows of how many are read.

    Raises:
        UserError: no rows that can be used, one class only, or no monitor.
    """
    check_ranges(request)
    if not request.data:
        raise UserError("nothing to measure on: give labelled rows with thinking (--data FILE)")
    rows, notes = labelled_rows(request, "a measurement")
    monitor = Monitor.load(request.model, device=request.device, dtype=request.dtype, batch_size=request.batch_size)
    notes += _seen(monitor, request)
    rows, readings, more = readable(monitor.loaded, rows)
    logits = monitor.logits(readings, progress)
    return monitor, measure_rows(monitor, rows, logits, [*notes, *more], seed=request.seed)


def _seen(monitor: Monitor, request: MeasureRequest) -> list[str]:
    """Warn where the rows that calibrated the monitor measure it."""
    if monitor.card is None:
        return ["this monitor was never fitted: probabilities are sigmoids of raw logits, and nothing is flagged"]
    known = {digest for digest in monitor.card.calibration.get("data", {}).values() if digest}
    same = [path for path in request.data if sha256_of(path) in known]
    theirs = monitor.card.calibration.get("half")
    apart = theirs and request.half and theirs != request.half and monitor.card.calibration["seed"] == request.seed
    if same and not apart:
        return [f"{', '.join(same)}: calibrated this monitor, so its numbers here are better than on other rows "
                "(--half gives two halves)"]  # fmt: skip
    return []


def measure_rows(
    monitor: Monitor, rows: Sequence[Row], logits: Sequence[tuple[float | None, float]], notes: Sequence[str] = (),
    *, seed: int = 0, draws: int = DRAWS,
) -> Measured:  # fmt: skip
    """Measure scored rows: all, plain, attacked, and each attack, for both heads; `draws` are the bootstrap's."""
    attacks = sorted({row.attack for row in rows if row.harmful and row.attack != NONE})
    heads: list[Head] = [monitor.head, *(head for head in HEADS if head != monitor.head)]
    groups = []
    for head in heads:
        scored = [(row, pair[HEADS.index(head)]) for row, pair in zip(rows, logits, strict=True)]
        groups += [_group(monitor, head, name, scored, (seed, draws)) for name in (ALL, PLAIN, ATTACKED, *attacks)]
    said = [*notes, *_promise(monitor, groups)]
    return Measured(tuple(group for group in groups if group.measures or group.unread), len(rows), tuple(said))


def _group(
    monitor: Monitor, head: Head, name: str, scored: Sequence[tuple[Row, float | None]], chance: tuple[int, int]
) -> Group:
    own = [(row, logit) for row, logit in scored if _in(row, name)]
    read = [(row, logit) for row, logit in own if logit is not None]
    benign = [pair for pair in read if not pair[0].harmful]
    against = "own"
    if not benign:
        benign, against = [(row, z) for row, z in scored if z is not None and not row.harmful], "all"
    both = [pair for pair in read if pair[0].harmful] + benign
    labels = [bool(row.harmful) for row, _ in both]
    measures = None
    if len(set(labels)) == 2:
        measures = measure(
            [z for _, z in both], labels, [row.behaviour for row, _ in both],
            [monitor.probability(head, z) for _, z in both], seed=chance[0], draws=chance[1],
        )  # fmt: skip
    decides = monitor.card is not None and head == monitor.head
    return Group(
        name, head, against, measures,
        _flagged(monitor, [pair for pair in own if pair[0].harmful]) if decides else None,
        _flagged(monitor, [pair for pair in own if not pair[0].harmful]) if decides else None,
        len(own) - len(read),
    )  # fmt: skip


def _in(row: Row, name: str) -> bool:
    if name in (ALL, PLAIN, ATTACKED):
        return name == ALL or (row.attack == NONE) == (name == PLAIN)
    return row.attack == name


def _flagged(monitor: Monitor, own: Sequence[tuple[Row, float | None]]) -> Interval | None:
    if not own or monitor.card is None:
        return None
    limit = monitor.card.threshold.logit
    flags = [float(logit is not None and logit > limit) for _, logit in own]
    return interval(flags, [row.behaviour for row, _ in own])


def _promise(monitor: Monitor, groups: Sequence[Group]) -> list[str]:
    """Say whether the promised rate held on these rows."""
    found = next((group.flagged_benign for group in groups if group.name == ALL and group.flagged_benign), None)
    if monitor.card is None or found is None:
        return []
    limit = monitor.card.threshold.fpr
    word = "held" if found.value <= limit else "was exceeded"
    text = f"promised: at most {100 * limit:g} % of benign rows; here {100 * found.value:.2f} % "
    text += f"({100 * found.low:.2f} – {100 * found.high:.2f}): it {word}"
    if found.low > limit:
        text += "; these rows are not like those that calibrated it"
    return [text]
