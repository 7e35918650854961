"""What a judge is: a row with functions. The rows themselves are in `judges.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safekey.schema import Message, Part, Value, Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """When a verdict's value counts as positive, by a short name for the tables."""

    name: str
    test: Callable[[Value], bool]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge without a model sees: the request, the part's text, and what the sample knows about itself."""

    request: str
    text: str
    part: Part = "answer"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judge:
    """One row of the table.

    Attributes:
        name: as users type it.
        judges: "harm" (positive: harm was done) or "refusal" (positive: the model refused).
        rules: when a value counts as positive; the first one is the headline's.
        parse: the judge's raw reply to a verdict; pure, never raises.
        build: request and text to the messages that the judging model is asked with; None: no model is asked.
        decide: instead of a model, a function of the sample: a value, a bool, or None for "cannot be said".
        prompt_hash: sha256 of the prompt file; a function, so that importing this module reads no file.
        as_text: the only message holds the whole prompt: send it as text, without a chat template.
        context_tokens: the judging model's context, where it is so short that responses may not fit.
        template_fields: the placeholders of the prompt template that a user must give, because the published one is not
            ours to copy; () for judges that need none.
        verified: whether our use of it was checked against a published number.
        note: what to know before trusting it.
    """

    name: str
    judges: Literal["harm", "refusal"]
    rules: tuple[Rule, ...]
    parse: Callable[[str | None], Verdict]
    build: Callable[[str, str], tuple[Message, ...]] | None = None
    decide: Callable[[Judged], Value | bool | None] | None = None
    prompt_hash: Callable[[], str] = str
    as_text: bool = False
    context_tokens: int | None = None
    template_fields: tuple[str, ...] = ()
    verified: bool = False
    note: str = ""

    def positive(self, value: Value) -> bool:
        """Whether a value counts as positive by the headline's rule."""
        return self.rules[0].test(value)


def at_least(threshold: float) -> Rule:
    """Return the rule "value ≥ threshold"."""
    return Rule(f"≥ {threshold:g}", lambda value: isinstance(value, (int, float)) and value >= threshold)


def is_one_of(name: str, *classes: str) -> Rule:
    """Return the rule "value is one of these classes"."""
    return Rule(name, lambda value: value in classes)


UNSAFE = is_one_of("unsafe", "unsafe")
FULL = is_one_of("full", "full_refusal")
PARTIAL = is_one_of("partial", "partial_refusal")
FULL_OR_PARTIAL = is_one_of("full + partial", "full_refusal", "partial_refusal")
CONTROVERSIAL = is_one_of("unsafe + controversial", "unsafe", "controversial")
