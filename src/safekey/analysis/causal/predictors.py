"""What the outcome of a model's own responses can be told from: K's stance, the first thinking token, U, K.

If U alone tells the outcome as well as K does, then K does not decide: it reports. Each predictor gives one number for
a response, and the AUROC is of unsafe against safe answers. A predictor that is fitted has seen no row of the same
behaviour, and scores are compared within a fold only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safekey.analysis.causal.conditions import Own
from safekey.analysis.probe.folds import folds_of
from safekey.analysis.probe.logistic import fit
from safekey.stats.auroc import Auroc, auroc

STANCE_ORDER: Mapping[str, float] = {"refusing": 0.0, "cautious": 1.0, "other": 2.0, "complying": 3.0}
"""How far a stance of K goes towards complying."""

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Predicted:
    """One predictor.

    Attributes:
        name: what it reads.
        auroc: of unsafe against safe answers; None where that cannot be said.
        note: how it is fitted, or why there is no number.
    """

    name: str
    auroc: Auroc | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "auroc": None if self.auroc is None else self.auroc._asdict(), "note": self.note}


def predictors(
    own: Sequence[Own], unsafe: Sequence[bool], behaviours: Sequence[str], tokenizer: Any = None, seed: int = 0
) -> list[Predicted]:
    """Return every predictor.

    Args:
        own: the parts of the model's own responses that have a verdict.
        unsafe: the verdicts.
        behaviours: of the requests.
        tokenizer: the model's, for the first token; None: the first word is read.
        seed: deals behaviours to folds.
    """
    first = "first thinking token" if tokenizer is not None else "first word of the thinking"
    names = ("K's stance", first, "words of U", "words of K")
    kinds = sum(unsafe), len(unsafe) - sum(unsafe)
    if not min(kinds, default=0):
        return [Predicted(name, None, f"all {len(unsafe)} outcomes are alike") for name in names]
    stance = auroc([STANCE_ORDER[each.stance] for each in own], unsafe, behaviours)
    found = [Predicted(names[0], stance, "refusing < cautious < other < complying; nothing is fitted")]
    try:
        folds = folds_of(behaviours, unsafe, seed)
    except ValueError:
        why = "an outcome occurs in fewer than two behaviours"
        return [*found, *(Predicted(name, None, why) for name in names[1:])]
    fold = [folds[name] for name in behaviours]
    beginnings = [_first(each.thinking, tokenizer) for each in own]
    scores = {
        names[1]: _crossed(unsafe, fold, lambda inside, test: _rates(beginnings, unsafe, inside, test)),
        names[2]: _crossed(unsafe, fold, lambda inside, test: _words(_bags(own, "U"), unsafe, inside, test)),
        names[3]: _crossed(unsafe, fold, lambda inside, test: _words(_bags(own, "K"), unsafe, inside, test)),
    }
    note = f"fitted on other behaviours, {max(fold) + 1} folds"
    return [*found, *(Predicted(name, auroc(some, unsafe, behaviours, fold), note) for name, some in scores.items())]


def _crossed(
    unsafe: Sequence[bool], fold: Sequence[int], scored: Callable[[list[int], list[int]], Sequence[float]]
) -> list[float]:
    found = [0.0] * len(unsafe)
    for held in set(fold):
        inside = [at for at, one in enumerate(fold) if one != held]
        test = [at for at, one in enumerate(fold) if one == held]
        for at, score in zip(test, scored(inside, test), strict=True):
            found[at] = float(score)
    return found


def _first(thinking: str, tokenizer: Any) -> str:
    if tokenizer is not None:
        ids = tokenizer(thinking[:200], add_special_tokens=False)["input_ids"]
        return str(ids[0]) if ids else ""
    match = _WORD.search(thinking)
    return match.group().casefold() if match else ""


def _rates(beginnings: Sequence[str], unsafe: Sequence[bool], inside: list[int], test: list[int]) -> list[float]:
    """Return for each row the share of unsafe among the other rows that begin alike; half where none does."""
    found = []
    for at in test:
        alike = [unsafe[row] for row in inside if beginnings[row] == beginnings[at]]
        found.append((sum(alike) + 0.5) / (len(alike) + 1))
    return found


def _bags(own: Sequence[Own], part: str) -> list[set[str]]:
    return [set(_WORD.findall((one.understanding if part == "U" else one.key).casefold())) for one in own]


def _words(bags: Sequence[set[str]], unsafe: Sequence[bool], inside: list[int], test: list[int]) -> Sequence[float]:
    """Return the log-odds by a logistic regression on the words that occur."""
    labels = [unsafe[at] for at in inside]
    known = sorted(set().union(*(bags[at] for at in inside)))
    if len(set(labels)) < 2 or not known:
        return [0.0] * len(test)

    def features(rows: list[int]) -> NDArray[np.float64]:
        return np.array([[word in bags[at] for word in known] for at in rows], dtype=float)

    (fitted,) = fit(features(inside), [labels])
    return [float(score) for score in fitted.scores(features(test))]
