"""Build the messages of a making stage from a prompt file of ours; texts that are not trusted stand between marks.

A prompt file is a system message, a line ``=====``, and the user message's template; placeholders are ``[[name]]``.
Requests, thinking and answers are disarmed and delimited as a judge's material is (`evals/judges/prompting.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from safekey.evals.judges.prompting import PromptFile, disarm, mark
from safekey.schema import Message

_PLACEHOLDER = re.compile(r"\[\[(\w+)\]\]")
_BORDER = "\n=====\n"


@cache
def load(name: str) -> PromptFile:
    """Read `making/prompts/{name}.md`."""
    text = resources.files("safekey.making").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")
    system, _, user = text.partition(_BORDER)
    return PromptFile(system.strip(), user.strip(), hashlib.sha256(text.encode()).hexdigest())


def messages(name: str, untrusted: Mapping[str, str], **trusted: str) -> tuple[Message, ...]:
    """Build the messages of one call.

    Args:
        name: of the prompt file.
        untrusted: placeholder → a text that somebody else wrote; disarmed, and put between marks by the template.
        trusted: placeholder → a text of ours or of the user: a policy, a list of names.
    """
    prompt = load(name)
    texts = {key: disarm(text) for key, text in untrusted.items()}
    values = {**trusted, **texts, "mark": mark_of(untrusted)}
    return Message("system", _fill(prompt.system, values)), Message("user", _fill(prompt.user, values))


def mark_of(untrusted: Mapping[str, str]) -> str:
    """Return the mark that stands around these texts in `messages`."""
    texts = [disarm(text) for text in untrusted.values()]
    return mark(texts[0], "\0".join(texts[1:]))


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in, in one pass: a value that holds ``[[request]]`` is not filled in turn."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
