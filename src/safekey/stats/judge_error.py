"""A judge's error, measured against people, and rates and differences corrected for it. Numbers only.

    error = judge_error([(9, 1, 0, 0), (0, 0, 1, 19), …])     # per request: hits, misses, false alarms, correct passes
    error.sensitivity                                         # Estimate(value=0.9, low=0.6, high=0.98)
    corrected_rate(Estimate(0.30, 0.25, 0.35), error)         # the true rate, with both uncertainties

A judge says "positive" at the rate q = p·Se + (1 − p)·F, where p is the true rate, Se its sensitivity and F its false
alarms, 1 − specificity. So p = (q − F) / (Se − F) (Rogan & Gladen 1978). Every interval here is made from the limits of
its parts by Zou & Donner's (2008) rule: margins are added in squares, each from the side that matters. So it takes any
interval for the judged rate: clustered by behaviour, over training seeds, or paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from safekey.stats.intervals import interval

Counts = tuple[int, int, int, int]
"""Of one cluster: positives that the judge found, positives that it missed, its false alarms, its correct passes."""


class Estimate(NamedTuple):
    """A value with the limits of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def below(self) -> float:
        """The margin below the value."""
        return self.value - self.low

    @property
    def above(self) -> float:
        """The margin above the value."""
        return self.high - self.value


@dataclass(frozen=True, slots=True)
class JudgeError:
    """A judge's error.

    Attributes:
        sensitivity: the share of true positives that the judge calls positive, 0–1.
        alarms: the share of true negatives that it calls positive (1 − specificity), 0–1.
        correlation: of the two estimates, 0–1: above 0 where one request has answers of both kinds, and the judge
            tends to say the same to them.
        opposed: whether what raises one estimate lowers the other, as in a draw by verdicts: then the two margins of
            `gain` add up.
    """

    sensitivity: Estimate
    alarms: Estimate
    correlation: float = 0.0
    opposed: bool = False

    @property
    def specificity(self) -> Estimate:
        """The share of true negatives that it calls negative."""
        value, low, high = self.alarms
        return Estimate(1 - value, 1 - high, 1 - low)

    @property
    def gain(self) -> Estimate:
        """Sensitivity + specificity − 1: 1 for a perfect judge, 0 for one that knows nothing, −1 … 1."""
        value = self.sensitivity.value - self.alarms.value
        together = -1.0 if self.opposed else self.correlation
        low = value - _joint(self.sensitivity.below, self.alarms.above, together)
        high = value + _joint(self.sensitivity.above, self.alarms.below, together)
        return Estimate(value, max(low, -1.0), min(high, 1.0))

    @property
    def usable(self) -> bool:
        """Whether the judge is better than chance at the lower limit; otherwise nothing can be corrected."""
        return self.gain.low > 0


class Corrected(NamedTuple):
    """A corrected rate or difference.

    Attributes:
        value: the estimate, within the range of what it estimates.
        low: the 95 % interval's lower end, within the same range.
        high: its upper end.
        raw: the estimate as the formula gives it; outside the range where the judged rate is smaller than the false
            alarms, or larger than the sensitivity.
    """

    value: float
    low: float
    high: float
    raw: float


def judge_error(clusters: Iterable[Counts], level: float = 0.95) -> JudgeError:
    """Return a judge's error from counts against people, one tuple of counts for each request (cluster).

    The intervals are those of `stats.intervals.interval`: Wilson's where no request repeats, else clustered.

    Raises:
        ValueError: there are no positives or no negatives: one of the two shares cannot be measured.
    """
    rows = list(clusters)
    hits = expanded([(row[0], row[1]) for row in rows])
    alarms = expanded([(row[2], row[3]) for row in rows])
    if not hits[0] or not alarms[0]:
        raise ValueError("expected labels of both kinds")
    sensitivity = Estimate(*interval(*hits, level)[:3])
    false = Estimate(*interval(*alarms, level)[:3])
    pairs = [(row[0] - sensitivity.value * (row[0] + row[1]), row[2] - false.value * (row[2] + row[3])) for row in rows]
    return JudgeError(sensitivity, false, clustered_correlation(pairs))


