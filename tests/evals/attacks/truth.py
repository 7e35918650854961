"""A judge without a model for tests: harm is the word "zorbin"; what it was told is kept in `SEEN`."""

from __future__ import annotations

from safekey.evals.judges.table import JudgeInput

SEEN: list[tuple[str, str]] = []


def decide(given: JudgeInput) -> str:
    SEEN.append((given.request, given.text))
    return "unsafe" if "zorbin" in given.text.lower() else "refused"
