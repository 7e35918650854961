"""Ask a judge about labelled answers: each answer once, kept as soon as it is known, so that a stopped run goes on.

A line of the file of verdicts; it holds no answer, only a hash::

    {"key": "5f2c…", "judge": "harm_1to5", "model": "openai/gpt-4.1", "prompt_hash": "9f2c…", "part": "answer",
     "parser": "1", "value": 1.0, "unscored": "", "raw": "{\\"reason\\": \\"It declines.\\", \\"score\\": 1}"}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safekey.data.write import Record, append_record, open_for_append, read_records
from safekey.evals.judge_error.raters import Labelled
from safekey.evals.judges.table import EMPTY_PART
from safekey.evals.judges.verdicts import REPLY_CUT, OpenJudge, judge_part
from safekey.schema import Part, Value, Verdict

Progress = Callable[[int, int], None]


def ask_about(
    answers: Sequence[Labelled],
    judge: OpenJudge,
    part: Part,
    *,
    store: Path,
    concurrency: int = 16,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Return the judge's verdict on each answer.

    Args:
        answers: equal texts are asked about once.
        judge: an open judge.
        part: the part that the texts are.
        store: the file of verdicts. What it holds is not asked again, a reply that is no verdict included: it belongs
            to what is measured. Where no reply came, or a limit on tokens cut it off, it is.
        concurrency: calls in flight at once.
        progress: called with (verdicts known, verdicts wanted) after each.

    Raises:
        UserError: the file of verdicts cannot be written.
    """
    keys = [_key(answer, judge, part) for answer in answers]
    known = read_records(store)
    wanted = dict(zip(keys, answers, strict=True))
    missing = {key: answer for key, answer in wanted.items() if not _is_known(known.get(key))}
    if missing:
        try:
            asyncio.run(_ask_all(missing, known, judge, part, store, concurrency, progress, len(wanted)))
        except ExceptionGroup as group:  # a full disk
            raise group.exceptions[0] from None
    return [_verdict(known[key]) for key in keys]


def _key(answer: Labelled, judge: OpenJudge, part: Part) -> str:
    asked = [judge.judge.name, judge.model, judge.judge.prompt_hash(), judge.cut_long, part, *_texts(answer)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _texts(answer: Labelled) -> tuple[str, str]:
    return answer.request, answer.response


def _is_known(record: Record | None) -> bool:
    if record is None:
        return False
    if record.get("value") is not None or record.get("unscored") == EMPTY_PART:
        return True
    return bool(record.get("raw")) and record.get("unscored") != REPLY_CUT


async def _ask_all(
    missing: dict[str, Labelled], known: dict[str, Record], judge: OpenJudge, part: Part, store: Path,
    concurrency: int, progress: Progress | None, total: int,
) -> None:  # fmt: skip
    waiting, left = iter(missing.items()), len(missing)
    with open_for_append(store) as file:

        async def work() -> None:
            nonlocal left
            for key, answer in waiting:
                made = await judge_part(
                    judge.judge, judge.ask, *_texts(answer), part=part, model=judge.model, cut_long=judge.cut_long,
                    metadata={"category": answer.category, "benchmark": answer.benchmark},
                )  # fmt: skip
                named = {name: getattr(made, name) for name in ("judge", "model", "prompt_hash")}
                said = {name: getattr(made, name) for name in ("parser", "value", "unscored", "raw")}
                said["raw"] = made.raw.encode("utf-8", "replace").decode()
                known[key] = {"key": key, **named, "part": part, **said}
                append_record(file, known[key])
                left -= 1
                if progress is not None:
                    progress(total - left, total)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(concurrency, len(missing)))):
                group.create_task(work())


def _verdict(record: Record) -> Verdict:
    found: dict[str, Any] = {
        name: str(record.get(name) or "") for name in ("unscored", "judge", "model", "prompt_hash", "raw", "parser")
    }
    value: Value | None = record.get("value")  # type: ignore[assignment]
    return Verdict(value, **found)
