"""The page's notes: warnings of the runs, what was left out, outputs without a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safekey.comparison.types import METRICS
from safekey.report.content import OUTPUT, UNJUDGED, UNSCORED, Content, Ends

MOST = 60  # notes of one kind
_LONGEST = 400  # characters of one
_NAMED = 4  # rates that a note names


def all_notes(content: Content, own: Sequence[str]) -> list[str]:
    """Return every note once, with the number of runs that have it."""
    runs = [record for records in content.records.values() for record in records]
    said: dict[str, int] = {}
    for record in runs:
        for line in _lines(record.record):
            said[line] = said.get(line, 0) + 1
    shown = [
        f"{line} ({count} of {len(runs)} runs)" if len(runs) > 1 else line for line, count in list(said.items())[:MOST]
    ]
    more = [f"and {len(said) - MOST} more notes in the runs' run.json"] if len(said) > MOST else []
    return [_short(note) for note in (*own, *content.found.notes[:MOST], *_corrected(content), *shown, *more)]


def _corrected(content: Content) -> list[str]:
    """Return by what rates were corrected for their judge's error, why one was not, and what is doubtful."""
    said: dict[str, list[str]] = {}
    for (arm, part), found in content.corrected.items():
        name = part.upper() if isinstance(part, str) else f"{part.metric.upper()} on {part.label(content.slices)}"
        line = f"not corrected for the judge's error, by {found.source}: {found.refused}" if found.refused else ""
        for text in [line] if line else [f"corrected by {found.source}", *(f"† {flag}" for flag in found.flags)]:
            said.setdefault(text, []).append(f"{arm} {name}")
    return [f"{text} ({_few(names)})" for text, names in list(said.items())[:MOST]]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _lines(record: Mapping[str, object]) -> list[str]:
    lines = []
    warnings, notes, left_out = (record.get(name) for name in ("warnings", "notes", "left_out"))
    if isinstance(warnings, list):
        lines += [f"warning: {text}" for text in warnings]
    if isinstance(notes, list):
        lines += [str(text) for text in notes]
    if record.get("redacted"):
        lines.append("texts dropped (--redact): no transcripts, no key sentences")
    if isinstance(left_out, Mapping) and left_out:
        lines.append(f"benchmarks of the suite that were not run: {', '.join(map(str, left_out))}")
    return lines


def notices(content: Content) -> list[str]:
    """Return the notes shown beside the verdicts: contamination, withheld rates, and outputs that are in no rate."""
    found = []
    dirty: dict[str, int] = {}
    for records in content.records.values():
        for record in records:
            for benchmark, row in (record.record.get("contamination") or {}).items():
                count = row.get("overlapping") if isinstance(row, Mapping) else None
                if isinstance(count, int) and count > 0:
                    dirty[str(benchmark)] = max(dirty.get(str(benchmark), 0), count)
    if dirty:
        worst = ", ".join(f"{name} {count:,}" for name, count in sorted(dirty.items()))
        found.append(f"Prompts that overlap with a run's training data: {worst}. The notes say how.")
    found += _withheld(content)
    ends = sum(content.ends.values(), Ends())
    cut = sum(count for (group, _), count in ends.items() if group == OUTPUT)
    if cut or ends[UNSCORED] or ends[UNJUDGED]:
        found.append(
            f"Of {ends.total():,} outputs {cut:,} have no whole answer (cut off, reasoning not closed, empty, "
            f"repetitive, failed), {ends[UNSCORED]:,} are unscored and {ends[UNJUDGED]:,} not judged. They are not "
            "counted in ASR and ORR, neither as safe nor as refused; a reasoning problem without a whole answer counts "
            f"as wrong, but one that was cut off behind its answer counts by that answer.{_bounds(content)}"
        )
    return found


def _withheld(content: Content) -> list[str]:
    """Return what is missing from the rates that are withheld, and what to do about it."""
    lost = {(arm, m): content.withheld[arm, m] for arm in content.arms for m in METRICS if (arm, m) in content.withheld}
    if not lost:
        return []
    said = "; ".join(f"{arm} {metric.upper()}: {due.words()}, of {due.base:,}" for (arm, metric), due in lost.items())
    advice = dict.fromkeys(line for due in lost.values() for line in due.advice())
    return [
        f"Rates are withheld because too many verdicts are missing: {said}. What is missing may be any part of the "
        f"prompts. What to do: {'; '.join(advice)}. --allow-unscored shows the rates all the same."
    ]


def _bounds(content: Content) -> str:
    said = []
    for arm in content.arms:
        for metric in ("asr", "orr"):
            rate = content.rates.get((arm, metric))
            if rate is not None and rate.unscored:
                low, high = rate.bounds
                said.append(f"{arm} {metric.upper()} {100 * low:.1f} … {100 * high:.1f} %")
    return f" The rates if none, or all, of them were positive: {'; '.join(said)}." if said else ""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
