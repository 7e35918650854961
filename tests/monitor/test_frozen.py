"""Heads on frozen states: scikit-learn's logistic regression, and both heads from pooled states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safekey.monitor import fit as fitting
from safekey.monitor.frozen import PENALTIES, fit_linear, train_heads
from safekey.monitor.monitor import head_logits
from safekey.monitor.request import FitRequest
from safekey.monitor.rows import Row
from safekey.monitor.states import Pooled
from safekey.stats.auroc import area
from safekey.training.objective.heads import SafetyHeads


def vectors(n: int = 240, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    harmful = draw.random(n) < 0.5
    return draw.normal(size=(n, width)) * np.arange(1, width + 1) + harmful[:, None] * np.arange(width), harmful


def test_a_head_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = vectors()
    made = fit_linear(x, y, [f"b{number}" for number in range(len(x))])
    assert made.penalty in PENALTIES
    plain = (x - x.mean(0)) / x.std(0)
    theirs = linear.LogisticRegression(C=1 / made.penalty, tol=1e-8, max_iter=1000).fit(plain, y)
    assert x @ made.weight + made.bias == pytest.approx(theirs.decision_function(plain), abs=1e-2)
    with pytest.raises(ValueError, match="both classes"):
        fit_linear(x, np.ones(len(x), bool), ["b"] * len(x))


def test_rows_without_u_train_the_other_head_only() -> None:
    x, y = vectors()
    rows = [torch.tensor(row, dtype=torch.float32) for row in x]
    states = [Pooled(None if at % 5 == 0 else row, row + 1) for at, row in enumerate(rows)]
    heads = train_heads(states, y.tolist(), [f"b{at}" for at in range(len(rows))], x.shape[1], "mean")
    logits = head_logits(heads, states)
    assert [pair[0] is None for pair in logits] == [at % 5 == 0 for at in range(len(rows))]
    both = area([pair[1] for pair in logits], y.tolist())
    only_u = area([pair[0] for pair in logits if pair[0] is not None], y[np.arange(len(y)) % 5 != 0].tolist())
    assert both is not None
    assert only_u is not None
    assert min(both, only_u) > 0.8


def test_no_behaviour_trains_and_calibrates(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(states: object, harmful: object, behaviours: list[str], *_: object) -> SafetyHeads:
        trained.extend(behaviours)
        return SafetyHeads(4)

    monkeypatch.setattr(fitting, "train_heads", train)
    names = [f"deed {number // 3}" for number in range(240)]
    rows = [
        Row((), "t", number % 2 == 0, "none", name, str(number), "rows.jsonl", 1) for number, name in enumerate(names)
    ]
    states = [Pooled(None, torch.full((4,), float(number))) for number in range(240)]
    request = FitRequest(frozen=True, train_share=0.25)
    _, kept, theirs, note = fitting._frozen(request, rows, states, 4)
    assert not set(trained) & {row.behaviour for row in kept}
    assert set(trained) | {row.behaviour for row in kept} == set(names)
    assert 0.1 < len(trained) / 240 < 0.4
    assert [int(one.query_and_understanding[0]) for one in theirs] == [int(row.id) for row in kept]
    assert note.startswith(f"heads trained on {len(trained)} rows, calibrated on {len(kept)}")
