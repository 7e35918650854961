"""The ways to train on the same rows that the step benchmark compares. Each is one forward and backward over all rows.

The optimiser's step is left out: it is the same for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import step_setup  # noqa: F401 - first: it makes safekey importable
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from safekey.training.encoding import Encoded
from safekey.training.objective.heads import SafetyHeads
from safekey.training.objective.losses import dual_path_loss, linear_cross_entropy
from safekey.training.objective.pack import Counts, count, pack
from safekey.training.objective.step import safekey_loss
from safekey.training.objective.swaps import partner_queries

PAD, IGNORED = 0, -100
Run = Callable[[], None]


@dataclass(frozen=True)
class Bench:
    """What every variant works on."""

    model: PreTrainedModel
    heads: SafetyHeads
    rows: Sequence[Encoded]
    micro_batch: int
    packed_rows: int

    @property
    def device(self) -> torch.device:
        return next(self.heads.parameters()).device

    def pieces(self, size: int) -> Iterator[Sequence[Encoded]]:
        for begin in range(0, len(self.rows), size):
            yield self.rows[begin : begin + size]


def variants(bench: Bench) -> dict[str, Callable[[], Run]]:
    """Name each variant and say how to set it up; TRL's are there where TRL is installed."""
    found: dict[str, Callable[[], Run]] = {
        "two padded passes": lambda: partial(two_passes, bench),
        "padded SFT (transformers)": lambda: partial(padded_sft, bench),
    }
    if find_spec("trl") and find_spec("datasets"):
        found["padded SFT (TRL)"] = partial(trl_step, bench, padding_free=False)
        if bench.device.type == "cuda" and find_spec("flash_attn"):  # TRL requires it for padding-free batches
            found["padding-free SFT (TRL)"] = partial(trl_step, bench, padding_free=True)
    off = {"qmm_weight": 0.0, "head_weight": 0.0}
    return found | {
        "packed SFT (ours)": lambda: partial(packed, bench, **off),
        "SafeKey (ours)": lambda: partial(packed, bench),
        "SafeKey + query swap (ours)": lambda: partial(packed, bench, qsm_weight=0.2),
        "SafeKey, dense mask": lambda: partial(dense_mask, bench),
    }


def packed(bench: Bench, **weights: float) -> None:
    """Our step; query swap draws its partners over all rows, as the trainer does."""
    total = count(bench.rows)
    swaps = partner_queries(bench.rows, 0)
    for begin in range(0, len(bench.rows), bench.packed_rows):
        piece = slice(begin, begin + bench.packed_rows)
        out = safekey_loss(
            bench.model,
            bench.heads,
            bench.rows[piece],
            counts=total,
            swaps=swaps[piece],
            **weights,  # type: ignore[arg-type]
        )
        out.total.backward()  # type: ignore[no-untyped-call]


def dense_mask(bench: Bench) -> None:
    """Our objective with an explicit mask between documents: packing without an attention function of its own."""
    total = count(bench.rows)
    for rows in bench.pieces(bench.packed_rows):
        _dense_mask_loss(bench, rows, total).backward()  # type: ignore[no-untyped-call]


def _dense_mask_loss(bench: Bench, rows: Sequence[Encoded], total: Counts) -> Tensor:
    batch = pack(rows, qmm=True).to(bench.device)
    document = torch.repeat_interleave(torch.tensor(batch.lengths)).to(bench.device)
    mask = (document[:, None] == document[None]).tril()
    hidden = bench.model.base_model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=mask[None, None], use_cache=False
    ).last_hidden_state[0]
    weights = torch.where(batch.qmm, 0.2 / total.key_tokens, 1 / total.sft_tokens)
    head = bench.model.get_output_embeddings()
    vocab = bench.model.config.vocab_size
    out = linear_cross_entropy(hidden[batch.predictors], batch.targets, weights, head, vocab)
    dpsh = dual_path_loss(bench.heads(hidden, batch.pool), batch.harmful).sum() / total.examples
    return out.total + 0.2 * dpsh


