"""Draw rows of each label, evenly over categories and sources, by a seed; the rows keep their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from safekey.making.rows import Aside, Outcome, Row
from safekey.making.work import Work


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Draw `select_harmful` and `select_benign` rows; what is not drawn is set aside, and too few are said."""
    config, taken, notes = work.config, set[str](), list[str]()
    for label, wanted in (("harmful", config.select_harmful), ("benign", config.select_benign)):
        found = [row for row in rows if row.label == label]
        if wanted is not None and len(found) < wanted:
            notes.append(f"only {len(found)} {label} rows; {wanted} were wanted")
        drawn = found if wanted is None else list(draw(found, wanted, config.balance, config.seed))
        taken |= {row.id for row in drawn}
    taken |= {row.id for row in rows if not row.label}
    kept = [row for row in rows if row.id in taken]
    dropped = [Aside(row.id, f"not drawn: enough {row.label} rows") for row in rows if row.id not in taken]
    return Outcome(kept, dropped, notes)


def draw(rows: Sequence[Row], count: int, balance: Sequence[str], seed: int) -> list[Row]:
    """Draw rows so that every group of the first key of `balance` gives equally many, and within it those of the next.

    A group that is too small gives all it has, and the others give more. A row's place in the draw depends on the seed
    and its id only, so another row more or less changes little.
    """
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).hexdigest())
    return list(_dealt(shuffled, balance))[:count]


def _dealt(rows: Sequence[Row], keys: Sequence[str]) -> Iterator[Row]:
    """Yield the rows so that the groups take turns."""
    if not keys:
        yield from rows
        return
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(getattr(row, keys[0])), []).append(row)
    turns = [_dealt(groups[name], keys[1:]) for name in sorted(groups)]
    while turns:
        going = []
        for group in turns:
            for row in group:
                going.append(group)
                yield row
                break
        turns = going
