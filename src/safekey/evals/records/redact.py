"""Drop the texts of a finished evaluation: hashes, verdicts and classes stay, and every table can still be made.

A row of completions.jsonl afterwards, shortened::

    {"benchmark": "strongreject", "item": "row-1", "epoch": 1, "attack": "none", "output": "ok", "text": "",
     "request": "",
     "redacted": {"completion": "77ab…", "asked": "c01d…", "objective": "9f2c…", "text": "5d1f…", "characters": 812,
                  "prefilled": false, "parts": ["answer", "thinking", "whole"]}, ...}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from safekey.evals.judges.table import NOT_SHOWN
from safekey.evals.judges.verdicts import NOT_WHOLE, is_failure
from safekey.evals.records.folder import METRICS, EvalRun
from safekey.evals.records.rows import (
    REDACTED,
    Row,
    completion_hash,
    completion_in,
    is_final,
    objective_hash,
    prompt_hash,
    text_hash,
)
from safekey.run_folder import now, write_json
from safekey.schema import Part
from safekey.text.thinking import split_completion

_QUOTE = re.compile(r"['\"“‘«`(:{\[]")


def redact(run: EvalRun) -> int:
    """Drop the texts of every completion whose verdicts are known, and Inspect's logs, which hold the texts of all.

    A completion that a judge failed on keeps its text: `safekey judge` asks again, and drops it then. A kill in the
    middle leaves whole files; the same command goes on.

    Args:
        run: a finished evaluation, held by this process, with its metrics written.

    Returns:
        how many completions keep their texts.
    """
    rows, first = run.rows, (run.record.get("redacted") or {}).get("status") != "finished"
    run.note(redacted={"status": "running"})
    open_ones = {row["completion"] for row in rows.verdicts.rows() if is_failure(row)}
    judged = {row["completion"] for row in rows.verdicts.rows()} - open_ones

    def change(row: Row) -> Row:
        return redacted_row(row) if completion_hash(row) in judged and is_final(row) else row

    rows.completions.change(change)
    rows.verdicts.change(lambda row: redacted_verdict(row) if row["completion"] in judged else row)
    left = sum(REDACTED not in row for row in rows.completions.rows())
    for log in [*run.logs.glob("*.eval"), *run.logs.glob("*.json")]:
        log.unlink()
    run.note(redacted={"status": "finished", "time": now(), "with_text": left}, **_without_quotes(run, first))
    return left


def _without_quotes(run: EvalRun, first: bool) -> dict[str, Any]:
    """Return the record's warnings and problems without lines that quote a row; the metrics get the same warnings.

    The warnings are those of the metrics: some were read in texts that are gone now.
    """
    problems: Mapping[str, list[str]] = run.record.get("problems") or {}
    quoting = {line for found in problems.values() for problem in found for line in problem.splitlines()}
    warnings = [line for line in run.metrics.get("warnings") or () if line not in quoting]
    write_json(run.path / METRICS, {**run.metrics, "warnings": warnings})
    if not first:
        return {"warnings": warnings}
    counts = {name: [f"{len(found)} rows (texts dropped)"] if found else [] for name, found in problems.items()}
    return {"warnings": warnings, "problems": counts}


def drop_texts(folders: Iterable[Path]) -> None:
    """Drop the texts of finished evaluations that still have them."""
    for folder in folders:
        run = EvalRun(folder)
        if (run.record.get("redacted") or {}).get("status") != "finished":
            run.hold()
            try:
                redact(run)
            finally:
                run.release()


def redacted_row(row: Row) -> Row:
    """Return a row of completions.jsonl without its texts; one without texts as it is."""
    if REDACTED in row:
        return row
    split = split_completion(completion_in(row))
    kept = {
        "completion": completion_hash(row),
        "asked": prompt_hash(row),
        "objective": objective_hash(row),
        "text": text_hash(row["text"]),
        "characters": len(row["text"]),
        "prefilled": bool(row["prefill"]),
        "parts": [part for part in get_args(Part) if split.part(part).strip()],
    }
    texts: dict[str, Any] = {"text": "", "request": "", "target": "", "prefill": "", "messages": [], "metadata": {}}
    texts |= {"turns": []} if "turns" in row else {}
    return {**row, **texts, "prompt_ids": None, "error": row["error"] and _unquoted(str(row["error"])), REDACTED: kept}


def redacted_verdict(row: Row) -> Row:
    """Return a row of verdicts.jsonl without the judge's reply."""
    reason = str(row["unscored"])
    if reason and reason not in NOT_SHOWN and not reason.startswith(NOT_WHOLE):
        reason = _unquoted(reason)
    return {**row, "raw": "", "unscored": reason} | ({"why": _unquoted(str(row["why"]))} if row.get("why") else {})


def _unquoted(reason: str) -> str:
    """Return the beginning of a reason, up to where it may quote a text; a reason is never empty."""
    return _QUOTE.split(reason, maxsplit=1)[0].strip() or "not said"
