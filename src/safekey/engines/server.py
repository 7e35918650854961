"""Use an OpenAI-compatible endpoint: vLLM, SGLang, `transformers serve`, OpenAI, Azure.

There are two modes. "tokens": safekey renders the prompt and sends its token ids to /v1/completions, the same ids that
the local engine continues, prefill included. It needs the model's tokenizer and a server that takes ids (vLLM, SGLang).
"chat": the server renders the messages; the ids are unknown and a prefill is refused.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from importlib import metadata
from typing import Any

from safekey.engines import wire
from safekey.engines.base import SamplingParams, one_for_each, prompt_seed
from safekey.engines.prompting import Placed, failed, place, template_hash, too_long
from safekey.engines.transport import Loop, StatusError, Transport, UnreachableError
from safekey.errors import UserError
from safekey.schema import Completion, Message, Prompt
from safekey.text.chat import DEFAULT_DATE, ChatFormat, chat_format, end_ids

_PROBE = Prompt((Message("user", "Hello"),))


class ServerEngine:
    """Sends prompts to an endpoint, several at a time, and retries each until it is answered or no attempt is left."""

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        revision: str | None = None,
        mode: str = "auto",
        concurrency: int = 32,
        timeout: float = 1800.0,
        probe_timeout: float = 60.0,
        max_attempts: int = 6,
        backoff: float = 1.0,
        api_key_env: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        reply_schema: dict[str, Any] | None = None,
        shorten: bool = False,
        today: str = DEFAULT_DATE,
    ):
        """Connect to the server, and find out which mode it supports.

        Args:
            model: the endpoint's URL and the model's name there: ``http://127.0.0.1:8000/v1#r1-7b``. The name may be
                left out where the server offers one model.
            tokenizer: folder or hub id of the model's tokenizer; needed for mode "tokens".
            revision: of the tokenizer's hub id.
            mode: "tokens", "chat", or "auto": tokens where a tokenizer is given and the server takes ids.
            concurrency: most requests at a time.
            timeout: seconds for one attempt, from the first byte sent to the last received.
            probe_timeout: seconds for each of the first requests, which test whether the server answers.
            max_attempts: most attempts for one request.
            backoff: seconds before the second attempt; it doubles, up to a minute.
            api_key_env: the environment variable that holds the key. Default: AZURE_OPENAI_API_KEY for Azure's hosts,
                else OPENAI_API_KEY.
            chat_template_kwargs: variables for the chat template, here or on the server.
            reply_schema: a JSON schema that the server must hold every reply to (mode "chat").
            shorten: as in `Transport`: for judges and attackers.
            today: ISO date that a template with a clock prints when it is rendered here.

        Raises:
            UserError: the server does not answer, refuses the key or the model, or cannot do what `mode` asks.
        """
        self._url, _, name = model.partition("#")
        self._wire = self._transport(name, api_key_env, timeout, max_attempts, backoff)
        self._wire.shorten = shorten
        self._probe_timeout = probe_timeout
        self.concurrency = max(1, concurrency)
        self._kwargs, self._tokenizer_name = dict(chat_template_kwargs or {}), tokenizer
        self._reply_schema = reply_schema
        self.chat: ChatFormat | None = self._format(tokenizer, revision, today)
        self._ends = end_ids(self.chat) if self.chat else ()
        self._owner, self._why_chat = "", ""
        self._context: int | None = None
        if mode not in ("auto", "tokens", "chat"):
            raise UserError(f"mode '{mode}' does not exist: choose auto, tokens or chat")
        self._loop = Loop()
        try:
            self._loop.run(self._find_model())
            self.mode = self._loop.run(self._find_mode(mode))
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """Return which server and model answer, and who renders the prompts; the weights are unknown."""
        import openai

        return {
            "kind": "server",
            "url": self._url,
            "model": self._wire.model,
            "revision": None,
            "weights_sha256": None,
            "mode": self.mode,
            "rendered_by": "safekey" if self.mode == "tokens" else "server",
            "why_chat": self._why_chat,
            "server": self._owner,
            "context": self._context,
            "tokenizer": self._tokenizer_name,
            "end_token_ids": list(self._ends),
            "chat_template_sha256": template_hash(self.chat) if self.chat else None,
            "chat_template_kwargs": self._kwargs,
            **({"reply_schema": self._reply_schema} if self._reply_schema else {}),
            "versions": {"safekey": metadata.version("safekey"), "openai": openai.__version__},
        }

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Continue each prompt; see `Engine.generate`. A request that fails for good gives an error completion.

        Raises:
            UserError: a prefill is asked for and the server renders the prompts; or a prompt cannot be rendered.
        """
        settings = one_for_each(prompts, params)
        jobs = [self._job(prompt, each) for prompt, each in zip(prompts, settings, strict=True)]
        return self._collect(jobs)

    def submit(self, prompt: Prompt, params: SamplingParams) -> Future[Completion]:
        """Continue one prompt in the background.

        Raises:
            UserError: as `generate`.
        """
        return self._loop.submit(self._limited(self._job(prompt, params)))

    def close(self) -> None:
        """Cancel running requests and close the connections."""
        self._loop.stop(self._wire.api.close)

    def __repr__(self) -> str:
        return f"ServerEngine({self._url}#{self._wire.model})"

    def _transport(self, name: str, key_env: str | None, timeout: float, attempts: int, backoff: float) -> Transport:
        return Transport(self._url, name, key_env, timeout, attempts, backoff)

    def _format(self, tokenizer: str | None, revision: str | None, today: str) -> ChatFormat | None:
        return _chat(tokenizer, revision, self._kwargs, today)

    def _collect(self, jobs: list[Callable[[], Awaitable[Completion]]]) -> Iterator[tuple[int, Completion]]:
        done: queue.SimpleQueue[tuple[int, Future[Completion]]] = queue.SimpleQueue()
        futures = []
        for index, job in enumerate(jobs):
            future = self._loop.submit(self._limited(job))
            future.add_done_callback(lambda f, i=index: done.put((i, f)))  # type: ignore[misc]
            futures.append(future)
        try:
            for _ in jobs:
                index, future = done.get()
                yield index, future.result()
        finally:
            for future in futures:
                future.cancel()

    async def _limited(self, job: Callable[[], Awaitable[Completion]]) -> Completion:
        async with self._loop.slots(self.concurrency):
            return await job()

    def _job(self, prompt: Prompt, params: SamplingParams) -> Callable[[], Awaitable[Completion]]:
        """Prepare one request; all faults of the prompt are found here, before anything is sent."""
        if self.mode == "chat":
            if prompt.prefill and prompt.prefill_tokens != 0:
                raise UserError(
                    f"{self._url} renders the prompts itself, so a prefill cannot be continued token for token there: "
                    f"use a server that takes token ids (vLLM, SGLang) with its tokenizer, or the local engine. "
                    f"{self._why_chat}".rstrip()
                )
            if prompt.raw:
                raise UserError(
                    f"{self._url} puts every prompt into its chat template, so a bare text cannot be asked there: use "
                    f"a server that takes token ids (vLLM, SGLang) with its tokenizer, or the local engine. "
                    f"{self._why_chat}".rstrip()
                )
            return lambda: self._ask_chat(prompt, params)
        assert self.chat is not None
        placed = place(prompt, self.chat)
        return lambda: self._ask_tokens(placed, params)

    async def _ask_tokens(self, placed: Placed, params: SamplingParams) -> Completion:
        chat = self.chat
        assert chat is not None
        if self._context is not None:
            room = self._context - len(placed.ids)
            if room <= 0:
                return failed(too_long(len(placed.ids), self._context), placed)
            params = replace(params, max_new_tokens=min(room, params.max_new_tokens))
        sent = replace(params, seed=prompt_seed(params.seed, placed.ids))
        request = wire.token_request(placed, sent, self._ends)
        return await self._wire.ask(
            self._wire.api.completions,
            request,
            lambda body: wire.read_tokens(body, chat, placed, params, self._ends),
            placed,
        )

    async def _ask_chat(self, prompt: Prompt, params: SamplingParams) -> Completion:
        request = self._chat_request(prompt, params)
        opened = self.chat is not None and self.chat.opened
        return await self._wire.ask(
            self._wire.api.chat.completions, request, lambda body: wire.read_chat(body, opened), None
        )

    def _chat_request(self, prompt: Prompt, params: SamplingParams) -> dict[str, Any]:
        extended = self._owner in ("vllm", "sglang")
        request = wire.chat_request(prompt, params, extended=extended, hosted=self._wire.hosted)
        if self._kwargs:
            request["extra_body"] = request.get("extra_body", {}) | {"chat_template_kwargs": self._kwargs}
        if self._reply_schema:
            request["response_format"] = wire.reply_format(self._reply_schema)
        return request

    async def _find_model(self) -> None:
        """Ask for the list of models, which shows whether the server answers, accepts the key, and serves the model."""
        listed = await self._wire.models(self._probe_timeout)
        entry = next((each for each in listed if each["id"] == self._wire.model), None)
        if not self._wire.model:
            if len(listed) != 1:
                names = ", ".join(each["id"] for each in listed[:8]) or "none"
                raise UserError(f"{self._url}: which model? Write {self._url}#NAME; the server lists: {names}")
            entry, self._wire.model = listed[0], listed[0]["id"]
        entry = entry or (listed[0] if listed else {})
        self._owner = str(entry.get("owned_by") or "")
        # vLLM lists an adapter without its context, and with the model that it stands on.
        base = next((each for each in listed if each["id"] == entry.get("parent")), {})
        context = entry.get("max_model_len") or base.get("max_model_len")
        self._context = context if isinstance(context, int) and entry.get("id") == self._wire.model else None

    async def _find_mode(self, mode: str) -> str:
        """Find out with two short requests whether the server takes token ids, and whether it answers at all."""
        if mode == "tokens" and self._reply_schema:
            raise UserError("a reply_schema needs mode 'chat': a request with token ids has no form of its reply")
        if mode == "tokens" and self.chat is None:
            raise UserError("mode 'tokens' needs the model's tokenizer: name its folder or hub id")
        if mode != "chat" and self.chat is not None and not self._reply_schema:
            self._why_chat = await self._refuses_ids(self.chat)
            if not self._why_chat:
                return "tokens"
            if mode == "tokens":
                raise UserError(f"{self._url} cannot be given token ids: {self._why_chat}")
        params = SamplingParams(temperature=None, top_p=None, top_k=None, max_new_tokens=16 if self._wire.hosted else 1)
        try:
            request, chats = self._chat_request(_PROBE, params), self._wire.api.chat.completions
            await self._wire.probe(self._wire.send, chats, request, self._probe_timeout)
        except StatusError as error:
            if error.status_code != 429:  # busy is not down
                raise UserError(f"{self._url}: model '{self._wire.model}': {error.reason}: {error.message}") from None
        except (UnreachableError, ValueError) as error:
            raise UserError(f"{self._url}: model '{self._wire.model}': {self._wire.clean(error)}") from None
        return "chat"

    async def _refuses_ids(self, chat: ChatFormat) -> str:
        """Return why the server cannot continue exactly the ids that it is sent; "" when it can."""
        placed = place(_PROBE, chat)
        request = wire.token_request(placed, SamplingParams(max_new_tokens=1), self._ends)
        try:
            body = await self._wire.probe(self._wire.send, self._wire.api.completions, request, self._probe_timeout)
            return wire.other_prompt(body, placed.ids)
        except StatusError as error:
            if error.status_code in (401, 403):
                raise UserError(f"{self._url}: the server refuses the key ({error.status_code})") from None
            if error.status_code == 429 or error.status_code >= 500:
                raise UserError(f"{self._url}: {error.reason} to the first request; try again later") from None
            return f"it answers {error.status_code} to a prompt of token ids"
        except UnreachableError as error:
            raise UserError(f"{self._url}: {error}") from None
        except ValueError as error:
            return f"its reply is no completion ({self._wire.clean(error)})"


def _chat(tokenizer: str | None, revision: str | None, kwargs: dict[str, Any], today: str) -> ChatFormat | None:
    if tokenizer is None:
        return None
    from safekey.engines import weights

    try:
        folder = weights.tokenizer_folder(tokenizer)
        return chat_format(weights.load_tokenizer(folder, revision), kwargs, today)
    except UserError as error:
        raise UserError(f"tokenizer: {error}") from error
