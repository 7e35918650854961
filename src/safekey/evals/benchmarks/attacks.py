"""The prefilling attack: the attacker writes the start of the model's reasoning.

prefill(items, (5, 20))   # two items for each: the first 5, and the first 20, tokens of the target
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from safekey.errors import UserError
from safekey.evals.benchmarks.items import Item

PREFILL_TOKENS = (20,)


def prefill(items: Iterable[Item], tokens: Sequence[int] = PREFILL_TOKENS) -> list[Item]:
    """Return one item per behaviour and N, with the first N tokens of its target put into the opened thinking.

    The engine cuts the target with the model's own tokenizer; a target shorter than N tokens is used whole. Items of
    one behaviour follow one another, share `behaviour`, and are called "ID@prefill-N".

    Args:
        items: items whose metadata hold the whole target under "prefill".
        tokens: every N, each at least 1.

    Raises:
        UserError: an N is below 1 or named twice, none is named, or an item has no target.
    """
    if not tokens or len(set(tokens)) != len(tokens) or any(isinstance(n, bool) or n < 1 for n in tokens):
        raise UserError(f"prefill tokens: expected different whole numbers from 1, found {list(tokens)}")
    attacked = []
    for item in items:
        target = item.metadata.get("prefill")
        if not isinstance(target, str) or not target.strip():
            raise UserError(f"{item.file}, row {item.row}: no target to prefill")
        for n in tokens:
            prompt = replace(item.prompt, prefill=target, prefill_tokens=n)
            name = f"prefill-{n}"
            attacked.append(replace(item, id=f"{item.id}@{name}", prompt=prompt, attack=name))
    return attacked
