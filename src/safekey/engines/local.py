"""Generate with transformers in this process: static batches of prompts of similar length, padded on the left.

The result of a row depends on its prompt, settings and seed, and on rounding: padding and the number of rows change
the order of floating-point sums, so two tokens with almost equal scores may change places between a batch and a single
run. In fp32 this is rare; in bf16 it happens in long greedy completions. Otherwise the rows are independent: each has
its own random numbers (`sampling.py`), length limit and padding.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import Any

import torch
import transformers

from safekey.engines import weights
from safekey.engines.base import SamplingParams, one_for_each, prompt_seed
from safekey.engines.prompting import Placed, completed, decode_after, failed, place, template_hash, too_long
from safekey.engines.sampling import Until, own_sampling, processors
from safekey.errors import UserError
from safekey.schema import Completion, Prompt
from safekey.text.chat import DEFAULT_DATE, chat_format, end_ids

_ROWS = {"cpu": 16, "cuda": 64, "mps": 16}  # rows in a batch, at most
_SHARE = 0.6  # of the free memory that a batch's keys and values may fill


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    placed: Placed
    limit: int  # most tokens to generate for this row
    seed: int


class LocalEngine:
    """Generates with transformers in this process.

    Attributes:
        batch_size: most rows in a batch; halved for good when the memory does not suffice.
        sampling_defaults: the model's own temperature, top_p and top_k.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | None = None,
        attn_implementation: str | None = None,
        max_context: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        today: str = DEFAULT_DATE,
        trust_remote_code: bool = False,
        continuous: bool = False,
    ):
        """Load the model.

        Args:
            model: a model's, run's or LoRA adapter's folder, or a hub id.
            revision: of a hub id: branch, tag or commit.
            adapter: a LoRA adapter's folder to put on top of `model`.
            device: "cuda", "cuda:1", "mps", "cpu", or "auto" to spread over all GPUs. Default: the best one there is.
            dtype: "float32", "bfloat16", "float16"; "auto": bfloat16 on CUDA (float16 where that is missing), else
                float32.
            batch_size: most rows in a batch. Default: what fits into memory, at most 16 on a CPU, 64 on a GPU.
            attn_implementation: transformers' name; default: its own choice.
            max_context: longest prompt and completion together, in tokens. Default: the model's limit.
            chat_template_kwargs: variables for the chat template, such as `enable_thinking`.
            today: ISO date that a template with a clock prints.
            trust_remote_code: run Python code that comes with the model. Default: off, for safety.
            continuous: transformers' continuous batching; CUDA only. Rows then share one random stream.

        Raises:
            UserError: the model cannot be found or loaded, or cannot be used as asked.
        """
        self._name, self._revision, self._continuous = model, revision, continuous
        self._source = weights.find(model, adapter)
        self.device = weights.pick_device(device)
        if continuous and self.device.type != "cuda":
            raise UserError("continuous batching is for CUDA (on a CPU it was 2–9 times slower): leave it off here")
        tokenizer = weights.load_tokenizer(self._source, revision, trust_remote_code)
        try:
            self.chat = chat_format(tokenizer, chat_template_kwargs, today)
        except UserError as error:
            raise UserError(f"{model}: {error}") from error
        options: dict[str, Any] = {"dtype": weights.pick_dtype(dtype, self.device)}
        if attn_implementation:
            options["attn_implementation"] = attn_implementation
        if device == "auto":
            options["device_map"] = "auto"
        loaded = weights.load_model(self._source, revision, trust_remote_code=trust_remote_code, **options)
        self._model = loaded.eval() if device == "auto" else loaded.to(self.device).eval()
        self._take_over_generation_config()
        self._context = max_context or weights.context_length(self._model.config)
        self.batch_size = batch_size or _ROWS.get(self.device.type, 16)
        self._asked_rows = batch_size
        self._closed = threading.Event()

    def _take_over_generation_config(self) -> None:
        """Store the model's own settings elsewhere: transformers would mix them into the requested ones."""
        own = self._model.generation_config
        self._ends = end_ids(self.chat, own.eos_token_id)
        self.sampling_defaults: dict[str, Any] = own_sampling(own)
        pad = self.chat.tokenizer.pad_token_id
        self._pad = pad if pad is not None else self._ends[0] if self._ends else 0
        self._model.generation_config = transformers.GenerationConfig()

    def describe(self) -> dict[str, Any]:
        """Return which model runs and how; the first call reads the weights once more for their sha256."""
        return {
            "kind": "local",
            "model": self._name,
            "base": self._source.base,
            "adapter": self._source.adapter,
            "revision": getattr(self._model.config, "_commit_hash", None) or self._revision,
            "weights_sha256": self._fingerprint,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else platform.machine(),
            "attention": getattr(self._model.config, "_attn_implementation", None),
            "batching": "continuous" if self._continuous else "static",
            "context": self._context,
            "end_token_ids": list(self._ends),
            "sampling_defaults": self.sampling_defaults,
            "chat_template_sha256": template_hash(self.chat),
            "chat_template_kwargs": dict(self.chat.template_kwargs),
            "versions": {
                "safekey": metadata.version("safekey"),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "python": platform.python_version(),
            },
        }

    @property
    def model(self) -> Any:
        """The transformers model; one that is put in its place generates from then on."""
        return self._model

    @model.setter
    def model(self, changed: Any) -> None:
        self._model = changed

    @cached_property
    def _fingerprint(self) -> str:
        return weights.fingerprint(self._source, self._revision)

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[tuple[int, Completion]]:
        """Continue each prompt, longest prompts first; see `Engine.generate`.

        A prompt that leaves no room in the model's context, or does not fit into memory even alone, ends in a
        completion with `finish == "error"`. A completion that fills the context ends with "length".

        Raises:
            UserError: a prompt cannot be rendered or continued as asked.
        """
        settings = [each.filled(self.sampling_defaults) for each in one_for_each(prompts, params)]
        placed = [place(prompt, self.chat) for prompt in prompts]
        if self._continuous and any(each.repetition_penalty != 1.0 or each.stop for each in settings):
            raise UserError("continuous batching knows neither a repetition penalty nor stop strings: leave it off")
        return self._generate(placed, settings)

    def _generate(self, placed: list[Placed], settings: list[SamplingParams]) -> Iterator[tuple[int, Completion]]:
        groups: dict[SamplingParams, list[_Row]] = {}
        for index, (prompt, params) in enumerate(zip(placed, settings, strict=True)):
            room = self._context - len(prompt.ids)
            if room <= 0:
                yield index, failed(too_long(len(prompt.ids), self._context), prompt)
                continue
            row = _Row(index, prompt, min(room, params.max_new_tokens), prompt_seed(params.seed, prompt.ids))
            groups.setdefault(replace(params, seed=0), []).append(row)
        for params, rows in groups.items():
            if self._continuous:
                from safekey.engines.continuous import run

                yield from run(self._model, self.chat, rows, params, self._ends, self._pad)
                continue
            # Rows that fill the context run alone: in a batch they would be generated past the last position.
            tight = [row for row in rows if row.limit < params.max_new_tokens]
            loose = [row for row in rows if row.limit == params.max_new_tokens]
            loose.sort(key=lambda row: -len(row.placed.ids))
            yield from self._batches(loose, params)
            for row in tight:
                yield from self._batches([row], params)

    def _batches(self, rows: list[_Row], params: SamplingParams) -> Iterator[tuple[int, Completion]]:
        while rows and not self._closed.is_set():
            batch = rows[: self._rows(rows[0])]
            done = self._try(batch, params)
            if done is None and len(batch) > 1:
                self.batch_size = max(1, len(batch) // 2)
                continue
            rows = rows[len(batch) :]
            if done is None:
                length = len(batch[0].placed.ids)
                done = [failed(f"out of memory with one prompt of {length} tokens", batch[0].placed)]
            yield from ((row.index, completion) for row, completion in zip(batch, done, strict=True))
        if rows:
            raise RuntimeError("the engine was closed while it generated")

    def _rows(self, longest: _Row) -> int:
        """Return how many rows as long as the longest fit into a batch."""
        if self._asked_rows is not None:
            return self.batch_size
        free = weights.free_memory(self.device)
        if free is None:
            return self.batch_size
        each = weights.cache_bytes(self._model) * (len(longest.placed.ids) + longest.limit)
        return max(1, min(self.batch_size, int(free * _SHARE / max(1, each))))

    def _try(self, batch: list[_Row], params: SamplingParams) -> list[Completion] | None:
        """Generate for one batch; None when the memory does not suffice."""
        try:
            return self._run(batch, params)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
                raise
        if self.device.type == "cuda":  # outside the handler: the traceback would keep the tensors
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _run(self, batch: list[_Row], params: SamplingParams) -> list[Completion]:
        width = max(len(row.placed.ids) for row in batch)
        padding = [width - len(row.placed.ids) for row in batch]
        ids = [[self._pad] * pad + list(row.placed.ids) for pad, row in zip(padding, batch, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        steps = max(row.limit for row in batch)
        tokenizer = self.chat.tokenizer
        until = Until(lambda tail: decode_after(tokenizer, (), tail), params.stop, width, self._closed.is_set)
        seeds = [row.seed for row in batch]
        output = self._model.generate(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            generation_config=transformers.GenerationConfig(
                max_new_tokens=steps,
                do_sample=False,  # `processors` leaves one token to choose
                eos_token_id=list(self._ends) or None,
                pad_token_id=self._pad,
            ),
            logits_processor=processors(params, seeds, padding, width, steps, self.device),
            stopping_criteria=transformers.StoppingCriteriaList([until]),
        )
        if self._closed.is_set():
            raise RuntimeError("the engine was closed while it generated")
        generated = output[:, width:].tolist()
        lengths = [until.ended.get(at, row.limit) for at, row in enumerate(batch)]
        return [
            completed(self.chat, row.placed, ids[:length], self._ends, params.stop)
            for row, ids, length in zip(batch, generated, lengths, strict=True)
        ]

    def close(self) -> None:
        """Stop what still runs, and free the model."""
        self._closed.set()
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
