"""`VllmEngine`: start vLLM on a checkpoint, generate token for token as with any server, and end it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from safekey.engines import weights
from safekey.engines.base import SamplingParams, one_for_each
from safekey.engines.prompting import place, template_hash
from safekey.engines.vllm.adapters import rank_of
from safekey.engines.vllm.command import BASE, ServeCommand, check_options, find_executable, version_beside
from safekey.engines.vllm.connection import Connection, wait_until_up
from safekey.engines.vllm.parts import generation_config, parts_here
from safekey.engines.vllm.process import Say
from safekey.engines.vllm.service import Remote, Served, Service
from safekey.errors import UserError
from safekey.schema import Completion, Prompt
from safekey.text.chat import DEFAULT_DATE, ChatFormat, chat_format, end_ids

ADAPTER = "adapter"
"""The name of an adapter that is served alone."""


class VllmEngine:
    """Generates with a vLLM that it starts itself; the server is started by `start`, or by the first generation.

    Attributes:
        sampling_defaults: the model's own temperature, top_p and top_k.
        concurrency: most requests at a time.
        startup_timeout: seconds within which the server must answer.
    """

    def __init__(
        self,
        model: str,
        *,
        vllm: str | None = None,
        revision: str | None = None,
        adapter: str | None = None,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        concurrency: int = 128,
        timeout: float = 1800.0,
        startup_timeout: float = 1800.0,
        max_attempts: int = 6,
        backoff: float = 1.0,
        chat_template_kwargs: dict[str, Any] | None = None,
        today: str = DEFAULT_DATE,
        **options: Any,
    ):
        """Find vLLM and the model, and check all options; nothing is started.

        Args:
            model: a model's, run's or LoRA adapter's folder, or a hub id, which is downloaded here.
            vllm: vLLM's executable, or the folder of its environment. Default: `vllm` on PATH.
            revision: of a hub id.
            adapter: folder of a LoRA adapter on top of the model.
            tokenizer: folder of another tokenizer than the model's.
            trust_remote_code: run Python code that comes with the model, here and in vLLM.
            concurrency: most requests at a time; vLLM itself decides how many of them it batches.
            timeout: seconds for one attempt of a request.
            startup_timeout: seconds within which the server must answer.
            max_attempts: most attempts for one request.
            backoff: seconds before the second attempt; it doubles, up to a minute.
            chat_template_kwargs: variables for the chat template.
            today: ISO date that a template with a clock prints.
            options: of `vllm serve`, with underscores: ``max_model_len=4096``, ``tensor_parallel_size=2``.

        Raises:
            UserError: vLLM, the model or its tokenizer is not there, or an option cannot be set.
        """
        from safekey.engines.sampling import own_sampling  # imports torch

        self.check(options)
        _check_numbers(
            {"concurrency": concurrency, "max_attempts": max_attempts},
            {"timeout": timeout, "startup_timeout": startup_timeout, "backoff": backoff},
        )
        self._model, self._given, self._trust = model, options, trust_remote_code
        self._source, self._revision = parts_here(weights.find(model, adapter), revision, trust_remote_code)
        self._rank = rank_of(self._source.adapter) if self._source.adapter else 0
        if tokenizer is not None:
            self._source = replace(self._source, tokenizer=weights.tokenizer_folder(tokenizer).tokenizer)
        self._executable, self._asked = "", vllm
        self._served: Served | None = None
        self._name = ADAPTER if self._source.adapter else BASE
        self._kwargs = dict(chat_template_kwargs or {})
        loaded = weights.load_tokenizer(self._source, None, trust_remote_code)
        self.chat: ChatFormat = chat_format(loaded, self._kwargs, today)
        own = generation_config(self._source.base)
        self._ends, self.sampling_defaults = end_ids(self.chat, own.eos_token_id), own_sampling(own)
        self.concurrency, self.startup_timeout = concurrency, float(startup_timeout)
        # The first request may wait behind those of other jobs, so it has as much time as any.
        how = {"timeout": timeout, "probe_timeout": timeout, "max_attempts": max_attempts, "backoff": backoff}
        self._how: dict[str, Any] = how
        self._service: Service | None = None
        self._connected: Connection | None = None
        self._to_delete: Path | None = None
        self._lock = threading.Lock()

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        """Check options of `vllm serve`.

        Raises:
            UserError: one is safekey's own business, or cannot be passed on.
        """
        check_options(options)

    def use(self, served: Remote, name: str) -> None:
        """Use a server that another process owns, under this name of the model; call it before `start`."""
        self._served, self._name = served, name

    def command(self, adapters: Mapping[str, str] | None = None, rank: int = 0) -> ServeCommand:
        """Return what a server for this model runs on.

        Args:
            adapters: name → folder of other adapters than its own, for a server of many.
            rank: the largest rank among them.

        Raises:
            UserError: there is no vLLM.
        """
        if adapters is None and self._source.adapter:
            adapters, rank = {ADAPTER: self._source.adapter}, self._rank
        source = self._source
        own = source.tokenizer if source.tokenizer not in (source.base, source.adapter) else None
        if own is None and not weights.tokenizer_files(Path(source.base)):
            own = source.tokenizer
        return ServeCommand(
            find_executable(self._asked), source.base, own, adapters or {}, rank, self._options, self._trust
        )

    def start(self, folder: Path | None = None, say: Say = lambda line: None) -> None:
        """Start the server, or wait for the one that another process starts.

        Args:
            folder: of the server's log, for this user only; None: a temporary one.
            say: takes lines about the start.

        Raises:
            UserError: it cannot start, for a reason that the user can mend.
            VllmError: for another reason.
        """
        with self._lock:
            if self._connected is not None:
                return
            if self._served is not None:
                wait_until_up(self._served, self.startup_timeout)
                self._connect(self._served)
                return
            command = self.command()
            place = folder or Path(tempfile.mkdtemp(prefix="safekey-vllm-log-"))
            service = Service(command, place, startup_timeout=self.startup_timeout, say=say)
            self._service = self._served = service
            service.start(probe=lambda: self._connect(service))
            self._to_delete = None if folder else place  # nobody reads the log of a server that started

    def probe(self, served: Served) -> None:
        """Ask a running server one short question about the model without an adapter.

        Raises:
            UserError: it does not continue the very ids that it is sent, or cannot run this model.
        """
        self._name = BASE
        self._connect(served)
        self.close()

    def _connect(self, served: Served) -> None:
        """Open the connection; one short request tests whether the server continues the very ids that it is sent."""
        self._connected = Connection(
            f"http://127.0.0.1:{served.state.port}/v1#{self._name}", served, self.chat, self._ends,
            concurrency=self.concurrency, chat_template_kwargs=self._kwargs, **self._how,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return which model runs and how; the server's part is known once it runs."""
        import openai

        state = self._served.state if self._served is not None else None
        version = (state.version if state else "") or self._version
        return {
            "kind": "vllm",
            "model": self._model,
            "base": self._source.base,
            "adapter": self._source.adapter,
            "revision": self._revision,
            "weights_sha256": self._fingerprint,
            "dtype": str(self._options["dtype"]),
            "mode": "tokens",
            "rendered_by": "safekey",
            "server": "vllm",
            "options": self._options,
            "starts": state.number if state else 0,
            "shared": self._service is None and self._served is not None,
            "context": self._connected.context if self._connected else None,
            "sampling_defaults": self.sampling_defaults,
            "tokenizer": self._source.tokenizer,
            "end_token_ids": list(self._ends),
            "chat_template_sha256": template_hash(self.chat),
            "chat_template_kwargs": self._kwargs,
            "trust_remote_code": self._trust,
            "versions": {
                "safekey": metadata.version("safekey"), "openai": openai.__version__, "vllm": version or "unknown",
            },
        }  # fmt: skip

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Continue each prompt; see `Engine.generate`. The server is started when the first result is asked for.

        Raises:
            UserError: a prompt cannot be rendered.
            VllmError: the server ended twice; raised while generating.
        """
        settings = [each.filled(self.sampling_defaults) for each in one_for_each(prompts, params)]
        for prompt in prompts:
            place(prompt, self.chat)
        return self._generate(list(prompts), settings)

    def submit(self, prompt: Prompt, params: SamplingParams) -> Future[Completion]:
        """Continue one prompt in the background; see `generate`."""
        self.start()
        assert self._connected is not None
        return self._connected.submit(prompt, params.filled(self.sampling_defaults))

    def close(self) -> None:
        """Close the connections and end the server, if it is this engine's own."""
        with self._lock:
            try:
                if self._connected is not None:
                    self._connected.close()
            finally:
                if self._service is not None:
                    self._service.stop()
                if self._to_delete is not None:
                    shutil.rmtree(self._to_delete, ignore_errors=True)
            self._connected = self._service = self._served = None

    def __repr__(self) -> str:
        return f"VllmEngine({self._model})"

    def _generate(self, prompts: list[Prompt], settings: list[SamplingParams]) -> Iterator[tuple[int, Completion]]:
        self.start()
        assert self._connected is not None
        yield from self._connected.generate(prompts, settings)

    @cached_property
    def _options(self) -> dict[str, Any]:
        """The user's options, and on a CPU ours: float32, as the local engine (bf16 is slow), and prompts read whole.

        vLLM 0.32 dies there of a sampled answer whose prompt it reads in pieces ("CPU Generator does not use offset").
        """
        given = dict(self._given)
        on_cpu = weights.pick_device(None).type == "cpu"
        given.setdefault("dtype", "float32" if on_cpu else "auto")
        if on_cpu and not any(name.replace("-", "_").endswith("enable_chunked_prefill") for name in given):
            given["enable_chunked_prefill"] = False
        return given

    @cached_property
    def _fingerprint(self) -> str:
        return weights.fingerprint(self._source)

    @property
    def _version(self) -> str:
        try:
            return version_beside(find_executable(self._asked)) or ""
        except UserError:
            return ""


def _check_numbers(whole: Mapping[str, Any], any_kind: Mapping[str, Any]) -> None:
    for name, value in {**whole, **any_kind}.items():
        kinds: Any = int if name in whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
            kind = "a whole number" if name in whole else "a number"
            raise UserError(f"--engine-option {name}: expected {kind} above 0, found {value!r:.60}")
