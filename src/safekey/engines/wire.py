"""Build requests to an OpenAI-compatible endpoint and read its replies: pure functions over dictionaries.

A completion of vLLM::

    {"choices": [{"text": " I can't", "token_ids": [358, 649, 956], "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 31, "completion_tokens": 3}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from safekey.engines.base import SamplingParams
from safekey.engines.prompting import Placed, completed, failed, finished
from safekey.schema import CLOSE_TAG, NO_ANSWER, OPEN_TAG, THINK_CLOSE, THINK_OPEN, Completion, Prompt
from safekey.text.chat import ChatFormat
from safekey.text.messages import PartError, message_thinking, split_parts
from safekey.text.thinking import split_thinking, strip_tags

Finish = Literal["stop", "length", "filter"]
_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "eos_token": "stop",
    "tool_calls": "stop",
    "length": "length",
    "content_filter": "filter",
}


REPLY = "reply"
"""The name of the form of a reply, which servers ask for."""


class GarbageError(ValueError):
    """The body of a reply is not a completion."""


def sampling(params: SamplingParams, *, extended: bool, hosted: bool, chat: bool) -> dict[str, Any]:
    """Return the sampling fields of a request.

    Args:
        params: the settings; what is None is left to the server.
        extended: the server knows vLLM's fields. Then all are sent; otherwise it would use the model's own defaults.
        hosted: OpenAI's or Azure's own API.
        chat: a chat request.
    """
    body: dict[str, Any] = {}
    # OpenAI's reasoning models take only the new name, most servers only the old one.
    body["max_completion_tokens" if hosted and chat else "max_tokens"] = params.max_new_tokens
    if params.temperature is not None:
        body["temperature"] = params.temperature
    if params.top_p is not None and (extended or params.top_p != 1.0):
        body["top_p"] = params.top_p
    if params.stop:
        body["stop"] = list(params.stop)
    if extended or not params.greedy:
        body["seed"] = params.seed % (1 << 63)
    more: dict[str, Any] = {}
    if params.top_k is not None and (extended or params.top_k):
        more["top_k"] = params.top_k or -1
    if extended or params.repetition_penalty != 1.0:
        more["repetition_penalty"] = params.repetition_penalty
    if extended and params.temperature is not None:
        more["min_p"] = 0.0
    return body | ({"extra_body": more} if more else {})


def token_request(placed: Placed, params: SamplingParams, ends: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of a completion request that sends token ids."""
    body = sampling(params, extended=True, hosted=False, chat=False)
    body["extra_body"] |= {
        "stop_token_ids": list(ends),
        "skip_special_tokens": False,  # harmony's channels are special tokens
        "spaces_between_special_tokens": False,
        "return_token_ids": True,
    }
    return body | {"prompt": list(placed.ids)}


def chat_request(prompt: Prompt, params: SamplingParams, *, extended: bool, hosted: bool) -> dict[str, Any]:
    """Return the arguments of a chat request."""
    turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
    return sampling(params, extended=extended, hosted=hosted, chat=True) | {"messages": turns}


def reply_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the field `response_format` of a chat request that holds the reply to a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": REPLY, "schema": schema, "strict": True}}


def read_tokens(body: Any, chat: ChatFormat, placed: Placed, params: SamplingParams, ends: Sequence[int]) -> Completion:
    """Read the reply to `token_request`.

    Raises:
        GarbageError: the body is not a completion.
    """
    choice, finish = _choice(body)
    problem = other_prompt(body, placed.ids)
    if problem:
        return failed(problem, placed)
    if finish == "filter":
        return Completion("", "filter", placed.prefill, placed.started_inside, placed.ids)
    ids = choice.get("token_ids")
    if isinstance(ids, list) and ids and all(isinstance(i, int) for i in ids):
        if finish == "stop" and ids[-1] in chat.tokenizer.all_special_ids:
            ends = (*ends, ids[-1])  # one that only the server knows: its model's own settings name further ones
        made = completed(chat, placed, ids, ends, params.stop)
        return made if made.finish == finish else replace(made, finish=finish)
    text = choice.get("text")
    if not isinstance(text, str):
        raise GarbageError("a choice without text")
    if chat.harmony and not placed.channel and text and "<|" not in text:
        return failed("the server drops harmony's channel markers: its text cannot be split into thinking and answer")
    text = text.removesuffix(chat.end.strip())
    return finished(chat, placed, text, finish, _usage(body, "completion_tokens"), params.stop)


