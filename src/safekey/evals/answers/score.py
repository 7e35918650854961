"""What comes out when an answer is held against the truth: right, wrong with a reason, or no score at all."""

from __future__ import annotations

from dataclasses import dataclass

NO_ANSWER = "truncated/no answer"


@dataclass(frozen=True, slots=True)
class Score:
    """One answer's score.

    Attributes:
        correct: True or False; None when it could not be found out, which is neither.
        reason: why it is not correct; "" when it is. `NO_ANSWER` for a response whose thinking never ended.
        extracted: what was taken for the answer.
    """

    correct: bool | None
    reason: str = ""
    extracted: str = ""
