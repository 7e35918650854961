"""Judging one completion: every judge on every part, each verdict a row of `verdicts.jsonl`, never asked for twice.

One row::

    {"benchmark": "strongreject", "item": "row-1", "epoch": 1, "part": "answer", "kind": "harm", "judge": "harm_1to5",
     "model": "openai/gpt-4.1", "prompt_hash": "9f2c…", "parser": "1", "completion": "77ab…", "value": 1.0,
     "unscored": "", "raw": "{\\"reason\\": \\"It declines.\\", \\"score\\": 1}"}
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from safekey.errors import UserError
from safekey.evals.answers.score import Score
from safekey.evals.judges.ask import EMPTY_PART
from safekey.evals.judges.open import Referee
from safekey.evals.records.completions import completion_hash, completion_in
from safekey.evals.records.row_store import Row, RowStore
from safekey.schema import Part, Verdict
from safekey.text.thinking import split_completion

NOT_WHOLE = "no whole answer: "
"""How the reason begins for an output that no judge was shown, because it is cut off, empty, in circles or missing."""

_code_slots: dict[int, asyncio.Semaphore] = {}


def verdict_key(row: Mapping[str, Any]) -> Hashable:
    """Identify a verdict: which completion, which part, which judge with which prompt, and who answered."""
    return row["completion"], row["judge"], row["prompt_hash"], row["model"], row["part"]


def is_failure(row: Mapping[str, Any]) -> bool:
    """Whether a judge failed, so that judging again may help; an output without a whole answer stays without."""
    reason = str(row["unscored"])
    return row["value"] is None and reason != EMPTY_PART and not reason.startswith(NOT_WHOLE)


async def judge_completion(
    row: Mapping[str, Any],
    referees: Sequence[Referee],
    parts: Sequence[Part],
    known: RowStore | None = None,
    *,
    again: bool = False,
) -> list[Row]:
    """Judge one completion.

    Args:
        row: of `completions.jsonl`.
        referees: who judges; all are asked at once.
        parts: which parts of the response they see.
        known: verdicts of earlier and new ones; what it holds is not asked again.
        again: ask again where a judge failed.

    Returns:
        one row for each judge and part.
    """
    thinking = split_completion(completion_in(row))
    digest = completion_hash(row)

    async def one(referee: Referee, part: Part) -> Row:
        named = {name: row[name] for name in ("benchmark", "item", "epoch")}
        named |= {"part": part, "kind": referee.judge.judges, "judge": referee.judge.name, "model": referee.model}
        named |= {"prompt_hash": referee.judge.prompt_hash(), "completion": digest}
        before = known.get(verdict_key(named)) if known is not None else None
        if before is not None and not (again and is_failure(before)):
            return before
        if row["output"] != "ok":
            verdict = Verdict(None, NOT_WHOLE + _why(row))
        else:
            verdict = await referee.verdict(row["request"], thinking.part(part), part, row["metadata"])
        made = named | {
            "parser": verdict.parser,
            "value": verdict.value,
            "unscored": verdict.unscored,
            "raw": verdict.raw,
        }
        if known is not None:
            known.add(made)
        return made

    return list(await asyncio.gather(*(one(referee, part) for referee in referees for part in parts)))


async def check_answer(
    row: Mapping[str, Any], kind: str, known: RowStore | None = None, *, unsafe_local_exec: bool = False
) -> Row:
    """Hold the answer part of one completion against the truth; the value is 1.0 or 0.0.

    Args:
        row: of `completions.jsonl`.
        kind: "math", "integer", "choice" or "code".
        known: as for `judge_completion`.
        unsafe_local_exec: run generated code in a sealed local process, not in docker.
    """
    named = {name: row[name] for name in ("benchmark", "item", "epoch")}
    named |= {"part": "answer", "kind": "accuracy", "judge": kind, "model": "", "prompt_hash": ""}
    named |= {"completion": completion_hash(row)}
    before = known.get(verdict_key(named)) if known is not None else None
    if before is not None and not is_failure(before):
        return before
    score = Score(None, NOT_WHOLE + _why(row))
    if row["output"] == "ok":
        answer = split_completion(completion_in(row)).part("answer")
        score = await _compared(kind, answer, row, unsafe_local_exec)
    value = None if score.correct is None else float(score.correct)
    unscored = (score.reason or "not comparable") if value is None else ""
    made = named | {"parser": "1", "value": value, "unscored": unscored, "raw": score.extracted}
    made["why"] = "" if value is None else score.reason
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


def _why(row: Mapping[str, Any]) -> str:
    return f"{row['output']} ({row['error']})" if row["error"] else str(row["output"])


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
