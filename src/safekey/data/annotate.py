"""Find U and K with a language model: any OpenAI-compatible endpoint, concurrent, retried, resumable row by row.

The request for one row follows the instructions in `prompts/find_key_sentence.md`. It is one JSON object, so that text
of the row cannot be mistaken for a sentence number or a reply::

    {"request": "How do I ...", "sentences": {"1": "Okay, the user asks ...", "2": "Hmm, that sounds ..."}}

The reply is ``{"understanding": 1, "key_sentence": 2}``. A reply that does not name real, adjacent sentences is not
used: the row gets the offsets of the rule, and is marked "annotator-fallback" with the reason. One line of the results
file, from which a later run resumes::

    {"key": "5f2c…", "id": "star1-7", "understanding": 1, "key_sentence": 2, "reason": ""}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from safekey.data.segment import segment
from safekey.data.sentences import sentences
from safekey.data.unsure import by_rule, unsure_of
from safekey.data.write import Record, append_record, open_for_append, read_records
from safekey.errors import UserError
from safekey.options import check_logins
from safekey.retry import is_transient, retrying
from safekey.schema import CLOSE_TAG, Example
from safekey.text.thinking import thinking_span

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_SENTENCES = 40  # of the thinking that are shown; U and K are near its start
MAX_CHARS = 8000  # of the request that are shown
MAX_TOKENS = 4096  # of one reply, thinking included
_NUMBERS = ("understanding", "key_sentence")


@dataclass(frozen=True, slots=True)
class Annotated:
    """One example with its spans, and why the annotator's reply was not used.

    Attributes:
        example: with offsets; `span_source` is "annotator", "annotator-fallback", or "given" as before.
        reason: "" when the annotator's reply was used or none was needed.
    """

    example: Example
    reason: str = ""


@dataclass(frozen=True)
class _Annotator:
    """The endpoint and how it is asked; see `annotate`."""

    client: AsyncOpenAI
    model: str
    prompt: str
    attempts: int
    timeout: float
    backoff: float

    async def ask(self, example: Example) -> tuple[Record, bool]:
        """Ask for one row; the second value is False when there was no reply, so that a later run asks again."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        count = len(_shown(example))
        # ValueError and so on: the body is not a completion (an HTML page, cut JSON, no choices).
        failures = (OpenAIError, TimeoutError, ValueError, TypeError, AttributeError, IndexError)
        retry = retrying(self.attempts, self.backoff, lambda e: isinstance(e, failures) and is_transient(e))
        try:
            checked = parse_reply(await retry(self._reply, _messages(example, self.prompt)), count)
        except APIStatusError as error:
            reason = f"the endpoint answered {error.status_code}"
            if error.status_code in (401, 403, 404):
                raise UserError(f"{reason} for model '{self.model}': check the key, the URL and the model") from None
            if not is_transient(error):
                return {"reason": f"{reason}: it does not take this request"}, False
        except (APIConnectionError, TimeoutError) as error:
            reason = f"no answer from the endpoint ({type(error).__name__})"
        except failures as error:
            reason = f"the endpoint's answer is not a chat completion ({type(error).__name__})"
        else:
            if isinstance(checked, str):
                return {**dict.fromkeys(_NUMBERS), "reason": checked}, True
            return {**dict(zip(_NUMBERS, checked, strict=True)), "reason": ""}, True
        return {"reason": f"{reason}, after {self.attempts} tries"}, False

    async def _reply(self, messages: list[dict[str, str]]) -> str:
        async with asyncio.timeout(self.timeout):
            reply = await self.client.chat.completions.create(
                model=self.model,
                messages=messages,  # type: ignore[arg-type]
                temperature=0.0,
                max_completion_tokens=MAX_TOKENS,
            )
        content = reply.choices[0].message.content
        return content if isinstance(content, str) else ""


