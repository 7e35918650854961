"""Judge one completion: every judge on every part; each verdict is a row of `verdicts.jsonl` and is asked for once.

One row::

    {"benchmark": "strongreject", "item": "row-1", "epoch": 1, "part": "answer", "kind": "harm", "judge": "harm_1to5",
     "model": "openai/gpt-4.1", "prompt_hash": "9f2c…", "parser": "1", "completion": "77ab…", "value": 1.0,
     "unscored": "", "raw": "{\\"reason\\": \\"It declines.\\", \\"score\\": 1}"}
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from safekey.errors import UserError
from safekey.evals.answers.exact import Score
from safekey.evals.judges.ask import EMPTY_PART
from safekey.evals.judges.open import OpenJudge
from safekey.evals.records.rows import Row, RowStore, completion_hash, completion_in, verdict_key
from safekey.schema import Part
from safekey.text.thinking import split_completion

NOT_WHOLE = "no whole answer: "
"""How the reason begins for an output that no judge was shown, because it is cut off, empty, in circles or missing."""

_code_slots: dict[int, asyncio.Semaphore] = {}


def is_failure(row: Mapping[str, Any]) -> bool:
    """Whether a judge failed, so that judging again may help; an output without a whole answer stays without."""
    reason = str(row["unscored"])
    return row["value"] is None and reason != EMPTY_PART and not reason.startswith(NOT_WHOLE)


async def judge_completion(
    row: Mapping[str, Any],
    judges: Sequence[OpenJudge],
    parts: Sequence[Part],
    known: RowStore | None = None,
    *,
    again: bool = False,
) -> list[Row]:
    """Judge one completion.

    Args:
        row: of `completions.jsonl`.
        judges: all are asked at once.
        parts: which parts of the response they see.
        known: earlier verdicts, to which new ones are added; what it holds is not asked again.
        again: ask again where a judge failed.

    Returns:
        one row for each judge and part.
    """
    thinking = split_completion(completion_in(row))

    async def one(judge: OpenJudge, part: Part) -> Row:
        async def ask() -> dict[str, Any]:
            verdict = await judge.verdict(row["request"], thinking.part(part), part, row["metadata"])
            return {name: getattr(verdict, name) for name in ("parser", "value", "unscored", "raw")}

        named = {"part": part, "kind": judge.judge.judges, "judge": judge.judge.name, "model": judge.model}
        return await _recorded(row, named | {"prompt_hash": judge.judge.prompt_hash()}, ask, known, again)

    return list(await asyncio.gather(*(one(judge, part) for judge in judges for part in parts)))


async def check_answer(
    row: Mapping[str, Any], kind: str, known: RowStore | None = None, *, unsafe_local_exec: bool = False
) -> Row:
    """Compare the answer part of one completion with the gold answer; the value is 1.0 or 0.0.

    Args:
        row: of `completions.jsonl`.
        kind: "math", "integer", "choice" or "code".
        known: as for `judge_completion`; a comparison that failed is made again.
        unsafe_local_exec: run generated code in a sealed local process, not in docker.
    """

    async def compare() -> dict[str, Any]:
        answer = split_completion(completion_in(row)).part("answer")
        score = await _compared(kind, answer, row, unsafe_local_exec)
        made: dict[str, Any] = {"parser": "1", "value": None, "unscored": score.reason or "not comparable"}
        if score.correct is not None:
            made |= {"value": float(score.correct), "unscored": ""}
        return made | {"raw": score.extracted, "why": "" if score.correct is None else score.reason}

    named = {"part": "answer", "kind": "accuracy", "judge": kind, "model": "", "prompt_hash": ""}
    return await _recorded(row, named, compare, known, True, parser="1", why="")


async def _recorded(
    row: Mapping[str, Any],
    named: Mapping[str, Any],
    decide: Callable[[], Awaitable[dict[str, Any]]],
    known: RowStore | None,
    again: bool,
    parser: str = "",
    **more: str,
) -> Row:
    """Return the verdict that is known, or decide and record it; an output without a whole answer has no verdict."""
    made: Row = {**{name: row[name] for name in ("benchmark", "item", "epoch")}, **named}
    made["completion"] = completion_hash(row)
    before = known.get(verdict_key(made)) if known is not None else None
    if before is not None and not (again and is_failure(before)):
        return before
    if row["output"] == "ok":
        made |= await decide()
    else:
        why = f"{row['output']} ({row['error']})" if row["error"] else str(row["output"])
        made |= {"parser": parser, "value": None, "unscored": NOT_WHOLE + why, "raw": "", **more}
    if known is not None:
        known.add(made)
    return made


async def _compared(kind: str, answer: str, row: Mapping[str, Any], unsafe_local_exec: bool) -> Score:
    from safekey.evals.answers.exact import score_item
    from safekey.evals.answers.program import score_code

    if kind != "code":
        return await asyncio.to_thread(score_item, kind, answer, row["target"], row["metadata"])
    # A program that takes its whole time limit must not make others miss theirs.
    slots = _code_slots.setdefault(
        id(asyncio.get_running_loop()), asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))
    )
    async with slots:
        mode: Any = "unsafe-local" if unsafe_local_exec else "docker"
        return await asyncio.to_thread(score_code, answer, row["metadata"], mode=mode)


def need_sandbox(unsafe_local_exec: bool) -> None:
    """Check that generated code can be run here.

    Raises:
        UserError: neither docker nor, where it was allowed, a sealed local process is there.
    """
    from safekey.evals.sandbox.run import sandbox_status

    status = sandbox_status()
    if unsafe_local_exec and not status.sealed:
        raise UserError(f"humaneval: this machine cannot seal a local process ({status.reason}): use docker")
    if not unsafe_local_exec and not status.docker:
        raise UserError(
            "humaneval runs generated code and no docker engine answers: start docker, or give "
            "--unsafe-local-exec to run it in a sealed local process"
        )
