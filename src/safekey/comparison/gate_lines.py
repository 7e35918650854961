"""The lines of a gate: one limit held against one arm, and the words for it"""

from __future__ import annotations

from dataclasses import dataclass

from safekey.comparison.limits import Limit
from safekey.comparison.types import Bounds
from safekey.evals.judge_error.correct import Correction


@dataclass(frozen=True, slots=True)
class Line:
    """One limit held against one arm.

    Attributes:
        arm: its name.
        limit: the limit.
        passed: whether it holds.
        why: the bound that decided, or why there is none; in words.
        rate: the arm's rate, 0–1; None where there is none.
        interval: of the rate; of "not-worse", of the paired difference (arm − baseline).
        baseline_rate: the baseline's rate on the same prompts, for "not-worse".
        bound: the end of the interval that was held against the limit.
        judged: the rate as judged, or the difference, where `rate` and `interval` are corrected for the judge's error.
    """

    arm: str
    limit: Limit
    passed: bool
    why: str
    rate: float | None = None
    interval: Bounds | None = None
    baseline_rate: float | None = None
    bound: float | None = None
    judged: float | None = None


def uncorrected(known: Correction | None) -> str:
    """Return why a rate or difference is not corrected for the judge's error."""
    if known is None:
        return "not corrected: nothing is known of the judge's error (--judge-record FILE or --labels FILE says it)"
    return f"not corrected: {known.refused}"


def correction(known: Correction, judged: str) -> str:
    """Return what a corrected line says besides: by what it is corrected, the judged value, and what is doubtful."""
    doubts = "".join(f"; † {flag}" for flag in known.flags)
    return f"; corrected for the judge's error by {known.source}, as judged {judged}{doubts}"


def percent(share: float, limit: float | None = None) -> str:
    """Return a share in percent, with so many digits that it is not printed as its limit where it is another."""
    digits = 1
    if limit is not None and share != limit:
        while digits < 6 and round(100 * share, digits) == round(100 * limit, digits):
            digits += 1
    return f"{100 * share:.{digits}f} %"


def worse(worst: float, limit: float) -> str:
    """Return by how much an arm may be worse, in words, with digits as in `percent`: "1.2 points worse"."""
    said = percent(abs(worst), limit).removesuffix(" %")
    return f"{said} points {'worse' if worst >= 0 else 'better'}"


def sentence(line: Line, baseline: str = "") -> str:
    """Return a line in words: "safekey: ASR 2.1 % (0.6 – 4.8), at most 5 %: the interval's upper end is 4.8 %"."""
    limit, size = line.limit, f"{100 * line.limit.value:g}"
    if limit.kind == "not-worse":
        shown = ""
        if line.rate is not None and line.baseline_rate is not None:
            shown = f" {percent(line.baseline_rate)} → {percent(line.rate)}"
        return f"{line.arm}: {limit.name}{shown}, not worse than {baseline} by {size} points: {line.why}"
    shown = ""
    if line.rate is not None and line.interval is not None:
        low, high = line.interval
        shown = f" {percent(line.rate)} ({100 * low:.1f} – {100 * high:.1f})"
    return f"{line.arm}: {limit.name}{shown}, at {'most' if limit.kind == 'max' else 'least'} {size} %: {line.why}"