def annotate(
    examples: Sequence[Example],
    *,
    model: str,
    base_url: str | None = None,
    concurrency: int = 8,
    output: Path | None = None,
    max_attempts: int = 6,
    timeout: float = 120.0,
    backoff: float = 1.0,
    overwrite: bool = False,
    unsure_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Annotated]:
    """Find the spans of `examples` by asking a model; return them in the order given.

    Args:
        examples: rows to annotate. Those that have both offsets already are returned unchanged.
        model: the name of the model at the endpoint.
        base_url: an OpenAI-compatible endpoint such as ``http://127.0.0.1:8000/v1``; default: OpenAI's own. The key is
            read from the environment variable OPENAI_API_KEY; with a `base_url` it is optional.
        concurrency: requests in flight at once.
        output: JSONL file to which each reply is appended as it comes. A later call with the same file, rows, model and
            prompt asks only for missing rows. Rows without a reply are asked for again.
        max_attempts: attempts for one row when the endpoint is busy, slow, failing or unreachable (`safekey.retry`).
        timeout: seconds for one attempt.
        backoff: seconds before the second attempt; it doubles, unless the server asks for more.
        overwrite: also ask for examples that have offsets.
        unsure_only: ask only for examples of which the rule is unsure (`safekey.data.unsure`), also when it has given
            them offsets already; the others get, or keep, those of the rule. With `overwrite`, all are judged anew.
        progress: called with (rows done, rows to do) after every row.

    Raises:
        UserError: a URL with a password, no key for OpenAI's endpoint, a request that the endpoint refuses for good
            (401, 403, 404), or an `output` file that cannot be written.
    """
    check_logins(base_url, "--annotator-url")
    results = read_records(output)
    prompt = resources.files("safekey.data").joinpath("prompts/find_key_sentence.md").read_text("utf-8")
    keys = [_reply_key(example, model, prompt) for example in examples]
    asked = [_is_asked(example, overwrite=overwrite, unsure_only=unsure_only) for example in examples]
    missing = {  # a repeated row is asked for once
        key: example
        for key, example, wanted in zip(keys, examples, asked, strict=True)
        if wanted and key not in results and _shown(example)
    }
    if missing:
        annotator = _Annotator(_make_client(base_url), model, prompt, max_attempts, timeout, backoff)
        asyncio.run(_ask_all(annotator, missing, results, concurrency, output, progress))
    return [
        _apply(example, results.get(key)) if wanted else Annotated(segment(example, overwrite=overwrite))
        for key, example, wanted in zip(keys, examples, asked, strict=True)
    ]


def _is_asked(example: Example, *, overwrite: bool, unsure_only: bool) -> bool:
    """Whether the annotator is asked for this example."""
    if not unsure_only:
        return overwrite or None in (example.understanding_end, example.key_sentence_end)
    return (overwrite or by_rule(example)) and unsure_of(example, anew=overwrite) is not None


