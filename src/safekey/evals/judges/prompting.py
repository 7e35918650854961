"""Messages that ask a judging model: from our prompt files, through a guard's chat template, or by the user's template.

The text under judgement was written by the system under test for an attacker's request. Before a judge sees it

- it stands between marks that hold a hash of the request and the text: the writer of the text cannot know it, yet the
  same call has the same prompt, so that caches and resumed runs work;
- strings that a chat template or a server could take for control tokens are broken by a space ("< |im_end|>"): a server
  that renders messages turns them into real tokens, and the text could end its turn and write the judge's reply.

Llama-Guard and Qwen3Guard: a user turn and an assistant turn; the model's chat template adds the task. WildGuard and
HarmBench: the published prompt is one text that is not ours to copy, so the user saves it to a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.evals.judges.judge import Judge
from safekey.schema import Message

_CONTROL_TOKEN = re.compile(
    r"<(?=[|｜][^<>\n]{0,60}[|｜]>)"  # <|im_end|>, <｜User｜>
    r"|<(?=/?(?:s|unk|pad|bos|eos|think|start_of_turn|end_of_turn|tool_call|tool_response)>)"
    r"|<(?=</?SYS>>)"  # <<SYS>>
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\])"
)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]"
)  # JSON over HTTP would fail, or a judge stumble
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
    """Read `evals/prompts/{name}`: the system message, a line ``=====``, the user message's template."""
    text = resources.files("safekey.evals.judges").joinpath("prompts", name).read_text(encoding="utf-8")
    system, border, user = text.partition(_BORDER)
    if not border:
        raise UserError(f"prompts/{name} has no line '=====' between its system and user message")
    return PromptFile(system.strip(), user.strip(), hashlib.sha256(text.encode()).hexdigest())


def disarm(text: str) -> str:
    """Break control-token strings with a space and replace unprintable characters; other text stays as it is."""
    return _CONTROL_TOKEN.sub(lambda match: match[0] + " ", _UNPRINTABLE.sub("\ufffd", text))


def mark(request: str, text: str) -> str:
    """Return the mark for one call: derived from both texts, in neither of them."""
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


def _needs_template(name: str, fields: tuple[str, ...], request: str, text: str) -> tuple[Message, ...]:
    placeholders = " and ".join("{" + field + "}" for field in fields)
    raise UserError(
        f"judge '{name}' needs its published prompt template, which is not part of safekey: save it as a text file "
        f"with the placeholders {placeholders} and name that file (docs/judges.md, 'Guards')"
    )


def foreign(name: str, fields: tuple[str, str]) -> dict[str, Any]:
    """Return the fields of a judge that needs a template from the user."""
    return {"build": partial(_needs_template, name, fields), "template_fields": fields, "as_text": True}


def with_template(judge: Judge, path: str | Path) -> Judge:
    """Return a judge that uses the user's prompt template.

    Args:
        judge: one with `template_fields`: the first stands for the request, the second for the response.
        path: a text file that holds each placeholder, ``{name}``, exactly once.

    Raises:
        UserError: the judge needs no template, or the file cannot be read or lacks a placeholder.
    """
    if not judge.template_fields:
        raise UserError(f"judge '{judge.name}' brings its own prompt: it takes no template")
    try:
        template = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: the template of judge '{judge.name}' cannot be read ({type(error).__name__})"
        ) from None
    for name in judge.template_fields:
        if template.count("{" + name + "}") != 1:
            found = ", ".join(sorted(set(re.findall(r"\{\w+\}", template)))) or "none"
            raise UserError(f"{path}: expected the placeholder {{{name}}} exactly once; placeholders found: {found}")
    digest = hashlib.sha256(template.encode()).hexdigest()
    return replace(judge, build=partial(_fill_template, template, judge.template_fields), prompt_hash=lambda: digest)


def _fill_template(template: str, fields: tuple[str, ...], request: str, text: str) -> tuple[Message, ...]:
    values = dict(zip(fields, (disarm(request), disarm(text)), strict=True))
    filled = re.sub("|".join(rf"\{{({name})\}}" for name in fields), lambda match: values[match[0][1:-1]], template)
    return (Message("user", filled),)
