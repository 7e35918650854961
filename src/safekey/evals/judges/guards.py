"""How safety classifiers are asked: through their own chat template, or by a published template that the user brings.

Llama-Guard, Qwen3Guard: user turn and assistant turn; the model's chat template adds the task. WildGuard, HarmBench:
the published prompt is one text; it belongs to others and is not copied here, so the user saves it to a file.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.evals.judges.judge import Judge
from safekey.evals.judges.prompting import disarm
from safekey.schema import Message


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
