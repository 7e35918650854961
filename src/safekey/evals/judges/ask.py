"""Ask a judge about one part of one response. Whatever happens, the result is a verdict: a value, or why there is none.

    async def ask(messages): ...  # any chat model; returns its reply
    verdict = await judge_part(JUDGES["refusal_3class"], ask, request, text)

A failure of the judge leaves the sample unscored: it neither charges nor absolves the model (docs/judges.md,
"Unscored").
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from safekey.evals.judges.judge import Judge, JudgeInput
from safekey.schema import Completion, Message, Part, Verdict
from safekey.text.thinking import split_completion

Reply = str | Completion | None
Ask = Callable[[Sequence[Message]], Awaitable[Reply]]

EMPTY_PART = "empty part: there is nothing to judge"
CUT = "+cut"  # appended to the parser's version when the judge saw only the beginning of the response


async def judge_part(
    judge: Judge,
    ask: Ask | None,
    request: str,
    text: str,
    *,
    part: Part = "answer",
    metadata: Mapping[str, Any] | None = None,
    model: str = "",
    count_tokens: Callable[[str], int] | None = None,
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
        request: what was asked for: the objective, without the attack's wrapping.
        text: the part's text (`Thinking.part`).
        part: which part it is.
        metadata: what the sample knows, for judges that are functions of the sample.
        model: name and revision of the judging model, for the record.
        count_tokens: tokens of a prompt text for the judging model; default: an estimate on the high side.
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
        return replace(_decide(judge, JudgeInput(request, text, part, metadata or {})), **named)
    if judge.build is None or ask is None:
        raise ValueError(f"judge '{judge.name}' asks a model: `ask` is needed")
    named["prompt_hash"] = judge.prompt_hash()
    messages, needed = _fit(judge, request, text, count_tokens or _estimate, cut_long)
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
    """Read a reply; one that was cut off, withheld or failed holds no verdict, whatever it seems to say."""
    if not isinstance(reply, Completion):
        return judge.parse(reply)
    verdict = judge.parse(reply.text)
    reason = {
        "length": "the judge's reply was cut off",
        "filter": "the judge's reply was withheld by its provider",
        "error": "judge error: the engine gave no reply",
    }.get(reply.finish, "")
    if not reason and reply.started_inside and split_completion(reply).state == "unclosed":
        reason = "the reply ends inside the judge's thinking"
    return replace(verdict, value=None, unscored=reason) if reason else verdict


def _decide(judge: Judge, judged: JudgeInput) -> Verdict:
    assert judge.decide is not None
    try:
        value = judge.decide(judged)
    except Exception as error:
        return Verdict(None, unscored=f"judge error: {_describe(error)}")
    if value is None:
        return Verdict(None, unscored="the truth about this sample is not known")
    if isinstance(value, str) and value:
        return Verdict(value)
    if isinstance(value, (bool, int, float)) and math.isfinite(value):
        return Verdict(float(value))
    return Verdict(None, unscored="judge error: the function gave neither a number nor a class")


def _describe(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    return type(error).__name__ + (f" (status {status})" if type(status) is int else "")


def _estimate(text: str) -> int:
    """Return a number of tokens that ordinary text does not exceed: a third of its bytes."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


def _fit(
    judge: Judge, request: str, text: str, count: Callable[[str], int], cut_long: bool
) -> tuple[tuple[Message, ...] | None, int]:
    """Return the messages, and 0 if they fit as they are; else the cut messages, or None, and the tokens needed."""
    assert judge.build is not None
    messages = judge.build(request, text)
    if judge.context_tokens is None:
        return messages, 0
    room = judge.context_tokens - 16  # for the reply
    needed = _tokens(messages, count)
    if needed <= room:
        return messages, 0
    if not cut_long or _tokens(judge.build(request, ""), count) > room:
        return None, needed
    fits, long = 0, len(text)  # the longest beginning that fits, by halving
    while long - fits > 1:
        middle = (fits + long) // 2
        if _tokens(judge.build(request, text[:middle]), count) <= room:
            fits = middle
        else:
            long = middle
    return (judge.build(request, text[:fits]), needed) if text[:fits].strip() else (None, needed)


def _tokens(messages: Sequence[Message], count: Callable[[str], int]) -> int:
    return sum(count(message.content) for message in messages)
