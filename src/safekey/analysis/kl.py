"""KL between two models, token by token on the same responses, by part of the response: does fine-tuning move K?

    found = kl(open_inside("runs/sft-0"), open_inside("base"), read_rows("rows.jsonl"))
    found.groups[0].parts["K"].value      nats for a token of K, mean over rows

At every token t of a row's response both models get the same tokens before t (teacher forcing)::

    KL_t = Σ_v A(v | tokens < t) · (log A(v | tokens < t) − log B(v | tokens < t))        in nats
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from safekey.analysis.inside import (
    MAX_LENGTH,
    Inside,
    Progress,
    Seen,
    batches,
    check_same_tokens,
    encode_rows,
    names_of,
)
from safekey.analysis.rows import KINDS, RowKind, Rows, with_spans
from safekey.analysis.sheets import Sheet, mean_words
from safekey.engines.padding import padded
from safekey.run_folder.kept import Kept, filled
from safekey.stats.means import Mean, mean_of
from safekey.training.encoding import Encoded

PARTS = ("U", "K", "R", "answer")
"""The understanding; the key sentence; the rest of the thinking; the answer with its tags."""
FIRST = "K's first token"
ALL = "whole response"
_BEFORE, _BEHIND = 16, 32  # tokens around K's first token that are shown one by one
_LOGITS = 1 << 27  # logits of one model in a batch, at most
_WHAT = "kl 1"  # what is kept of rows; another number where the numbers change
_CHUNK = 256  # tokens whose KL is computed at a time


@dataclass(frozen=True, slots=True)
class RowKl:
    """One row's KL.

    Attributes:
        id: the row's.
        kind: of its request.
        behaviour: of its request.
        attack: on its request.
        tokens: part → number of tokens.
        means: part → mean KL of its tokens, in nats; a part without tokens is left out.
        around: offset from K's first token → KL of that token.
    """

    id: str
    kind: RowKind
    behaviour: str
    attack: str
    tokens: Mapping[str, int]
    means: Mapping[str, float]
    around: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one kind.

    Attributes:
        kind: of the requests.
        rows: number of rows.
        behaviours: number of distinct behaviours.
        parts: part → mean over rows of the row's mean, with its interval.
        contrasts: "K − U", … → mean over rows of the row's difference, with its interval.
        around: offset from K's first token → mean over the rows that have a token there.
    """

    kind: RowKind
    rows: int
    behaviours: int
    parts: Mapping[str, Mean | None]
    contrasts: Mapping[str, Mean | None]
    around: Mapping[int, Mean | None]


@dataclass(frozen=True, slots=True)
class KlResult:
    """What `kl` found.

    Attributes:
        models: what is recorded of A and of B.
        data: the rows' file or folder.
        groups: the numbers by kind of request.
        rows: the numbers of each row.
        notes: what was left out, and other things to know.
    """

    models: tuple[Mapping[str, Any], Mapping[str, Any]]
    data: str
    groups: tuple[Group, ...]
    rows: tuple[RowKl, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "analysis": "kl", "unit": "nats per token", "models": list(self.models), "data": self.data,
            "groups": [_plain(group) for group in self.groups], "rows": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }  # fmt: skip

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        heads = tuple(f"{group.kind} ({group.rows} rows)" for group in self.groups)
        names = (*PARTS, FIRST, ALL)
        parts = tuple((name, *(mean_words(group.parts[name]) for group in self.groups)) for name in names)
        gaps = tuple((name, *(mean_words(group.contrasts[name]) for group in self.groups)) for name in _contrasts())
        return [
            Sheet("KL(A‖B), nats for a token: mean over rows (95 % interval)", ("part", *heads), parts),
            Sheet("Differences within a row, nats for a token", ("contrast", *heads), gaps),
        ]


def token_kl(
    first: Float[Tensor, "tokens vocabulary"], second: Float[Tensor, "tokens vocabulary"]
) -> Float[Tensor, " tokens"]:
    """Return KL(first‖second) of each token from both models' logits, in nats, in fp64 where the device can."""
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    pieces = []
    for ours, theirs in zip(torch.split(first, _CHUNK), torch.split(second, _CHUNK), strict=True):
        p, q = ours.to(wide).log_softmax(-1), theirs.to(wide).log_softmax(-1)
        share = p.exp()
        pieces.append(torch.where(share > 0, share * (p - q), 0.0).sum(-1))
    return torch.cat(pieces) if pieces else first.new_zeros(0)


def parts_of(encoded: Encoded) -> dict[str, slice]:
    """Return the tokens of each part of a row with U and K: slices of its `input_ids`."""
    u, k = encoded.spans.understanding, encoded.spans.key_sentence
    end = len(encoded.input_ids)
    thought = max(encoded.thinking_end if encoded.thinking_end is not None else end, k.stop)
    return {"U": u, "K": k, "R": slice(k.stop, thought), "answer": slice(thought, end)}


