"""From a completion to verdicts: ask one judge about one part, then all judges about all parts, as rows.

    async def ask(messages): ...  # any chat model; returns its reply
    verdict = await judge_part(JUDGES["refusal_3class"], ask, request, text)

A failure of the judge leaves the sample unscored: it counts neither for nor against the model (docs/judges.md,
"Unscored").
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safekey.evals.answers.cut_off import states_answer
from safekey.evals.attacks.decoding import CIPHER, read_part
from safekey.evals.judges.table import EMPTY_PART, NOT_SHOWN, UNDECODED, Judge, JudgeInput, template_missing
from safekey.evals.records.rows import REDACTED, Row, RowStore, completion_hash, completion_in, verdict_key
from safekey.schema import Completion, Message, Part, Verdict
from safekey.text.thinking import split_completion

Reply = str | Completion | None
Ask = Callable[[Sequence[Message]], Awaitable[Reply]]

CUT = "+cut"  # appended to the parser's version when the judge saw only the beginning of the response
REPLY_CUT = "the judge's reply was cut off"
"""Why a reply that reached the token limit gives no verdict."""

CUT_OFF = ("truncated", "degenerate")
"""How an output may have ended that the token limit stopped."""

NOT_WHOLE = "no whole answer: "
"""Start of the reason for an output that is shown to no judge: cut off, empty, repeating itself, or missing."""

_code_slots: dict[int, asyncio.Semaphore] = {}


@dataclass(frozen=True, slots=True)
class OpenJudge:
    """A judge and the model that answers for it.

    Attributes:
        judge: the row of JUDGES.
        model: the judging model's name, for the record.
        ask: asks the model; None for judges without a model.
        cut_long: as in `judge_part`.
        close: closes the model.
    """

    judge: Judge
    model: str
    ask: Ask | None
    cut_long: bool = False
    close: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)


async def judge_part(
    judge: Judge,
    ask: Ask | None,
    request: str,
    text: str,
    *,
    part: Part = "answer",
    metadata: Mapping[str, Any] | None = None,
    model: str = "",
    cut_long: bool = False,
) -> Verdict:
    """Judge one part of a response.

    An empty part is not shown to a judge: the verdict is unscored with the reason EMPTY_PART, which the tables count
    as "empty" and not as a judge's failure. Exceptions of `ask` become a reason that names only their type and HTTP
    status, because messages may hold keys and URLs. Cancellation passes through.

    Args:
        judge: a row of JUDGES, or an `exact` judge.
        ask: asks the judging model; returns its reply, or a Completion, which also says whether the reply was cut off.
            None for judges that ask no model.
        request: the request: the objective, without the attack's wrapping.
        text: the part's text (`Thinking.part`).
        part: which part it is.
        metadata: the sample's metadata, for judges that are functions of the sample.
        model: name and revision of the judging model, for the record.
        cut_long: for judges with a short context: show the beginning of the response instead of leaving it unscored;
            the verdict's parser version ends with "+cut".

    Raises:
        UserError: the judge needs a template that was not given (`with_template`).
        ValueError: `ask` is missing for a judge that needs a model.
    """
    named = {"judge": judge.name, "model": model}
    if not text.strip():
        return Verdict(None, unscored=EMPTY_PART, **named)
    if judge.decide is not None:
        return replace(_decide(judge.decide, JudgeInput(request, text, part, metadata or {})), **named)
    if judge.build is None:
        raise template_missing(judge)
    if ask is None:
        raise ValueError(f"judge '{judge.name}' asks a model: `ask` is needed")
    named["prompt_hash"] = judge.prompt_hash()
    messages, needed = _fit(judge, judge.build, request, text, cut_long)
    if messages is None:
        reason = f"longer than the judge's context: {needed} of {judge.context_tokens} tokens"
        return Verdict(None, unscored=reason, **named)
    try:
        verdict = _read(judge, await ask(messages))
    except Exception as error:  # every failure of an endpoint is a reason, never a number
        verdict = Verdict(None, unscored=f"judge error: {_describe(error)}")
    if needed:
        verdict = replace(verdict, parser=verdict.parser + CUT)
    return replace(verdict, **named)


def _read(judge: Judge, reply: Reply) -> Verdict:
    """Parse a reply; one that was cut off, withheld or failed gives no verdict, whatever its text."""
    if not isinstance(reply, Completion):
        return judge.parse(reply)
    verdict = judge.parse(reply.text)
    reason = {
        "length": REPLY_CUT,
        "filter": "the judge's reply was withheld by its provider",
        "error": "judge error: the engine gave no reply",
    }.get(reply.finish, "")
    if not reason and reply.started_inside and split_completion(reply).state == "unclosed":
        reason = "the reply ends inside the judge's thinking"
    return replace(verdict, value=None, unscored=reason) if reason else verdict


def _decide(decide: Callable[[JudgeInput], Any], given: JudgeInput) -> Verdict:
    try:
        value = decide(given)
        finite = not isinstance(value, bool | int | float) or math.isfinite(value)
    except BaseException as error:  # a judge's SystemExit costs its row; Ctrl-C and a cancelled task end the run
        if type(error) is KeyboardInterrupt or isinstance(error, asyncio.CancelledError):
            raise
        return Verdict(None, unscored=f"judge error: {_describe(error)}")
    if value is None:
        return Verdict(None, unscored="the truth about this sample is not known")
    if isinstance(value, str) and value:
        return Verdict(value)
    if isinstance(value, bool | int | float) and finite:
        return Verdict(float(value))
    return Verdict(None, unscored="judge error: the function gave neither a number nor a class")


def _describe(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    return type(error).__name__ + (f" (status {status})" if type(status) is int else "")


def _fit(
    judge: Judge, build: Callable[[str, str], tuple[Message, ...]], request: str, text: str, cut_long: bool
) -> tuple[tuple[Message, ...] | None, int]:
    """Return the messages, and 0 if they fit as they are; else the cut messages, or None, and the tokens needed."""
    messages = build(request, text)
    if judge.context_tokens is None:
        return messages, 0
    room = judge.context_tokens - 16  # for the reply
    needed = _most_tokens(messages)
    if needed <= room:
        return messages, 0
    if not cut_long or _most_tokens(build(request, "")) > room:
        return None, needed
    fits, long = 0, len(text)  # the longest beginning that fits, by halving
    while long - fits > 1:
        middle = (fits + long) // 2
        if _most_tokens(build(request, text[:middle])) <= room:
            fits = middle
        else:
            long = middle
    return (build(request, text[:fits]), needed) if text[:fits].strip() else (None, needed)


def _most_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens on the high side: ordinary text has fewer than a third of its bytes."""
    return sum(len(message.content.encode("utf-8", "replace")) // 3 + 1 for message in messages)


def is_failure(row: Mapping[str, Any]) -> bool:
    """Whether a judge failed, so that judging again may help; for an output without a whole answer it does not."""
    reason = str(row["unscored"])
    return row["value"] is None and reason not in NOT_SHOWN and not reason.startswith(NOT_WHOLE)


async def judge_completion(
    row: Mapping[str, Any],
    judges: Sequence[OpenJudge],
    parts: Sequence[Part],
    known: RowStore | None = None,
    *,
    again: bool = False,
) -> list[Row]:
    """Judge one completion. A part in the cipher of its attack is decoded first, and its verdict says so ("decoded").

    A part that looks like the cipher and gives no text is shown to no judge: its verdict's reason is UNDECODED.

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

    async def one(opened: OpenJudge, part: Part) -> Row:
        judge = opened.judge

        async def ask() -> dict[str, Any]:
            read = read_part(row, thinking.part(part))
            if read.failed:
                return {"parser": "", "value": None, "unscored": UNDECODED, "raw": ""}
            verdict = await judge_part(
                judge, opened.ask, row["request"], read.text, part=part, metadata=row["metadata"],
                model=opened.model, cut_long=opened.cut_long,
            )  # fmt: skip
            undone = {"decoded": row["metadata"][CIPHER]} if read.undone else {}
            return {name: getattr(verdict, name) for name in ("parser", "value", "unscored", "raw")} | undone

        named = {"part": part, "kind": judge.judges, "judge": judge.name, "model": opened.model}
        return await _recorded(row, named | {"prompt_hash": judge.prompt_hash()}, ask, known, again)

    return list(await asyncio.gather(*(one(judge, part) for judge in judges for part in parts)))


async def check_answer(
    row: Mapping[str, Any], kind: str, known: RowStore | None = None, *, unsafe_local_exec: bool = False
) -> Row:
    """Compare the answer part of one completion with the gold answer; the value is 1.0 or 0.0.

    An output that was cut off behind a closed code block or a closed box has its answer: it is compared as well.

    Args:
        row: of `completions.jsonl`.
        kind: "math", "integer", "choice" or "code".
        known: as for `judge_completion`; a comparison that failed is made again.
        unsafe_local_exec: run generated code in a sealed local process, not in docker.
    """

    answer = split_completion(completion_in(row)).part("answer")
    stated = row["finish"] == "length" and row["output"] in CUT_OFF and states_answer(kind, answer)

    async def compare() -> dict[str, Any]:
        from safekey.evals.answers.exact import score_item
        from safekey.evals.answers.program import score_code

        if kind == "code":
            # A program that takes its whole time limit must not make others miss theirs.
            most, loop = max(1, (os.cpu_count() or 2) // 2), id(asyncio.get_running_loop())
            mode: Any = "unsafe-local" if unsafe_local_exec else "docker"
            async with _code_slots.setdefault(loop, asyncio.Semaphore(most)):
                score = await asyncio.to_thread(score_code, answer, row["metadata"], mode=mode)
        else:
            score = await asyncio.to_thread(score_item, kind, answer, row["target"], row["metadata"])
        made: dict[str, Any] = {"parser": "1", "value": None, "unscored": score.reason or "not comparable"}
        if score.correct is not None:
            made |= {"value": float(score.correct), "unscored": ""}
        return made | {"raw": score.extracted, "why": "" if score.correct is None else score.reason}

    named = {"part": "answer", "kind": "accuracy", "judge": kind, "model": "", "prompt_hash": ""}
    return await _recorded(row, named, compare, known, True, stated, parser="1", why="")


async def _recorded(
    row: Mapping[str, Any],
    named: Mapping[str, Any],
    decide: Callable[[], Awaitable[dict[str, Any]]],
    known: RowStore | None,
    again: bool,
    stated: bool = False,
    parser: str = "",
    **more: str,
) -> Row:
    """Return the known verdict, or decide and record it.

    An output without a whole answer has no verdict, unless it was cut off behind an answer that is `stated`.
    """
    made: Row = {**{name: row[name] for name in ("benchmark", "item", "epoch")}, **named}
    made["completion"] = completion_hash(row)
    before = known.get(verdict_key(made)) if known is not None else None
    if before is not None:
        anew = (again and is_failure(before)) or (stated and before["value"] is None)
        if not anew or REDACTED in row:  # a text that was dropped cannot be judged again
            return before
    if row["output"] == "ok" or stated:
        made |= await decide()
    else:
        why = f"{row['output']} ({row['error']})" if row["error"] else str(row["output"])
        made |= {"parser": parser, "value": None, "unscored": NOT_WHOLE + why, "raw": "", **more}
    if known is not None:
        known.add(made)
    return made
