"""Load a model to look inside, and give it rows in padded batches.

    model = open_inside("runs/sft-0")
    seen, notes = encode_rows(rows, model)
    for batch in batches([len(each.encoded.input_ids) for each in seen], rows=8, tokens=4096):
        ids, mask = padded([seen[at].encoded.input_ids for at in batch], model.tokenizer, model.device)

Rows are padded on the right, behind everything that a causal model reads, so no row depends on its batch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from safekey.analysis.rows import Row, Rows
from safekey.engines import weights
from safekey.errors import UserError
from safekey.training.encoding import Encoded, EncodeError, encode

MAX_LENGTH = 4096  # tokens of a row that are read
BATCH = 8  # rows

Progress = Callable[[int, int], None]
"""Is told how many rows of how many are done."""


@dataclass(frozen=True)
class Inside:
    """A model whose insides can be read.

    Attributes:
        name: as the user named it.
        model: the causal language model, in evaluation mode.
        tokenizer: its tokenizer.
        device: where it runs.
        about: what is recorded of it: base, adapter, sha256 of the weights, dtype, class.
    """

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    about: dict[str, Any]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """Number of logits of a token."""
        return int(self.model.config.get_text_config().vocab_size)


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as the model reads it."""

    row: Row
    encoded: Encoded


def open_inside(
    name: str, *, revision: str | None = None, device: str | None = None, dtype: str = "auto", eager: bool = False,
    trust_remote_code: bool = False,
) -> Inside:  # fmt: skip
    """Load a model.

    Args:
        name: a model's, run's or LoRA adapter's folder, or a hub id.
        revision: of a hub id.
        device: "cuda", "mps", "cpu"; None: the best one there is.
        dtype: as for `LocalEngine`.
        eager: compute attention so that its weights can be read.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        UserError: it cannot be loaded, or is no decoder-only language model.
    """
    if name.startswith(("http://", "https://")):
        raise UserError(f"{name}: a server shows nothing of a model's inside: give the model's folder or hub id")
    source, place = weights.find(name), weights.pick_device(device)
    tokenizer = weights.load_tokenizer(source, revision, trust_remote_code)
    options: dict[str, Any] = {"dtype": weights.pick_dtype(dtype, place)}
    if eager:
        options["attn_implementation"] = "eager"
    model = weights.load_model(source, revision, trust_remote_code=trust_remote_code, **options)
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(f"{name}: {type(model).__name__} is an encoder-decoder: expected a decoder-only language model")
    about = {
        "model": name, "base": source.base, "adapter": source.adapter, "revision": revision,
        "weights_sha256": weights.fingerprint(source, revision), "dtype": str(model.dtype).removeprefix("torch."),
        "class": type(model).__name__, "device": str(place),
    }  # fmt: skip
    return Inside(name, model.to(place).eval(), tokenizer, place, about)


def encode_rows(rows: Rows, model: Inside, max_length: int = MAX_LENGTH) -> tuple[list[Seen], list[str]]:
    """Encode rows that have U and K with the model's own chat template; return notes on those that do not fit.

    Raises:
        UserError: the template cannot be used, or no row fits.
    """
    seen: list[Seen] = []
    problems: list[str] = []
    most = min(max_length, weights.context_length(model.model.config))
    for row in rows.rows:
        try:
            encoded = encode(row.example, model.tokenizer, most)
        except EncodeError as error:
            problems.append(str(error))
            continue
        if encoded.spans.complete:
            seen.append(Seen(row, encoded))
        else:
            problems.append(f"{row.example.file}, row {row.example.row}: U or K has no token")
    if not seen:
        raise UserError(f"{rows.path}: no row can be read by {model.name}; the first: {problems[0]}")
    return seen, [f"{len(problems)} rows left out; the first: {problems[0]}"] if problems else []


def names_of(what: str, seen: Sequence[Seen], *models: Inside) -> list[str]:
    """Return a name for what is computed of each row: equal for the same tokens, spans and weights only.

    Args:
        what: the analysis, with its version.
        seen: encoded rows.
        models: those that read them.
    """
    head = json.dumps([what, [model.about for model in models]], sort_keys=True, default=str)
    before: Counter[str] = Counter()
    names = []
    for each in seen:
        row = json.dumps([each.encoded.input_ids, asdict(each.encoded.spans)], default=str)
        names.append(hashlib.sha256(f"{head}\n{row}\n{before[row]}".encode()).hexdigest())
        before[row] += 1  # equal rows in two batches differ in rounding
    return names


def check_same_tokens(first: Inside, second: Inside, seen: Sequence[Seen]) -> list[str]:
    """Check that both models read a text as the same tokens; return notes on what differs without harm.

    Raises:
        UserError: they do not: nothing can be compared token by token.
    """
    ours, theirs = first.tokenizer.get_vocab(), second.tokenizer.get_vocab()
    differ = [token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]]
    missing = ours.keys() ^ theirs.keys()
    advice = "give two models with the same tokenizer, such as a model and what was fine-tuned from it"
    if differ or 100 * len(missing) > len(ours):
        what = f"token {min(differ)!r} has another id" if differ else f"{len(missing)} tokens are in only one of them"
        raise UserError(f"{first.name} and {second.name} have different tokenizers ({what}): {advice}")
    known = min(first.vocabulary, second.vocabulary)
    if any(max(each.encoded.input_ids) >= known for each in seen):
        raise UserError(
            f"{first.name} and {second.name}: the rows hold tokens that one of them does not know: {advice}"
        )
    template, other = first.tokenizer.chat_template, second.tokenizer.chat_template
    for each in seen[:8]:  # the same vocabulary may be cut into words by other rules
        text = each.row.example.response
        if first.tokenizer(text)["input_ids"] != second.tokenizer(text)["input_ids"]:
            raise UserError(f"{first.name} and {second.name} cut the same text into different tokens: {advice}")
    notes = [f"{second.name} has another chat template; that of {first.name} is used for both"]
    notes = notes if template != other else []
    if first.vocabulary != second.vocabulary:
        notes.append(
            f"the models have {first.vocabulary} and {second.vocabulary} logits; the first {known} are compared"
        )
    return notes


def batches(lengths: Sequence[int], rows: int = BATCH, tokens: int = 8192) -> Iterator[list[int]]:
    """Yield batches of indices, longest rows first, so that lack of memory shows at once.

    Args:
        lengths: tokens of each row.
        rows: most rows in a batch.
        tokens: most tokens in a batch, padding included; a longer row stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    while order:
        size = max(1, min(rows, tokens // max(1, lengths[order[0]])))
        yield order[:size]
        order = order[size:]
