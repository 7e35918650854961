"""Convert Inspect's messages, settings and outputs to our prompts, sampling settings and completions, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    StopReason,
)
from inspect_ai.model._cache import epoch

from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.evals.records.rows import COMPLETION, completion_in
from safekey.schema import NO_ANSWER, THINK_CLOSE, THINK_OPEN, Completion, Message, Prompt
from safekey.text.thinking import split_completion, split_response

METADATA = "safekey"
"""The key of an output's metadata under which our record is."""

PREFILL = "safekey_prefill"
"""The key of a last assistant message's metadata for the exact prefill; Inspect takes think tags out of its content."""

RAW = "safekey_raw"
"""The key of a user message's metadata: its bare text is continued, without a chat template."""

MAX_TOKENS = 8000
_STOP: dict[str, StopReason] = {"stop": "stop", "length": "max_tokens", "filter": "content_filter", "error": "unknown"}
_NOT_SUPPORTED = (
    *("frequency_penalty", "presence_penalty", "logit_bias", "best_of", "response_schema", "logprobs"),
    *("prompt_logprobs", "reasoning_effort", "reasoning_tokens", "batch", "modalities"),
)
_FINISH: dict[str, Literal["stop", "length", "filter", "error"]] = {
    "stop": "stop",
    "tool_calls": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
}
_RECORD = ("prompt_sha256", "rendered_by", "sampling")
_EPOCH_STEP = 1_000_003  # between the seeds of two epochs; a prime, so that neighbouring seeds do not collide


def prefill_message(text: str, tokens: int | None = None, *, answer: bool = False) -> ChatMessageAssistant:
    """Return the last message of an input: text that begins the model's own turn.

    Args:
        text: the text; it stands inside the opened thinking unless `answer`.
        tokens: use only its first tokens, by the model's own tokenizer; all if the text has fewer.
        answer: put it at the beginning of the model's turn; it may then hold think tags itself.
    """
    return ChatMessageAssistant(
        content=text, metadata={PREFILL: text, f"{PREFILL}_tokens": tokens, f"{PREFILL}_answer": answer}
    )


def raw_message(turn: Message) -> ChatMessageUser:
    """Return the only message of an input whose bare text is continued, without a chat template."""
    return ChatMessageUser(content=turn.content, metadata={RAW: True})


def to_output(completion: Completion, params: SamplingParams, model: str) -> ModelOutput:
    """Make Inspect's output: the thinking as reasoning, the answer as text, and the whole record as metadata.

    Args:
        completion: the engine's completion.
        params: the settings that were used, the model's own filled in.
        model: the model's name.
    """
    parts = split_completion(completion)
    content: list[Content] = [ContentReasoning(reasoning=parts.thinking)] if parts.thinking else []
    content.append(ContentText(text=parts.answer))
    message = ChatMessageAssistant(content=content, model=model, source="generate")
    ids, tokens = completion.prompt_ids, completion.output_tokens
    record = {
        "text": completion.text,
        "finish": completion.finish,
        "prefill": completion.prefill,
        "started_inside": completion.started_inside,
        "prompt_ids": None if ids is None else list(ids),
        "prompt_sha256": None if ids is None else hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest(),
        "output_tokens": tokens,
        "error": completion.error,
        "rendered_by": "server" if ids is None else "safekey",
        "sampling": params.to_dict(),
    }
    return ModelOutput(
        model=model,
        choices=[ChatCompletionChoice(message=message, stop_reason=_STOP[completion.finish])],
        usage=ModelUsage(
            input_tokens=len(ids or ()), output_tokens=tokens or 0, total_tokens=len(ids or ()) + (tokens or 0)
        ),
        error=completion.error or None,
        metadata={METADATA: record},
    )


def to_params(config: GenerateConfig) -> SamplingParams:
    """Turn Inspect's settings into ours; temperature, top_p and top_k that are not set are the model's own.

    The seed is the config's (0 if none) plus a step for each epoch: epochs differ, reruns do not. A repetition penalty
    comes as ``extra_body={"repetition_penalty": 1.2}``: Inspect has no field for it.

    Raises:
        UserError: the engines do not support a setting.
    """
    unknown = [name for name in _NOT_SUPPORTED if getattr(config, name)]
    if (config.num_choices or 1) > 1:
        unknown.append("num_choices")
    extra = dict(config.extra_body or {})
    penalty = float(extra.pop("repetition_penalty", 1.0))
    unknown += [f"extra_body.{name}" for name in extra]
    if unknown:
        raise UserError(f"safekey models do not support {', '.join(unknown)}: leave it out")
    return SamplingParams(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_new_tokens=config.max_tokens or MAX_TOKENS,
        repetition_penalty=penalty,
        seed=(config.seed or 0) + _EPOCH_STEP * (_epoch()),
        stop=tuple(config.stop_seqs or ()),
    )


