"""The Judge dataclass (prompt, parser, rules for a positive verdict) and how judging models are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from safekey.options import check_ranges, option
from safekey.schema import Message, Part, Value, Verdict

judging = partial(option, group="judges (docs/judges.md)")
"""Declares an option about judges."""


@dataclass(frozen=True)
class JudgeSettings:
    """How judging models are asked.

    Attributes:
        backoff: seconds before the second attempt; it doubles, up to a minute.
        max_tokens: longest reply; a judge that reasons needs room for it.
        cut_long: judges with a short context see the beginning of a response that does not fit.

    Raises:
        UserError: a number is not above 0.
    """

    timeout: float = judging(
        "seconds for one attempt (default 120)", float, default=120.0, flag="--judge-timeout", metavar="S", low=0.001
    )
    attempts: int = judging(
        "attempts for one verdict (default 5)", int, default=5, flag="--judge-attempts", metavar="N", low=1
    )
    backoff: float = 1.0
    concurrency: int = judging(
        "calls to one judging model at a time (default 16)",
        int,
        default=16,
        flag="--judge-concurrency",
        metavar="N",
        low=1,
    )
    max_tokens: int = 4096
    api_key_env: str | None = judging(
        "environment variable with the endpoint's key (default OPENAI_API_KEY)", flag="--judge-key-env", metavar="VAR"
    )
    cut_long: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class Rule:
    """When a verdict's value counts as positive, by a short name for the tables."""

    name: str
    test: Callable[[Value], bool]


@dataclass(frozen=True, slots=True)
class JudgeInput:
    """What a judge without a model sees: the request, the text of one part, and the sample's metadata."""

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
    decide: Callable[[JudgeInput], Value | bool | None] | None = None
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
