"""Find the thinking of a chat message: in a field of its own, or in the parts of its content.

    {"content": "Boil water.", "reasoning_details": [{"type": "reasoning.text", "text": "The user asks for tea."}]}
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Boil"}]}

(DeepSeek, Qwen and vLLM: `reasoning_content` or `reasoning`; Ollama: `thinking`; OpenRouter: `reasoning_details`;
LiteLLM: `thinking_blocks`; Mistral, Anthropic, OpenAI and Gemini: parts.) Encrypted thinking is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

THINKING_FIELDS = (
    "reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks", "reasoning_text",
)  # fmt: skip
"""The names of a message's thinking field; the first one with a text is read."""

_TEXT_KEYS = (
    "text", "thinking", "think", "reasoning", "reasoning_content", "reasoning_text", "reasoningText", "content",
    "summary",
)  # fmt: skip
_THOUGHT = re.compile(r"think|reason|thought", re.IGNORECASE)
_SEALED = re.compile(r"encrypted|redacted", re.IGNORECASE)
_DEEPEST = 8


class PartError(ValueError):
    """A value is no text and no part that holds one; the message names what it is."""


def message_thinking(message: Mapping[str, Any], names: Sequence[str] = THINKING_FIELDS) -> tuple[str, str]:
    """Return the first of these fields that holds thinking, and its text; ("", "") when none does.

    Raises:
        PartError: the field holds something else.
    """
    for name in names:
        if message.get(name) and (text := thinking_text(message[name])).strip():
            return name, text
    return "", ""


def thinking_text(value: Any, depth: int = 0) -> str:
    """Return the text of a thinking field: a string, an object with a text in it, or a list of such.

    Raises:
        PartError: it is none of them.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if depth > _DEEPEST:
        raise PartError("nested too deeply")
    if isinstance(value, Mapping):
        if _SEALED.search(str(value.get("type"))):
            return ""
        key = next((name for name in _TEXT_KEYS if value.get(name)), None)
        return "" if key is None else thinking_text(value[key], depth + 1)
    if isinstance(value, list | tuple):
        texts = [thinking_text(item, depth + 1) for item in value]
        # Pieces of one text join as they are; blocks of thinking are paragraphs.
        blocks = any(isinstance(item, Mapping) and _THOUGHT.search(str(item.get("type"))) for item in value)
        return ("\n\n" if blocks else "").join(text for text in texts if text)
    raise PartError(type(value).__name__)


def split_parts(parts: Sequence[Any]) -> tuple[str, str]:
    """Return the text and the thinking of a content that is a list of parts.

    Raises:
        PartError: a part is neither text nor thinking (a picture, a tool call).
    """
    text, thinking = [], []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif not isinstance(part, Mapping):
            raise PartError(f"a part that is {type(part).__name__}")
        elif part.get("thought") is True or is_thinking(part):
            thinking.append(thinking_text(part))
        elif isinstance(part.get("text"), str):
            text.append(part["text"])
        elif isinstance(part.get("refusal"), str):
            text.append(part["refusal"])
        else:
            raise PartError(f"a part of type {part.get('type')!r}")
    return "".join(text), "\n\n".join(filter(str.strip, thinking))


def is_thinking(part: Mapping[str, Any]) -> bool:
    """Whether a part of a content is thinking, by its type, or by its only key."""
    kind = part.get("type")
    if isinstance(kind, str):
        return _THOUGHT.search(kind) is not None
    return "text" not in part and any(_THOUGHT.search(str(key)) for key in part)