def _epoch() -> int:
    try:
        return epoch.get()
    except LookupError:  # outside of an evaluation
        return 0


def to_prompt(messages: list[ChatMessage]) -> Prompt:
    """Turn Inspect's messages into a prompt; a last assistant message is the prefill.

    Without our metadata, in a task from elsewhere, it is the beginning of the model's turn.

    Raises:
        UserError: a message is not text.
    """
    last = messages[-1] if messages else None
    if not isinstance(last, ChatMessageAssistant):
        raw = any((message.metadata or {}).get(RAW) for message in messages)
        return Prompt(tuple(map(_message, messages)), raw=raw)
    said = last.metadata or {}
    return Prompt(
        tuple(map(_message, messages[:-1])),
        prefill=str(said.get(PREFILL, last.text)),
        prefill_tokens=said.get(f"{PREFILL}_tokens"),
        prefill_answer=bool(said.get(f"{PREFILL}_answer", PREFILL not in said)),
    )


def _message(message: ChatMessage) -> Message:
    if isinstance(message.content, str):
        if isinstance(message, ChatMessageAssistant):
            parts = split_response(message.content)
            if parts.state == "closed":
                return Message(message.role, parts.answer, parts.thinking)
        return Message(message.role, message.content)
    text, thinking = [], []
    for part in message.content:
        if isinstance(part, ContentText):
            text.append(part.text)
        elif isinstance(part, ContentReasoning):
            thinking.append(part.reasoning)
        else:
            raise UserError(f"safekey models read text; this {message.role} message holds {part.type}")
    return Message(message.role, "\n".join(text), "\n\n".join(thinking) or None)


def from_message(turn: Message) -> ChatMessage:
    """Turn a message of ours into one of Inspect's, with its thinking in think tags."""
    if turn.role == "user":
        return ChatMessageUser(content=turn.content)
    if turn.role == "assistant":
        text = f"{THINK_OPEN}{turn.thinking}{THINK_CLOSE}{turn.content}" if turn.thinking else turn.content
        return ChatMessageAssistant(content=text)
    return ChatMessageSystem(content=turn.content)


def completion_from(output: ModelOutput) -> Completion:
    """Return the completion of any provider's output; thinking in a separate field is put into think tags."""
    record = (output.metadata or {}).get(METADATA)
    if record is not None:
        return completion_in(record)
    if not output.choices:
        return Completion("", "error", error=f"{NO_ANSWER}{output.error or 'the provider returned no choice'}")
    message, text = output.choices[0].message, output.choices[0].message.text
    parts = [] if isinstance(message.content, str) else message.content
    # Where the thinking is encrypted, its text is of no use; the summary, if there is one, is.
    thoughts = [(p.summary or "") if p.redacted else p.reasoning for p in parts if p.type == "reasoning"]
    if any(thoughts):
        text = THINK_OPEN + "\n\n".join(thoughts).strip() + (THINK_CLOSE + text.lstrip() if text.strip() else "")
    finish = _FINISH.get(output.choices[0].stop_reason, "error")
    tokens = output.usage.output_tokens if output.usage else None
    return Completion(text, finish, output_tokens=tokens, error=output.error or "" if finish == "error" else "")


def failed_output(model: str, reason: str) -> ModelOutput:
    """Return an output that gives the reason why there is no completion."""
    return output_of({"text": "", "finish": "error", "error": reason}, model)


def record_of(output: ModelOutput, config: GenerateConfig) -> dict[str, Any]:
    """Return the fields of a row that an output gives; for other providers with the settings that were asked for."""
    own = (output.metadata or {}).get(METADATA)
    if own is not None:
        return dict(own)
    completion = completion_from(output)
    kept = {name: getattr(completion, name) for name in COMPLETION}
    asked = config.model_dump(
        exclude_none=True, exclude={"max_connections", "max_retries", "timeout", "attempt_timeout"}
    )
    return kept | {"prompt_ids": None, "prompt_sha256": None, "rendered_by": "server", "sampling": asked}


def output_of(record: Mapping[str, Any], model: str) -> ModelOutput:
    """Return the output of a stored row, as if it had just been generated."""
    kept = {"prefill": "", "started_inside": False, "prompt_ids": None, "output_tokens": None, "error": "", **record}
    output = to_output(completion_in(kept), SamplingParams(), model)
    assert output.metadata is not None
    output.metadata[METADATA] |= {name: record[name] for name in _RECORD if name in record}
    return output


def asked_hash(messages: list[ChatMessage], config: GenerateConfig) -> str:
    """Return a hash of everything that determines a completion, without the model and the epoch."""
    said = [[m.role, m.text if isinstance(m.content, str) else str(m.content), m.metadata] for m in messages]
    told = config.model_dump(include={"temperature", "top_p", "top_k", "max_tokens", "seed", "extra_body", "stop_seqs"})
    return hashlib.sha256(json.dumps([said, told], sort_keys=True, default=str).encode()).hexdigest()
