"""Sample tokens so that the result of a prompt does not depend on its batch.

`torch.multinomial` draws for the whole batch from one generator, so a row's sample depends on the other rows. Here each
row has its own uniform numbers, drawn from its own seed before the first step; each step inverts the cumulative
distribution at the next number of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from safekey.engines.base import SamplingParams

_TAIL = 24  # tokens beyond a stop string's characters that are decoded when looking for it


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Keep only the score of the sampled token, so that greedy decoding after it takes this token."""

    def __init__(self, seeds: Sequence[int], steps: int, width: int, device: Any):
        """Draw the numbers of each row.

        Args:
            seeds: one for each row.
            steps: most tokens to generate.
            width: length of the padded prompts.
            device: where the scores are.
        """
        rows = [torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
        self._width = width
        # MPS has no float64; there the cumulative sum is kept in float32.
        self._dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self._uniform = torch.stack(rows).to(device=device, dtype=self._dtype)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores in which only the sampled token is finite."""
        total = torch.softmax(scores, dim=-1, dtype=self._dtype).cumsum(dim=-1)
        point = self._uniform[:, input_ids.shape[1] - self._width].unsqueeze(1) * total[:, -1:]
        # right=True: a number on a border belongs to the next token, so a token of probability 0 is never drawn.
        drawn = torch.searchsorted(total, point, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -float("inf")).scatter_(1, drawn, 0.0)


class Until(StoppingCriteria):  # type: ignore[misc]
    """Stop a row at a stop string, and every row when the engine is closed.

    Attributes:
        ended: for each row with a stop string, its number of generated tokens at that point.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str], width: int, closed: Callable[[], bool]):
        self._decode, self._stop, self._width, self._closed = decode, stop, width, closed
        self._tail = _TAIL + max((len(s.encode()) for s in stop), default=0)
        self.ended: dict[int, int] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return which rows are done."""
        done = torch.full((input_ids.shape[0],), self._closed(), dtype=torch.bool, device=input_ids.device)
        if self._stop:
            for row, ids in enumerate(input_ids[:, self._width :][:, -self._tail :].tolist()):
                if row not in self.ended and any(string in self._decode(ids) for string in self._stop):
                    self.ended[row] = input_ids.shape[1] - self._width
            done[list(self.ended)] = True
        return done


def processors(
    params: SamplingParams, seeds: Sequence[int], padding: Sequence[int], width: int, steps: int, device: Any
) -> LogitsProcessorList:
    """Return the logits processors for these settings, in transformers' order.

    Args:
        params: the settings, without None.
        seeds: one for each row.
        padding: left padding of each row in tokens; the repetition penalty ignores it.
        width: length of the padded prompts.
        steps: most tokens to generate.
        device: where the scores are.
    """
    made = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        lengths = torch.tensor(list(padding), device=device)
        made.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty), prompt_ignore_length=lengths))
    if params.greedy:
        return made
    if params.temperature not in (None, 1.0):
        made.append(TemperatureLogitsWarper(float(params.temperature or 1.0)))
    if params.top_k:
        made.append(TopKLogitsWarper(top_k=params.top_k))
    if params.top_p is not None and params.top_p < 1.0:
        made.append(TopPLogitsWarper(top_p=float(params.top_p)))
    made.append(Draw(seeds, steps, width, device))
    return made


def own_sampling(own: Any) -> dict[str, Any]:
    """Return the temperature, top_p and top_k of a model's generation_config."""
    sampled = bool(own.do_sample)
    return {
        "temperature": (1.0 if own.temperature is None else own.temperature) if sampled else 0.0,
        "top_p": (own.top_p or 1.0) if sampled else 1.0,
        "top_k": (own.top_k or 0) if sampled else 0,
    }
