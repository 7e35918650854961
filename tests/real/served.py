"""What the tests with a real vLLM share: where it is, and when two answers are equal up to ties."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from safekey.schema import Completion

HOME, VLLM = os.environ.get("SAFEKEY_REAL_MODELS", ""), os.environ.get("SAFEKEY_VLLM", "")
MODEL = Path(HOME) / "smollm2"
MARKS = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (HOME and VLLM and MODEL.is_dir()),
        reason="needs SAFEKEY_REAL_MODELS (a folder with smollm2) and SAFEKEY_VLLM (vLLM's executable)",
    ),
]
TIE = 0.02  # of logits: below it rounding decides between two tokens


@contextmanager
def cpu_settings() -> Iterator[None]:
    """Let a server on a CPU take little memory and any core, unless the environment says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("VLLM_CPU_KVCACHE_SPACE", "1"), ("VLLM_CPU_OMP_THREADS_BIND", "nobind")):
            if name not in os.environ:
                patch.setenv(name, value)
        yield


def same_up_to_ties(ours: list[Completion], theirs: list[Completion], path: str) -> int:
    """Check that texts are equal, or go apart where the local model's two tokens are a tie; return how many are not."""
    from safekey.engines import weights

    source = weights.find(path)
    model, tokenizer, differ = None, weights.load_tokenizer(source, None), 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.prompt_ids == other.prompt_ids
        if mine.text == other.text:
            continue
        differ += 1
        one, two = (tokenizer.encode(each.text, add_special_tokens=False) for each in (mine, other))
        at = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
        model = model or weights.load_model(source, None, dtype=torch.float32)
        logits = model(torch.tensor([[*(mine.prompt_ids or ()), *one[:at]]])).logits[0, -1]
        assert abs(float(logits[one[at]] - logits[two[at]])) < TIE, (mine.text, other.text)
    return differ
