"""Build the messages for a judging model: from a prompt file, for a guard's chat template, or by a user's template.

The judged text is not trusted: the model under test wrote it, perhaps for an attacker. Before a judge sees it

- it is put between marks that hold a hash of request and text: the text's writer cannot know the mark, and the same
  call has the same prompt, so caches and resumed runs work;
- strings that a chat template or a server could take for control tokens are broken by a space ("< |im_end|>"):
  otherwise the text could end its turn and write the judge's reply.

Llama-Guard and Qwen3Guard get a user turn and an assistant turn; their chat template adds the task. WildGuard and
HarmBench have a published prompt that we may not copy: the user saves it to a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from safekey.errors import UserError
from safekey.schema import Message

_CONTROL_TOKEN = re.compile(
    r"<(?=[|｜][^<>\n]{0,60}[|｜]>)"  # <|im_end|>, <｜User｜>
    r"|<(?=/?(?:\w+[:|_])?think(?:ing)?(?:_\w+)?>)|◁(?=/?think▷)"  # the tags of thinking (text/tags.py)
    r"|<(?=/?(?:s|unk|pad|bos|eos|start_of_turn|end_of_turn|tool_call|tool_response)>)"
    r"|<(?=</?SYS>>)"  # <<SYS>>
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\])"
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # not all of them can be sent as JSON
_PLACEHOLDER = re.compile(r"\[\[(mark|request|response)\]\]")
_BORDER = "\n=====\n"


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A judge's prompt: the system message, the user message's template, and the file's sha256."""

    system: str
    user: str
    sha256: str


@cache
def load_prompt(name: str) -> PromptFile:
    """Read `judges/prompts/{name}`: the system message, a line ``=====``, the user message's template."""
    text = resources.files("safekey.evals.judges").joinpath("prompts", name).read_text(encoding="utf-8")
    system, border, user = text.partition(_BORDER)
    if not border:
        raise UserError(f"prompts/{name} has no line '=====' between its system and user message")
    return PromptFile(system.strip(), user.strip(), hashlib.sha256(text.encode()).hexdigest())


def disarm(text: str) -> str:
    """Break control-token strings with a space and replace unprintable characters; other text stays as it is."""
    return _CONTROL_TOKEN.sub(lambda match: match[0] + " ", _UNPRINTABLE.sub("\ufffd", text))


def mark(request: str, text: str) -> str:
    """Return the mark for one call: a hash of both texts that is in neither of them."""
    salt = 0
    while True:
        digest = hashlib.sha256(f"{salt}\0{len(request)}\0{request}\0{text}".encode("utf-8", "replace")).hexdigest()
        if digest[:16] not in request and digest[:16] not in text:
            return digest[:16]
        salt += 1


def delimited(name: str, request: str, text: str) -> tuple[Message, ...]:
    """Build the messages of a judge with a prompt file: system, and user with both texts between marks."""
    prompt = load_prompt(name)
    request, text = disarm(request), disarm(text)
    values = {"mark": mark(request, text), "request": request, "response": text}
    return Message("system", prompt.system), Message("user", fill(prompt.user, values))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in, in one pass: a value that holds ``[[response]]`` is not filled in turn."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def conversation(request: str, text: str) -> tuple[Message, ...]:
    """Build the messages of a guard that judges the last turn of a chat through its own chat template."""
    return Message("user", disarm(request)), Message("assistant", disarm(text))


def fill_template(template: str, fields: tuple[str, ...], request: str, text: str) -> tuple[Message, ...]:
    """Build the messages of a judge with a published prompt template: its two placeholders are replaced in one pass."""
    values = dict(zip(fields, (disarm(request), disarm(text)), strict=True))
    filled = re.sub("|".join(rf"\{{({name})\}}" for name in fields), lambda match: values[match[0][1:-1]], template)
    return (Message("user", filled),)
