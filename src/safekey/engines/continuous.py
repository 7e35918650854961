"""Run transformers' continuous batching for `LocalEngine` on CUDA: rows join and leave the batch at any step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from safekey.engines.base import SamplingParams
from safekey.engines.prompting import completed, failed
from safekey.schema import Completion
from safekey.text.chat import ChatFormat


def run(
    model: Any, chat: ChatFormat, rows: Sequence[Any], params: SamplingParams, ends: Sequence[int], pad: int
) -> Iterator[tuple[int, Completion]]:
    """Generate for all rows; yield (index, completion) as they finish.

    All rows share one random stream, seeded with the first row's seed, so a row's sample depends on the other rows.

    Args:
        model: a transformers model on CUDA.
        chat: its chat format.
        rows: rows of `LocalEngine`.
        params: without repetition penalty and stop strings.
        ends: ids that end a completion.
        pad: the padding id.
    """
    config = transformers.GenerationConfig(
        max_new_tokens=params.max_new_tokens, eos_token_id=list(ends) or None, pad_token_id=pad
    )
    config.do_sample = not params.greedy
    if not params.greedy:
        config.temperature, config.top_p, config.top_k = params.temperature, params.top_p, params.top_k
    torch.manual_seed(rows[0].seed)
    waiting = {}
    with model.continuous_batching_context_manager(generation_config=config) as manager:
        for row in rows:
            waiting[manager.add_request(list(row.placed.ids), max_new_tokens=row.limit)] = row
        while waiting:
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    break
                continue
            if result.is_finished() and result.request_id in waiting:
                row = waiting.pop(result.request_id)
                if result.error is not None:
                    yield row.index, failed(f"continuous batching failed: {result.error}", row.placed)
                else:
                    yield row.index, completed(chat, row.placed, result.generated_tokens, ends)
    for row in waiting.values():
        yield row.index, failed("continuous batching stopped before this prompt was done", row.placed)