def _padded(rows: Sequence[Encoded], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the right: ids, labels and the mask of real tokens."""
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        length = len(row.input_ids)
        ids[i, :length] = torch.tensor(row.input_ids)
        labels[i, row.first_target : length] = ids[i, row.first_target : length]
        mask[i, :length] = 1
    return ids.to(device), labels.to(device), mask.to(device)


def padded_sft(bench: Bench) -> None:
    """Plain SFT: padded batches, the model's own loss over full logits."""
    learnt = sum(len(row.input_ids) - row.first_target for row in bench.rows)
    for rows in bench.pieces(bench.micro_batch):
        ids, labels, mask = _padded(rows, bench.device)
        out = bench.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, num_items_in_batch=learnt)
        out.loss.backward()


def two_passes(bench: Bench) -> None:
    """What the published code computes: full logits twice, the second time with X masked, both graphs alive.

    Its token accuracies are part of its step. Its mistakes about positions are not: spans here are exact.
    """
    steps = -(-len(bench.rows) // bench.micro_batch)
    for rows in bench.pieces(bench.micro_batch):
        (_two_pass_loss(bench, rows) / steps).backward()  # type: ignore[no-untyped-call]


def _two_pass_loss(bench: Bench, rows: Sequence[Encoded]) -> Tensor:
    ids, labels, _ = _padded(rows, bench.device)
    visible, key = torch.ones_like(ids), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        visible[i, row.spans.query] = 0
        key[i, row.spans.key_sentence] = 1
    out = bench.model(input_ids=ids, labels=labels, use_cache=False, output_hidden_states=True)
    masked = bench.model(input_ids=ids, attention_mask=visible, use_cache=False)
    logits, wanted = masked.logits[:, :-1].contiguous(), ids[:, 1:].contiguous()
    each = F.cross_entropy(logits.view(-1, logits.shape[-1]), wanted.view(-1), reduction="none").view_as(wanted)
    chosen = key[:, 1:].float()
    qmm = (each * chosen).sum() / chosen.sum()
    hidden = out.hidden_states[-1]
    harmful = torch.tensor([float(bool(row.harmful)) for row in rows], device=bench.device)
    dpsh = torch.zeros((), device=bench.device)
    for head, first in ((bench.heads.understanding, False), (bench.heads.query_and_understanding, True)):
        spans = [slice(0 if first else row.spans.understanding.start, row.spans.understanding.stop) for row in rows]
        pooled = torch.stack([hidden[i, span].mean(0) for i, span in enumerate(spans)])
        dpsh = dpsh + 0.5 * F.binary_cross_entropy_with_logits(head(pooled).squeeze(-1).float(), harmful)
    _accuracy(out.logits, labels), _accuracy(masked.logits, torch.where(key.bool(), ids, IGNORED))
    loss: Tensor = out.loss + 0.2 * qmm + 0.2 * dpsh
    return loss


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    right = (logits[:, :-1].argmax(-1) == labels[:, 1:]).sum()
    return float(right / (labels[:, 1:] != IGNORED).sum())


def trl_step(bench: Bench, padding_free: bool) -> Run:
    """TRL's own `SFTTrainer.training_step` on the same rows."""
    import datasets
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    vocabulary = {"<pad>": PAD, "<bos>": 1, "<eos>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )
    checkpointing = bool(bench.model.is_gradient_checkpointing)
    learnt = [[IGNORED] * row.first_target + row.input_ids[row.first_target :] for row in bench.rows]
    data = [{"input_ids": row.input_ids, "labels": labels} for row, labels in zip(bench.rows, learnt, strict=True)]
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=bench.micro_batch,
        max_length=None,
        padding_free=padding_free,
        gradient_checkpointing=checkpointing,
        bf16=False,  # the model has its precision already
        use_cpu=bench.device.type == "cpu",
        report_to=[],
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        model=bench.model, args=settings, train_dataset=datasets.Dataset.from_list(data), processing_class=tokenizer
    )
    forward = bench.model.__dict__.pop("forward")  # TRL's patch of the model: in place while TRL runs, and only then
    items = sum(len(row.input_ids) - row.first_target for row in bench.rows)

    @contextmanager
    def patched() -> Iterator[None]:
        bench.model.__dict__["forward"] = forward
        try:
            yield
        finally:
            del bench.model.__dict__["forward"]

    def run() -> None:
        with patched():
            for begin in range(0, len(data), bench.micro_batch):
                inputs: dict[str, Any] = trainer.data_collator(data[begin : begin + bench.micro_batch])
                trainer.training_step(bench.model, inputs, torch.tensor(items))

    return run
