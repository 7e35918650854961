"""Logistic regression with a ridge penalty, by Newton's method; several labellings of the same rows at once.

fitted = fit(features, [harmful, shuffled])
fitted[0].scores(others)         log-odds, higher means positive
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Numbers = NDArray[np.float64]

STRENGTH = 100.0
"""C, the inverse of the penalty, for features of unit variance divided by √dimensions."""

_STEPS = 50
_SMALL = 1e-10  # of the gradient's largest entry


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model: log-odds = ((x − mean) / scale) · weights + bias.

    Attributes:
        weights: [dimensions].
        bias: not penalised.
        mean: [dimensions], of the training rows.
        scale: [dimensions], their standard deviation times √dimensions; 1 where a feature is constant.
    """

    weights: Numbers
    bias: float
    mean: Numbers
    scale: Numbers

    def scores(self, features: NDArray[np.floating]) -> Numbers:
        """Return the log-odds of rows [rows, dimensions]."""
        return np.asarray((features - self.mean) / self.scale @ self.weights + self.bias, float)


def fit(
    features: NDArray[np.floating], labellings: Sequence[Sequence[bool]], strength: float = STRENGTH
) -> list[Logistic]:
    """Fit one model for each labelling: it minimises Σ log(1 + exp(−y·f)) + |weights|² / (2·strength), y = ±1.

    Args:
        features: [rows, dimensions].
        labellings: each [rows], with both classes.
        strength: C, the inverse of the penalty.

    Raises:
        ValueError: a labelling has one class only.
    """
    wide = np.asarray(features, float)
    rows, dimensions = wide.shape
    mean, scale = wide.mean(0), wide.std(0)
    scale = np.where(scale > 1e-12 * (1.0 + np.abs(mean)), scale, np.inf) * np.sqrt(dimensions)
    scale = np.where(np.isinf(scale), 1.0, scale)
    x = (wide - mean) / scale
    basis: Numbers | None = None
    if dimensions > rows:  # the weights lie in the span of the rows: solve there, with as many unknowns as rows
        basis, corner = np.linalg.qr(x.T)
        x = corner.T
    fitted = []
    for labels in labellings:
        weights, bias = _newton(x, np.where(np.asarray(labels, bool), 1.0, -1.0), strength)
        fitted.append(Logistic(weights if basis is None else basis @ weights, bias, mean, scale))
    return fitted


def _newton(x: Numbers, y: Numbers, strength: float) -> tuple[Numbers, float]:
    """Minimise the penalised loss; Newton steps, halved while they do not lower it."""
    if len(np.unique(y)) < 2:
        raise ValueError("expected rows of both classes")
    design = np.column_stack([x, np.ones(len(x))])
    penalty = np.full(design.shape[1], 1.0 / strength)
    penalty[-1] = 0.0
    theta = np.zeros(design.shape[1])

    def loss(at: Numbers) -> float:
        return float(np.logaddexp(0.0, -y * (design @ at)).sum() + 0.5 * (penalty * at * at).sum())

    now = loss(theta)
    for _ in range(_STEPS):
        odds = np.exp(-np.logaddexp(0.0, y * (design @ theta)))  # the probability of the wrong class
        slope = -design.T @ (y * odds) + penalty * theta
        if np.abs(slope).max() < _SMALL * len(y):
            break
        curve = (design * (odds * (1.0 - odds))[:, None]).T @ design + np.diag(penalty)
        step = _solved(curve, slope)
        size = 1.0
        while (after := loss(theta - size * step)) > now and size > 1e-8:
            size /= 2.0
        if after > now:
            break
        theta, now = theta - size * step, after
    return theta[:-1], float(theta[-1])


def _solved(curve: Numbers, slope: Numbers) -> Numbers:
    """Return the Newton step: the curvature is positive definite, unless all odds underflow."""
    try:
        return np.asarray(linalg.solve(curve, slope, assume_a="pos", check_finite=False), float)
    except (linalg.LinAlgError, linalg.LinAlgWarning):
        return np.asarray(np.linalg.lstsq(curve, slope, rcond=None)[0], float)