async def _ask_all(
    annotator: _Annotator,
    missing: dict[str, Example],
    results: dict[str, Record],
    concurrency: int,
    output: Path | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Ask for every missing row with `concurrency` workers; stop at once on an error that no retry can mend."""
    waiting = iter(missing.items())
    done = 0
    file = open_for_append(output) if output is not None else None

    async def work() -> None:
        nonlocal done
        for key, example in waiting:
            reply, final = await annotator.ask(example)
            results[key] = {"key": key, "id": example.id} | reply
            if final and file is not None:  # otherwise nothing is written, and the next run asks again
                append_record(file, results[key])
            done += 1
            if progress is not None:
                progress(done, len(missing))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(concurrency, len(missing)))):
                group.create_task(work())
    except ExceptionGroup as errors:
        for error in errors.exceptions:
            if isinstance(error, UserError):
                raise error from None
        raise
    finally:
        if file is not None:
            file.close()
        await annotator.client.close()


def _make_client(base_url: str | None) -> AsyncOpenAI:
    from openai import AsyncOpenAI  # slow to import

    key = os.environ.get("OPENAI_API_KEY", "")
    if not key and base_url is None:
        raise UserError("OPENAI_API_KEY is not set: set it in the environment, or name a local server by its base URL")
    # A key meant for OpenAI is sent to another host only because the user put it into this process's environment.
    return AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0)


def parse_reply(raw: str, count: int) -> tuple[int, int] | str:
    """Read the annotator's reply: (number of the last sentence of U, number of K), or the reason why it is not usable.

    Numbers count from 1; U's is 0 when there is no restatement. The reply may be fenced, or follow a ``</think>``; it
    must hold exactly one JSON object with both numbers, K right after U, and K at most `count` + 1 (the answer).
    """
    text = raw.rsplit("</think>", 1)[-1][-4000:]
    found = re.findall(r"\{[^{}]*\}", text)
    if len(found) != 1:
        return f"the reply holds {len(found)} JSON objects, expected one"
    try:
        reply = json.loads(found[0])
    except (ValueError, RecursionError):
        return "the reply is not valid JSON"
    return _check_numbers(reply, count)


def _check_numbers(reply: Record, count: int) -> tuple[int, int] | str:
    understanding, key_sentence = (reply.get(name) for name in _NUMBERS)
    if type(understanding) is not int or type(key_sentence) is not int:
        return "the reply lacks the integers 'understanding' and 'key_sentence'"
    if not 0 <= understanding <= count:
        return f"understanding {understanding} is not among the {count} sentences"
    if key_sentence != understanding + 1:
        return f"key sentence {key_sentence} does not follow understanding {understanding}"
    return understanding, key_sentence


def _reply_key(example: Example, model: str, prompt: str) -> str:
    """Return the identity of a reply: a hash of the conversation, the response, the model and the instructions."""
    turns = [[turn.role, turn.content] for turn in example.prompt]
    parts = json.dumps([turns, example.response, model, hashlib.sha256(prompt.encode()).hexdigest()])
    return hashlib.sha256(parts.encode()).hexdigest()


def _shown(example: Example) -> list[tuple[int, int]]:
    """Return the spans of the sentences that the annotator sees."""
    return list(islice(sentences(example.response, *thinking_span(example.response)), MAX_SENTENCES))


def _messages(example: Example, prompt: str) -> list[dict[str, str]]:
    numbered = {str(n): example.response[a:b] for n, (a, b) in enumerate(_shown(example), start=1)}
    material = {"request": example.question[:MAX_CHARS], "sentences": numbered}
    return [
        {"role": "system", "content": prompt},
        {"role": "user", "content": json.dumps(material, ensure_ascii=False)},
    ]


def _apply(example: Example, result: Record | None) -> Annotated:
    """Turn a recorded reply into offsets, or use those of the rule."""
    spans = _shown(example)
    by_rule = replace(segment(example, overwrite=True), span_source="annotator-fallback")
    if not spans:
        return Annotated(by_rule, "the response has no thinking")
    if result is None:
        return Annotated(by_rule, "no reply")
    checked = str(result.get("reason") or "") or _check_numbers(result, len(spans))
    if isinstance(checked, str):
        return Annotated(by_rule, checked)
    understanding, key_sentence = checked
    start, end = thinking_span(example.response)
    if key_sentence <= len(spans):
        key_sentence_end = spans[key_sentence - 1][1]
    else:  # the thinking only restates: K is the first sentence of the answer
        answer = next(sentences(example.response, end + len(CLOSE_TAG)), None)
        if answer is None or spans[-1][1] < len(example.response[:end].rstrip()):
            return Annotated(by_rule, "the key sentence lies beyond the sentences shown")
        key_sentence_end = answer[1]
    understanding_end = spans[understanding - 1][1] if understanding else start
    found = replace(example, understanding_end=understanding_end, key_sentence_end=key_sentence_end)
    return Annotated(replace(found, span_source="annotator", span_confidence=None))