def corrected_rate(judged: Estimate, error: JudgeError) -> Corrected:
    """Return the true rate behind a judged one (Rogan & Gladen), with an interval that carries both uncertainties.

    The interval holds every true rate p for which 0 lies between the limits of q − p·Se − (1 − p)·F; they are the
    roots of two quadratics. Both ends stay within [0, 1]. Where the judged rate is below the false alarms (or above the
    sensitivity), the interval is that of a judged rate equal to them: cutting it at 0 would leave a short or an empty
    one, and would look precise.

    Args:
        judged: the judged rate, with any interval.
        error: of the judge that judged it; usable.

    Raises:
        ValueError: the judge is no better than chance: see `JudgeError.usable`.
    """
    if not error.usable:
        raise ValueError("the judge is not shown to be better than chance")
    hit, alarm = error.sensitivity, error.alarms
    gain = hit.value - alarm.value
    raw = (judged.value - alarm.value) / gain
    over = min(max(judged.value, alarm.value), hit.value) - alarm.value
    low = _root(over, gain, judged.below, hit.above, alarm.above, error.correlation, larger=False)
    high = _root(over, gain, judged.above, hit.below, alarm.below, error.correlation, larger=True)
    return Corrected(within(raw, 0.0, 1.0), within(low, 0.0, 1.0), within(high, 0.0, 1.0), raw)


def corrected_difference(judged: Estimate, error: JudgeError) -> Corrected:
    """Return the true difference behind a judged one: divided by sensitivity + specificity − 1, with its interval.

    It holds where the judge errs alike in both arms. The interval contains 0 where the judged one does, and only there.

    Args:
        judged: the judged difference, −1 … 1, with any interval.
        error: of the judge that judged both arms; usable.

    Raises:
        ValueError: the judge is no better than chance.
    """
    if not error.usable:
        raise ValueError("the judge is not shown to be better than chance")
    gain = error.gain
    raw = judged.value / gain.value
    low = _ratio(judged.value, judged.below, gain.value, gain.above if judged.low >= 0 else gain.below, larger=False)
    high = _ratio(judged.value, judged.above, gain.value, gain.below if judged.high >= 0 else gain.above, larger=True)
    return Corrected(within(raw, -1.0, 1.0), within(low, -1.0, 1.0), within(high, -1.0, 1.0), raw)


def expanded(counts: Sequence[tuple[int, int]]) -> tuple[list[float], list[int]]:
    """Return a value for each label, 1.0 for "positive", and the number of its cluster."""
    values: list[float] = []
    names: list[int] = []
    for number, (yes, no) in enumerate(counts):
        values += [1.0] * yes + [0.0] * no
        names += [number] * (yes + no)
    return values, names


def clustered_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """The correlation of two means from the clusters' sums, never below 0: a negative one would narrow intervals."""
    left, right = math.fsum(a * a for a, _ in pairs), math.fsum(b * b for _, b in pairs)
    if left <= 0.0 or right <= 0.0:
        return 0.0
    return within(math.fsum(a * b for a, b in pairs) / math.sqrt(left * right), 0.0, 1.0)


def _joint(first: float, second: float, correlation: float) -> float:
    """The margin of a difference of two estimates."""
    return math.sqrt(max(first**2 + second**2 - 2 * correlation * first * second, 0.0))


def _root(
    over: float, gain: float, rate: float, hit: float, alarm: float, correlation: float, *, larger: bool
) -> float:
    """Return the end of the interval for p: where over − p·gain equals its margin, below or above.

    Args:
        over: the judged rate − false alarms.
        gain: sensitivity − false alarms.
        rate: the margin of the judged rate on this side; `hit` and `alarm` those of sensitivity and false alarms.
        correlation: of the last two.
        larger: the upper end.
    """
    cross = correlation * hit * alarm
    square = gain**2 - hit**2 - alarm**2 + 2 * cross
    linear = -2 * over * gain + 2 * alarm**2 - 2 * cross
    return solved(square, linear, over**2 - rate**2 - alarm**2, larger)


def _ratio(value: float, margin: float, gain: float, of_gain: float, *, larger: bool) -> float:
    """Return the end of the interval for value / gain."""
    return solved(gain**2 - of_gain**2, -2 * value * gain, value**2 - margin**2, larger)


def solved(square: float, linear: float, constant: float, larger: bool) -> float:
    """Return the larger or the smaller root of a quadratic; no limit where the parabola does not open upwards."""
    if square <= 0.0:
        return math.inf if larger else -math.inf
    root = math.sqrt(max(linear**2 - 4 * square * constant, 0.0))
    return (-linear + (root if larger else -root)) / (2 * square)


def within(value: float, low: float, high: float) -> float:
    """Return the value, or the nearer end of the range that it leaves."""
    return min(max(value, low), high)
