"""The `Engine` protocol and `SamplingParams`: an engine continues prompts, and records how it did so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from safekey.errors import UserError
from safekey.schema import Completion, Prompt


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling settings. Every field is recorded (`to_dict`).

    Attributes:
        temperature: 0 is greedy decoding. None: the model's own (generation_config; a server's default).
        top_p: nucleus sampling; 1 keeps all tokens. None: the model's own.
        top_k: keep the k likeliest tokens; 0 keeps all. None: the model's own.
        max_new_tokens: longest completion in tokens, the end token included.
        repetition_penalty: over prompt and completion, without padding, as in vLLM; 1.0 is none. The model's own
            value is never used.
        seed: decides the sample, together with the tokens of the prompt.
        stop: strings that end a completion; they are not part of its text.
    """

    temperature: float | None = 0.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    max_new_tokens: int = 8000
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "temperature": (self.temperature is None or self.temperature >= 0, "0 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "more than 0, at most 1"),
            "top_k": (self.top_k is None or self.top_k >= 0, "0 (all tokens) or more"),
            "max_new_tokens": (self.max_new_tokens >= 1, "1 or more"),
            "repetition_penalty": (self.repetition_penalty > 0, "more than 0"),
            "stop": (all(self.stop), "strings that are not empty"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise UserError(f"sampling: {name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def greedy(self) -> bool:
        """Whether decoding is greedy."""
        return self.temperature == 0

    def to_dict(self) -> dict[str, Any]:
        """Return every setting, for the record."""
        return asdict(self) | {"stop": list(self.stop)}

    def filled(self, own: dict[str, Any]) -> SamplingParams:
        """Return these settings with every None replaced by the model's own."""
        names = ("temperature", "top_p", "top_k")
        return replace(self, **{name: own[name] for name in names if getattr(self, name) is None and name in own})


class Engine(Protocol):
    """Continues prompts."""

    def describe(self) -> dict[str, Any]:
        """Return which model runs and how: kind, model, revision, hash of the weights, versions; never a secret."""
        ...

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Continue each prompt; yield (its index, its completion) as they finish, each index exactly once.

        Args:
            prompts: the prompts to continue.
            params: settings for all prompts, or one for each.

        Raises:
            UserError: a prompt cannot be continued exactly as asked; raised by the call itself, before any generation.
        """
        ...

    def close(self) -> None:
        """Release the model or the connections, and stop what still runs."""
        ...


def one_for_each(
    prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
) -> Sequence[SamplingParams]:
    """Return one `SamplingParams` for each prompt."""
    if isinstance(params, SamplingParams):
        return [params] * len(prompts)
    if len(params) != len(prompts):
        raise ValueError(f"{len(params)} sampling settings for {len(prompts)} prompts")
    return params


def prompt_seed(seed: int, ids: Sequence[int]) -> int:
    """Derive the seed of one prompt, independent of the other prompts and of their order."""
    text = f"{seed}:" + ",".join(map(str, ids))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
