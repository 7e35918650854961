"""The Inspect model API `safekey`: Inspect's tasks run on our engines, with exact prefills and complete records.

    inspect eval task.py --model safekey/runs/r1-7b
    inspect eval task.py --model safekey/http://127.0.0.1:8000/v1#r1-7b -M tokenizer=deepseek-ai/DeepSeek-R1-...

Every output has a record of its generation under ``metadata["safekey"]``::

    {"text": "... </think>\\n\\nI can't", "finish": "stop", "prefill": "Sure, here", "started_inside": true,
     "prompt_ids": [1, 46, ...], "prompt_sha256": "5f2c...", "output_tokens": 96, "error": "",
     "rendered_by": "safekey", "sampling": {"temperature": 0.0, ...}}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput
from inspect_ai.tool import ToolChoice, ToolInfo

from safekey.engines import Engine, SamplingParams, open_engine
from safekey.engines.collect import Collector
from safekey.errors import UserError
from safekey.evals.model_api.convert import MAX_TOKENS, to_output, to_params, to_prompt
from safekey.schema import NO_ANSWER, Completion, Prompt

_MARK = "#safekey-"


class NoAnswerError(RuntimeError):
    """A server gave no answer, and another attempt might get one: the sample is an error, never a score."""


def one_line(error: Exception) -> str:
    """Return an error of Inspect's as one line without markup."""
    return " ".join(re.sub(r"\[/?\w+\]", "", str(error)).split())


class SafeKeyAPI(ModelAPI):
    """A model of Inspect's that runs on one of our engines.

    The engine is opened at the first request, so that rescoring a log needs neither weights nor server.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        engine: Engine | None = None,
        kind: str = "auto",
        **options: Any,
    ):
        """Make the API; check all that can be checked without loading anything.

        Args:
            model_name: a model's folder, a hub id, or ``URL#name``.
            base_url: an endpoint's URL; `model_name` is then the model's name there.
            api_key: refused: keys come from the environment, so that no log holds them.
            config: Inspect's.
            engine: an open engine.
            kind: as in `open_engine`.
            options: the engine's own (`-M batch_size=8`).
        """
        self._real_url = (base_url or "").partition(_MARK)[0] or None
        self._lock = threading.Lock()
        self._engine = engine
        self._collector: Collector | None = None
        self._fingerprint = ""
        self._target = f"{self._real_url}#{model_name}" if self._real_url else model_name
        self._kind, self._options = kind, options
        super().__init__(model_name, self._real_url, None, [], config or GenerateConfig())
        if api_key is not None:
            raise PrerequisiteError("safekey takes no api_key: set OPENAI_API_KEY (or -M api_key_env=NAME) instead")
        if engine is None and kind in ("auto", "local") and not self._is_url:
            from safekey.engines.weights import find

            try:
                find(model_name, options.get("adapter"))
            except UserError as error:
                raise PrerequisiteError(str(error)) from error

    @property
    def _is_url(self) -> bool:
        return self._target.startswith(("http://", "https://"))

    @property
    def engine(self) -> Engine:
        """The engine; it is opened now if it is not open.

        Raises:
            UserError: it cannot be opened.
        """
        with self._lock:
            if self._engine is None:
                self._engine = open_engine(self._target, self._kind, **self._options)
            return self._engine

    # Inspect's cache knows a model by its name and its base_url. With the name alone, a retrained model would get the
    # outputs of the old one, so a hash of the weights and of all else that `describe` returns is in the base_url.
    @property
    def base_url(self) -> str | None:
        """The endpoint's URL, if any, and a fingerprint of the engine."""
        if not self._fingerprint:
            text = json.dumps(self.engine.describe(), sort_keys=True, default=str)
            self._fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
        return f"{self._real_url or ''}{_MARK}{self._fingerprint}"

    @base_url.setter
    def base_url(self, value: str | None) -> None:
        self._real_url = value

    def max_tokens(self) -> int | None:
        """Return the default for the longest completion."""
        return MAX_TOKENS

    def max_connections(self) -> int:
        """Return how many requests Inspect should keep open: several batches, so that they can be sorted by length."""
        if self._is_url:
            return int(self._options.get("concurrency") or 32)
        at_once: int | None = getattr(self.engine, "concurrency", None) if self._kind == "vllm" else None
        if at_once is not None:
            return at_once
        return 4 * int(self._options.get("batch_size") or 16)

    def connection_key(self) -> str:
        """Return the key of the connection pool: one pool for each engine."""
        return self._target

    def close(self) -> None:
        """Close the engine; waiting requests are cancelled."""
        with self._lock:
            if self._collector is not None:
                self._collector.close()
            elif self._engine is not None:
                self._engine.close()
            self._engine = self._collector = None

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Continue a conversation; a last assistant message is a prefill (`prefill_message`).

        Raises:
            UserError: the engine cannot follow the prompt or the settings exactly.
            NoAnswerError: a server did not answer; `inspect eval-retry` asks again.
        """
        if tools:
            raise UserError("safekey models take no tools: their prompts are rendered without")
        prompt, params = to_prompt(input), to_params(config)
        if self._engine is None:
            await asyncio.to_thread(lambda: self.engine)
        completion = await asyncio.wrap_future(self._submit(prompt, params))
        if completion.finish == "error" and completion.error.startswith(NO_ANSWER):
            raise NoAnswerError(f"{self.model_name}: {completion.error}")
        used = params.filled(getattr(self.engine, "sampling_defaults", {}))
        return to_output(completion, used, self.model_name)

    def _submit(self, prompt: Prompt, params: SamplingParams) -> Future[Completion]:
        engine = self.engine
        submit: Callable[[Prompt, SamplingParams], Future[Completion]] | None = getattr(engine, "submit", None)
        if submit is not None:  # a server batches by itself
            return submit(prompt, params)
        with self._lock:
            if self._collector is None:
                rows = getattr(engine, "batch_size", None)
                # An engine with batches waits until Inspect has started its samples; another one does not wait.
                self._collector = Collector(engine, most=4 * (rows or 16), **({"linger": 0.25} if rows else {}))
            return self._collector.submit(prompt, params)
