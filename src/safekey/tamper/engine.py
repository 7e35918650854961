"""An engine whose weights were tampered with: it generates as the one below does, and its record says what was done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safekey.engines.base import SamplingParams
from safekey.engines.local import LocalEngine
from safekey.schema import Completion, Prompt


class TamperedEngine:
    """The engine of one state of an arm; closing it leaves the engine below open."""

    def __init__(self, below: LocalEngine, about: Mapping[str, Any]) -> None:
        """Take the engine below, and what was done to its weights ({}: nothing)."""
        self._below, self._about = below, dict(about)

    @property
    def batch_size(self) -> int:
        """Most rows in a batch."""
        return self._below.batch_size

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """The model's own sampling settings."""
        return self._below.sampling_defaults

    def describe(self) -> dict[str, Any]:
        """Return the record of the engine below; changed weights have a hash of their own: no run mixes them."""
        known = self._below.describe()
        if not self._about:
            return known
        words = json.dumps([known["weights_sha256"], self._about], sort_keys=True)
        changed = {"weights_sha256": hashlib.sha256(words.encode()).hexdigest(), "tampered": self._about}
        return known | changed | {"untampered_weights_sha256": known["weights_sha256"]}

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Continue each prompt; see `Engine.generate`."""
        return self._below.generate(prompts, params)

    def close(self) -> None:
        """Do nothing: the next state goes on with the engine below."""
