"""Where K's tokens look: the share of their attention that goes to X, U and K itself, by layer and head.

    found = attention(open_inside("runs/sft-0", eager=True), read_rows("rows.jsonl"))
    found.groups[0].overall["U"].value        share of the attention of K's tokens, mean over layers, heads and rows

For every token of K the attention to all tokens before it, and to itself, sums to 1. It is added up over

    first    the first token of the sequence, to which models send attention that they do not need
    X        the rest of the prompt
    U        the understanding
    K        the key sentence up to the token itself
    other    tokens between these parts

and averaged over K's tokens. Nothing behind K is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from safekey.errors import UserError
from safekey.run_folder.kept import Kept, filled
from safekey.stats.means import Mean, mean_of
from safekey.training.encoding import Encoded

PARTS = ("first", "X", "U", "K", "other")
_SHOWN = ("X", "U", "K")
_WHAT = "attention 1"  # what is kept of rows; another number where the numbers change
_WEIGHTS = 1 << 28  # attention weights of all layers in a batch, at most

Shares = NDArray[np.float64]
"""[parts, layers, heads]"""


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """The rows of one kind.

    Attributes:
        kind: of the requests.
        rows: number of rows.
        behaviours: number of distinct behaviours.
        overall: part → share, mean over layers, heads and rows.
        layers: part → for each layer the mean over heads and rows.
        heads: part → [layer][head], mean over rows; X, U and K.
        changes: part → model minus base, paired by row; empty without a base.
        layer_changes: the same for each layer.
        head_changes: [layer][head], mean over rows.
    """

    kind: RowKind
    rows: int
    behaviours: int
    overall: Mapping[str, Mean | None]
    layers: Mapping[str, Sequence[Mean | None]]
    heads: Mapping[str, list[list[float]]]
    changes: Mapping[str, Mean | None] = field(default_factory=dict)
    layer_changes: Mapping[str, Sequence[Mean | None]] = field(default_factory=dict)
    head_changes: Mapping[str, list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttentionResult:
    """What `attention` found.

    Attributes:
        model: what is recorded of the model.
        base: the same of the base; None without one.
        data: the rows' file or folder.
        groups: the numbers by kind of request.
        notes: what was left out, and other things to know.
    """

    model: Mapping[str, Any]
    base: Mapping[str, Any] | None
    data: str
    groups: tuple[AttentionGroup, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "analysis": "attention", "model": dict(self.model), "base": self.base and dict(self.base),
            "data": self.data, "groups": [_plain(group) for group in self.groups], "notes": list(self.notes),
        }  # fmt: skip

    def sheets(self) -> list[Sheet]:
        """Return the tables: shares overall and by layer, and their change against the base."""
        heads = tuple(f"{group.kind} ({group.rows} rows)" for group in self.groups)
        rows = tuple((part, *(mean_words(g.overall[part]) for g in self.groups)) for part in PARTS)
        sheets = [Sheet("Share of the attention of K's tokens (95 % interval)", ("to", *heads), rows)]
        if self.base is not None:
            gaps = tuple((part, *(mean_words(g.changes[part]) for g in self.groups)) for part in PARTS)
            sheets.append(Sheet("Change against the base, same rows", ("to", *heads), gaps))
        for group in self.groups:
            layers = range(len(group.layers["X"]))
            by_layer = tuple((str(at + 1), *(mean_words(group.layers[part][at]) for part in PARTS)) for at in layers)
            sheets.append(Sheet(f"By layer, {group.kind} requests", ("layer", *PARTS), by_layer))
        return sheets


def attention(
    model: Inside, rows: Rows, base: Inside | None = None, *, batch_size: int = 8, max_length: int = MAX_LENGTH,
    progress: Progress | None = None, kept: Kept | None = None,
) -> AttentionResult:  # fmt: skip
    """Measure where K's tokens look.

    Args:
        model: opened with `eager=True`.
        rows: those without U or K are left out.
        base: a model with the same tokenizer and the same number of layers and heads.
        batch_size: most rows in a batch.
        max_length: longest row in tokens, up to K's end.
        progress: told how many rows of how many are done, over both models.
        kept: keeps the shares of finished rows, and has those of an earlier call that was stopped.

    Raises:
        UserError: no row has U and K, a model shows no attention, or model and base do not match.
    """
    usable = with_spans(rows)
    seen, notes = encode_rows(usable, model, max_length)
    said = check_same_tokens(model, base, seen) if base is not None else []
    models = [model] if base is None else [model, base]
    shares: list[list[Shares]] = []
    for at, each in enumerate(models):
        behind = at * len(seen)
        step = (lambda done, _, behind=behind: progress(behind + done, len(models) * len(seen))) if progress else None
        shares.append(_shares(seen, each, batch_size, step, kept))
    if base is not None and shares[0][0].shape != shares[1][0].shape:
        ours, theirs = ("{1} layers with {2} heads".format(*some[0].shape) for some in shares)
        raise UserError(f"{model.name} has {ours}, {base.name} {theirs}: expected a base of the same architecture")
    groups = []
    for kind in KINDS:
        chosen = [place for place, each in enumerate(seen) if each.row.kind == kind]
        if chosen:
            behaviours = [seen[place].row.behaviour for place in chosen]
            first = np.stack([shares[0][place] for place in chosen])
            gap = first - np.stack([shares[1][place] for place in chosen]) if base is not None else None
            groups.append(_group(kind, behaviours, first, gap))
    every = (*usable.notes, *notes, *said)
    return AttentionResult(model.about, base.about if base else None, rows.path, tuple(groups), every)


def _shares(
    seen: Sequence[Seen], model: Inside, batch_size: int, progress: Progress | None, kept: Kept | None
) -> list[Shares]:
    config = model.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    if not isinstance(heads, int) or heads < 1:
        raise UserError(f"{model.name}: {model.about['class']} has no attention heads")
    ends = [each.encoded.spans.key_sentence.stop for each in seen]
    longest = max(ends)
    most = max(1, _WEIGHTS // (heads * model.layers * longest))  # tokens in a batch
    names = names_of(_WHAT, seen, model)
    found: dict[int, Shares] = {}
    for batch in batches(ends, batch_size, most):
        computed = filled(kept, [names[at] for at in batch], partial(_batch, [seen[at] for at in batch], model))
        found |= dict(zip(batch, computed, strict=True))
        if progress:
            progress(len(found), len(seen))
    return [found[at] for at in range(len(seen))]


def _batch(seen: Sequence[Seen], model: Inside) -> list[Shares]:
    layers = _forward([each.encoded.input_ids[: each.encoded.spans.key_sentence.stop] for each in seen], model)
    weights = (torch.stack([layer[place] for layer in layers]) for place in range(len(seen)))
    return [shares_of(some, each.encoded).cpu().numpy() for some, each in zip(weights, seen, strict=True)]


@torch.inference_mode()
def _forward(ids: Sequence[Sequence[int]], model: Inside) -> list[Tensor]:
    tokens, mask = padded(ids, model.tokenizer, model.device)
    try:
        out = model.model(input_ids=tokens, attention_mask=mask, output_attentions=True, use_cache=False)
    except TypeError as error:  # a model without attention does not know the argument
        raise UserError(f"{model.name}: {model.about['class']} shows no attention ({error})") from error
    layers = [layer for layer in getattr(out, "attentions", None) or () if layer is not None]
    if not layers:
        raise UserError(f"{model.name}: {model.about['class']} shows no attention")
    return layers


def shares_of(
    weights: Float[Tensor, "layers heads tokens tokens"], encoded: Encoded
) -> Float[Tensor, "parts layers heads"]:
    """Return one row's shares, in the order of `PARTS`, mean over K's tokens, in fp64 where the device can.

    Args:
        weights: attention [layers, heads, from, to]; each row of a head sums to 1.
        encoded: the row.
    """
    spans = encoded.spans
    k = spans.key_sentence
    looks = weights[:, :, k, :].to(torch.float32 if weights.device.type == "mps" else torch.float64).mean(2)
    parts = [looks[..., 0], looks[..., 1 : spans.query.stop].sum(-1)]
    parts += [looks[..., span].sum(-1) for span in (spans.understanding, k)]
    other = looks.sum(-1) - torch.stack(parts).sum(0)
    return torch.stack([*parts, other.clamp(min=0.0)])


def _group(kind: RowKind, behaviours: Sequence[str], shares: Shares, gap: Shares | None) -> AttentionGroup:
    """Average [rows, parts, layers, heads]."""

    def overall(some: Shares) -> dict[str, Mean | None]:
        return {part: mean_of(some[:, at].mean((1, 2)).tolist(), behaviours) for at, part in enumerate(PARTS)}

    def layers(some: Shares) -> dict[str, list[Mean | None]]:
        each = range(some.shape[2])
        return {
            part: [mean_of(some[:, at, layer].mean(1).tolist(), behaviours) for layer in each]
            for at, part in enumerate(PARTS)
        }

    def heads(some: Shares) -> dict[str, list[list[float]]]:
        return {part: some[:, PARTS.index(part)].mean(0).tolist() for part in _SHOWN}

    known = AttentionGroup(kind, len(behaviours), len(set(behaviours)), overall(shares), layers(shares), heads(shares))
    if gap is None:
        return known
    return AttentionGroup(
        kind, known.rows, known.behaviours, known.overall, known.layers, known.heads,
        overall(gap), layers(gap), heads(gap),
    )  # fmt: skip


def _plain(group: AttentionGroup) -> dict[str, Any]:
    def one(mean: Mean | None) -> dict[str, Any] | None:
        return None if mean is None else mean._asdict()

    def several(means: Mapping[str, Sequence[Mean | None]]) -> dict[str, Any]:
        return {part: [one(mean) for mean in some] for part, some in means.items()}

    return {
        "kind": group.kind, "rows": group.rows, "behaviours": group.behaviours,
        "overall": {part: one(mean) for part, mean in group.overall.items()}, "layers": several(group.layers),
        "heads": dict(group.heads), "changes": {part: one(mean) for part, mean in group.changes.items()},
        "layer_changes": several(group.layer_changes), "head_changes": dict(group.head_changes),
    }  # fmt: skip
