"""A deterministic engine for tests: it answers from a table or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from safekey.engines.base import SamplingParams, one_for_each
from safekey.engines.prompting import place
from safekey.errors import UserError
from safekey.schema import Completion, Prompt
from safekey.text.chat import ChatFormat

Script = Mapping[str, str] | Callable[[Prompt, SamplingParams], "str | Completion"]


class ScriptedEngine:
    """Answers from a table of questions, or by a function.

    Attributes:
        calls: how many prompts it has answered.
    """

    def __init__(
        self, model: str = "scripted", script: Script | None = None, default: str = "", chat: ChatFormat | None = None
    ):
        """Make the engine.

        Args:
            model: its name in the record.
            script: the last user turn → the answer, or a function of the prompt and the settings.
            default: the answer to a question that is not in the table.
            chat: a chat format to render prompts with; without one, a prefill is taken whole and no ids are recorded.
        """
        self._model, self._script, self._default, self._chat = model, script or {}, default, chat
        self.calls = 0

    def describe(self) -> dict[str, Any]:
        """Return the name."""
        return {"kind": "scripted", "model": self._model, "revision": None, "weights_sha256": None}

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Answer each prompt, in order.

        Raises:
            UserError: a prefill is to be cut to a number of tokens, and there is no tokenizer.
        """
        if self._chat is None and any(p.prefill and p.prefill_tokens is not None for p in prompts):
            raise UserError("a scripted engine without a tokenizer cannot count a prefill's tokens: give it `chat`")
        settings = one_for_each(prompts, params)
        return ((i, self._answer(p, s)) for i, (p, s) in enumerate(zip(prompts, settings, strict=True)))

    def _answer(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.calls += 1
        placed = place(prompt, self._chat) if self._chat is not None else None
        if callable(self._script):
            said = self._script(prompt, params)
        else:
            said = self._script.get(prompt.messages[-1].content if prompt.messages else "", self._default)
        if isinstance(said, Completion):
            return said
        inside = placed.started_inside if placed else bool(prompt.prefill) and not prompt.prefill_answer
        prefill = placed.prefill if placed else prompt.prefill
        return Completion(said, "stop", prefill, inside, placed.ids if placed else None, len(said.split()))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
