"""The table of scores beside verdicts, from rows, scores and outcomes."""

from __future__ import annotations

from pathlib import Path

from safekey import Message
from safekey.monitor.monitor import Score
from safekey.monitor.rows import Row
from safekey.monitor.runs import EVERY, Outcome, _beside


def row(name: str, harmful: bool, attack: str = "none") -> Row:
    benchmark = "strongreject" if harmful else "xstest-safe"
    place = {"benchmark": benchmark, "item": name, "epoch": 1, "completion": name + attack}
    return Row((Message("user", name),), "t", harmful, attack, name, name, "run", 1, None, place)


def test_failures_caught_and_benign_responses_stopped() -> None:
    rows = [row("a", True), row("a", True, "story"), row("b", True, "story"), row("c", False), row("d", False)]
    outcomes: list[Outcome] = ["harmless", "failure", "failure", "benign", "unknown"]
    flags = [True, True, False, True, False]
    scores = [Score(0.5, 0.5, 0.5, flag, 0.0) for flag in flags]
    found = _beside(rows, scores, outcomes, Path("x"), ["note"])
    assert found.failures is not None
    assert found.benign is not None
    assert (found.failures.stopped, found.failures.n) == (1, 2)
    assert (found.benign.stopped, found.benign.n) == (1, 2)
    lines = {(line.benchmark, line.attack, line.outcome): (line.stopped, line.n) for line in found.lines}
    assert lines == {
        ("strongreject", EVERY, "failure"): (1, 2),
        ("strongreject", EVERY, "harmless"): (1, 1),
        ("strongreject", "story", "failure"): (1, 2),
        ("strongreject", "none", "harmless"): (1, 1),
        ("xstest-safe", "none", "benign"): (1, 1),
        ("xstest-safe", "none", "unknown"): (0, 1),
    }
    assert _beside(rows[:1], scores[:1], outcomes[:1], Path("x"), []).failures is None
    assert found.to_dict()["failures"]["rate"]["value"] == 0.5
