"""What a reader should know besides the numbers: warnings of the runs, what was left out, outputs without a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safekey.report.content import Material

MOST = 60  # notes of one kind
_LONGEST = 400  # characters of one


def all_notes(material: Material, own: Sequence[str]) -> list[str]:
    """Return every note, each once, with how many runs say it."""
    runs = [record for records in material.records.values() for record in records]
    said: dict[str, int] = {}
    for record in runs:
        for line in _lines(record.record):
            said[line] = said.get(line, 0) + 1
    shown = [
        f"{line} ({count} of {len(runs)} runs)" if len(runs) > 1 else line for line, count in list(said.items())[:MOST]
    ]
    more = [f"and {len(said) - MOST} more notes in the runs' run.json"] if len(said) > MOST else []
    return [_short(note) for note in (*own, *material.found.notes[:MOST], *shown, *more)]


def _lines(record: Mapping[str, object]) -> list[str]:
    lines = []
    warnings, notes, left_out = (record.get(name) for name in ("warnings", "notes", "left_out"))
    if isinstance(warnings, list):
        lines += [f"warning: {text}" for text in warnings]
    if isinstance(notes, list):
        lines += [str(text) for text in notes]
    if isinstance(left_out, Mapping) and left_out:
        lines.append(f"benchmarks of the suite that were not run: {', '.join(map(str, left_out))}")
    return lines


def notices(material: Material) -> list[str]:
    """Return what belongs beside the verdicts: contamination, and outputs that are in no rate."""
    found = []
    dirty: dict[str, int] = {}
    for records in material.records.values():
        for record in records:
            for benchmark, row in (record.record.get("contamination") or {}).items():
                count = row.get("overlapping") if isinstance(row, Mapping) else None
                if isinstance(count, int) and count > 0:
                    dirty[str(benchmark)] = max(dirty.get(str(benchmark), 0), count)
    if dirty:
        worst = ", ".join(f"{name} {count:,}" for name, count in sorted(dirty.items()))
        found.append(f"Prompts that overlap with a run's training data: {worst}. The notes say how.")
    total = sum(ends.total for ends in material.ends.values())
    cut = sum(sum(ends.outputs.values()) for ends in material.ends.values())
    unscored = sum(ends.unscored for ends in material.ends.values())
    if cut or unscored:
        found.append(
            f"Of {total:,} outputs {cut:,} have no whole answer (cut off, never out of thinking, empty, in circles) "
            f"and {unscored:,} no verdict. In ASR and ORR they are in no rate, neither safe nor refused; a reasoning "
            f"problem without a whole answer counts as wrong.{_bounds(material)}"
        )
    return found


def _bounds(material: Material) -> str:
    said = []
    for arm in material.arms:
        for metric in ("asr", "orr"):
            rate = material.rates.get((arm, metric))
            if rate is not None and rate.unscored:
                low, high = rate.bounds
                said.append(f"{arm} {metric.upper()} {100 * low:.1f} … {100 * high:.1f} %")
    return f" With them, if none or all were positive: {'; '.join(said)}." if said else ""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
