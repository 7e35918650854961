"""Heads for a model that has none: linear heads on its frozen states, by penalised logistic regression

The two heads are fitted apart. The penalty is chosen among a few by cross-validation in which a behaviour's rows stay
together; states are standardised before and the weights are turned back, so that the heads read plain states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize, special

from safekey.monitor.states import Pooled
from safekey.training.objective.heads import Pooling, SafetyHeads

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
FOLDS = 4


class Linear(NamedTuple):
    """Weights and bias of one head, and the penalty that was chosen."""

    weight: np.ndarray
    bias: float
    penalty: float


def train_heads(
    states: Sequence[Pooled], harmful: Sequence[bool], behaviours: Sequence[str], hidden_size: int, pooling: Pooling
) -> SafetyHeads:
    """Train both heads on pooled states of labelled rows.

    Args:
        states: of each row; rows without U take part in the head over X and U only.
        harmful: the labels.
        behaviours: of each row.
        hidden_size: features of a state.
        pooling: how the states were pooled.

    Raises:
        ValueError: a class is missing among all rows, or among those with U.
    """
    heads = SafetyHeads(hidden_size, pooling)
    with_u = [at for at, one in enumerate(states) if one.understanding is not None]
    only_u = [one.understanding for one in states if one.understanding is not None]
    both = [one.query_and_understanding for one in states]
    parts = ((heads.understanding, only_u, with_u), (heads.query_and_understanding, both, list(range(len(states)))))
    for head, vectors, places in parts:
        matrix = np.stack([vector.numpy() for vector in vectors]).astype(float)
        labels = np.array([harmful[at] for at in places])
        made = fit_linear(matrix, labels, [behaviours[at] for at in places])
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(made.weight)[None])
            head.bias.fill_(made.bias)
    return heads


def fit_linear(vectors: np.ndarray, harmful: np.ndarray, behaviours: Sequence[Hashable]) -> Linear:
    """Fit one head; `vectors` is rows × features.

    Raises:
        ValueError: a class is missing.
    """
    if harmful.all() or not harmful.any():
        raise ValueError("expected rows of both classes")
    folds = np.array([hashlib.sha256(str(name).encode()).digest()[0] % FOLDS for name in behaviours])
    losses = {}
    for penalty in PENALTIES:
        away, rows = 0.0, 0
        for fold in range(FOLDS):
            inside, outside = folds != fold, folds == fold
            if not outside.any() or harmful[inside].all() or not harmful[inside].any():
                continue
            made = _fit(vectors[inside], harmful[inside], penalty)
            logits = vectors[outside] @ made.weight + made.bias
            away += float(np.sum(np.logaddexp(0.0, logits) - harmful[outside] * logits))
            rows += int(outside.sum())
        losses[penalty] = away / rows if rows else 0.0
    return _fit(vectors, harmful, min(losses, key=lambda penalty: (losses[penalty], -penalty)))


def _fit(vectors: np.ndarray, harmful: np.ndarray, penalty: float) -> Linear:
    centre, width = vectors.mean(0), vectors.std(0)
    width = np.where(width > 1e-8, width, 1.0)
    x, y = (vectors - centre) / width, harmful.astype(float)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ at[:-1] + at[-1]
        away = special.expit(logits) - y
        value = float(np.sum(np.logaddexp(0.0, logits) - y * logits) + 0.5 * penalty * at[:-1] @ at[:-1])
        return value, np.append(x.T @ away + penalty * at[:-1], away.sum())

    found = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weight = found[:-1] / width
    return Linear(weight, float(found[-1] - weight @ centre), penalty)