def other_prompt(body: Any, ids: Sequence[int]) -> str:
    """Return why a server did not continue exactly these ids; "" when it did."""
    if not isinstance(body, Mapping):
        raise GarbageError("not an object")
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    seen = first.get("prompt_token_ids") or body.get("prompt_token_ids")
    if isinstance(seen, list):
        return (
            "" if seen == list(ids) else "the server continued other tokens than were sent (does it add a BOS token?)"
        )
    count = _usage(body, "prompt_tokens")
    if count == len(ids):
        return ""
    return f"the server read {'an unknown number of' if count is None else count} prompt tokens, {len(ids)} were sent"


def read_chat(body: Any, opened: bool) -> Completion:
    """Read the reply to `chat_request`; thinking in a field or a part of its own is put back into think tags.

    Args:
        body: the reply.
        opened: the chat template is known to open the thinking.

    Raises:
        GarbageError: the body is not a completion.
    """
    choice, finish = _choice(body)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise GarbageError("a choice without a message")
    content, inner = _content(message.get("content"))
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    reasoning = _reasoning(message, inner)
    if content is None and not reasoning and finish == "stop":
        raise GarbageError("a message without content")
    text = content or ""
    if reasoning and split_thinking(text, False).thinking != strip_tags(reasoning):  # some servers leave it in both
        reasoning = reasoning.removeprefix(THINK_OPEN).strip().removesuffix(CLOSE_TAG).replace(CLOSE_TAG, "</ think>")
        text = THINK_OPEN + reasoning.strip() + (THINK_CLOSE + text.lstrip("\n") if text.strip() else "")
    inside = opened and not text.lstrip().startswith(OPEN_TAG)
    made = Completion(text, "stop", started_inside=inside, output_tokens=_usage(body, "completion_tokens"))
    return replace(made, finish=finish)


def _choice(body: Any) -> tuple[Mapping[str, Any], Finish]:
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise GarbageError("no choices")
    reason = choices[0].get("finish_reason")
    if reason not in _FINISH:
        raise GarbageError(f"finish_reason {reason!r:.40}")
    return choices[0], _FINISH[reason]


def _content(value: Any) -> tuple[str | None, str]:
    """Return a message's text, None when it has none, and the thinking in its parts."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else None, ""
    text, thinking = [], []
    for part in value:
        try:
            said, thought = split_parts([part])
        except PartError:  # a picture or a tool call says nothing that can be judged
            continue
        text.append(said)
        thinking.append(thought)
    return "".join(text), "\n\n".join(filter(None, thinking))


def _reasoning(message: Mapping[str, Any], inner: str) -> str:
    """Return a message's thinking: that of its field and, where they differ, that of its parts."""
    texts = {name: value for name, value in message.items() if isinstance(value, str | list | Mapping)}
    try:
        _, own = message_thinking(texts)
    except PartError as error:
        raise GarbageError(f"the message's thinking is no text: {error}") from None
    return "\n\n".join(filter(None, dict.fromkeys((own.strip(), inner.strip()))))


def _usage(body: Mapping[str, Any], name: str) -> int | None:
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else None


def refused(status: int, body: Any, message: str, placed: Placed | None) -> Completion:
    """Return the completion of a request that the server refuses for good."""
    code = str(body.get("code") or body.get("type") or "") if isinstance(body, Mapping) else ""
    if status == 400 and ("content_filter" in code or "content_policy" in code or "ResponsibleAI" in message):
        made = failed("", placed)
        return replace(made, finish="filter")
    head = "" if status in (400, 413, 422) else NO_ANSWER
    return failed(f"{head}the server refuses the request ({status}): {message:.300}", placed)