def kl(
    first: Inside, second: Inside, rows: Rows, *, batch_size: int = 8, max_length: int = MAX_LENGTH,
    progress: Progress | None = None, kept: Kept | None = None,
) -> KlResult:  # fmt: skip
    """Compare two models on the same responses.

    Args:
        first: A; its chat template renders the rows for both.
        second: B.
        rows: those without U or K are left out.
        batch_size: most rows in a batch.
        max_length: longest row in tokens; a longer one loses its end.
        progress: told how many rows of how many are done.
        kept: keeps the tokens' KL of finished rows, and has those of an earlier call that was stopped.

    Raises:
        UserError: the tokenizers differ, or no row has U and K.
    """
    usable = with_spans(rows)
    seen, notes = encode_rows(usable, first, max_length)
    said = check_same_tokens(first, second, seen)
    found: dict[int, RowKl] = {}
    width = min(first.vocabulary, second.vocabulary)
    lengths = [len(each.encoded.input_ids) for each in seen]
    names = names_of(_WHAT, seen, first, second)
    for batch in batches(lengths, batch_size, max(1, _LOGITS // max(first.vocabulary, second.vocabulary))):
        some = [seen[at] for at in batch]
        computed = filled(kept, [names[at] for at in batch], partial(_batch, some, first, second, width))
        for at, values in zip(batch, computed, strict=True):
            found[at] = _row(seen[at], torch.from_numpy(values))
        if progress:
            progress(len(found), len(seen))
    each = tuple(found[at] for at in range(len(seen)))
    groups = tuple(_group(kind, [row for row in each if row.kind == kind]) for kind in KINDS)
    every = (*usable.notes, *notes, *said)
    return KlResult((first.about, second.about), rows.path, tuple(g for g in groups if g.rows), each, every)


@torch.inference_mode()
def _batch(seen: Sequence[Seen], first: Inside, second: Inside, width: int) -> list[NDArray[np.float64]]:
    """Return the KL of each response token of each row, in the row's order from its first response token on."""
    logits = []
    for model in (first, second):
        ids, mask = padded([each.encoded.input_ids for each in seen], model.tokenizer, model.device)
        logits.append(model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[..., :width])
    values = []
    for at, each in enumerate(seen):
        begin, end = each.encoded.spans.query.stop, len(each.encoded.input_ids)
        ours, theirs = (some[at, begin - 1 : end - 1] for some in logits)
        values.append(token_kl(ours, theirs.to(ours.device)).cpu().double().numpy())
    return values


def _row(seen: Seen, values: Tensor) -> RowKl:
    begin = seen.encoded.spans.query.stop
    parts = {name: values[span.start - begin : span.stop - begin] for name, span in parts_of(seen.encoded).items()}
    start = seen.encoded.spans.key_sentence.start - begin
    parts |= {FIRST: values[start : start + 1], ALL: values}
    near = range(max(0, start - _BEFORE), min(len(values), start + _BEHIND))
    row = seen.row
    return RowKl(
        id=row.example.id, kind=row.kind, behaviour=row.behaviour, attack=row.attack,
        tokens={name: len(part) for name, part in parts.items()},
        means={name: float(part.mean()) for name, part in parts.items() if len(part)},
        around={at - start: float(values[at]) for at in near},
    )  # fmt: skip


def _contrasts() -> dict[str, str]:
    return {f"K − {other}": other for other in PARTS if other != "K"}


def _group(kind: RowKind, rows: Sequence[RowKl]) -> Group:
    def mean(value: Callable[[RowKl], float | None]) -> Mean | None:
        pairs = [(number, row.behaviour) for row in rows if (number := value(row)) is not None]
        return mean_of([number for number, _ in pairs], [behaviour for _, behaviour in pairs])

    def gap(other: str) -> Mean | None:
        return mean(lambda row: row.means["K"] - row.means[other] if other in row.means else None)

    offsets = sorted({offset for row in rows for offset in row.around})
    return Group(
        kind=kind, rows=len(rows), behaviours=len({row.behaviour for row in rows}),
        parts={name: mean(lambda row, name=name: row.means.get(name)) for name in (*PARTS, FIRST, ALL)},  # type: ignore[misc]
        contrasts={name: gap(other) for name, other in _contrasts().items()},
        around={offset: mean(lambda row, at=offset: row.around.get(at)) for offset in offsets},  # type: ignore[misc]
    )  # fmt: skip


def _plain(group: Group) -> dict[str, Any]:
    def plain(mean: Mean | None) -> dict[str, Any] | None:
        return None if mean is None else mean._asdict()

    return {
        "kind": group.kind, "rows": group.rows, "behaviours": group.behaviours,
        "parts": {name: plain(mean) for name, mean in group.parts.items()},
        "contrasts": {name: plain(mean) for name, mean in group.contrasts.items()},
        "around_key": {str(at): plain(mean) for at, mean in group.around.items()},
    }  # fmt: skip
