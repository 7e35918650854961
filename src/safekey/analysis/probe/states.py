"""A model's hidden states at four spots of a row, at every layer, as one vector for each pooling.

    spot                 last                        mean, max
    end of X             the prompt's last token     over the prompt, without its first token
    start of thinking    the thinking's first token  (one token: no pooling)
    end of U             U's last token              over U
    end of K             K's last token              over K

Layer 0 is the embeddings; the last layer's states are those after the final norm, as the language model's head and the
safety heads read them. The prompt's first token is left out of the pooling: it is the same in every row, and its state
is often a hundred times as large as the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from safekey.analysis.inside import Inside, Progress, Seen, batches, names_of
from safekey.engines.padding import padded
from safekey.errors import UserError
from safekey.run_folder.kept import Kept, filled
from safekey.training.encoding import Encoded

_WHAT = "states 1"  # what is kept of rows; another number where the numbers change
_LOGITS = 1 << 27  # logits in a batch, at most


class Spot(NamedTuple):
    """Where states are read, and how they become one vector."""

    place: str
    pooling: str


PLACES = ("end of X", "start of thinking", "end of U", "end of K")
POOLINGS = ("last", "mean", "max")
SPOTS = tuple(
    Spot(place, pooling) for place in PLACES for pooling in POOLINGS if place != PLACES[1] or pooling == "last"
)

States = NDArray[np.float32]
"""[rows, layers + 1, spots, hidden]"""


def states_of(
    seen: Sequence[Seen], model: Inside, batch_size: int = 8, progress: Progress | None = None, kept: Kept | None = None
) -> States:
    """Return the states of rows at every layer and spot: [rows, layers + 1, spots, hidden].

    Args:
        seen: encoded rows with U and K.
        model: its tokenizer encoded them.
        batch_size: most rows in a batch.
        progress: told how many rows of how many are done.
        kept: keeps the states of finished rows, and has those of an earlier call that was stopped.

    Raises:
        UserError: the model shows no hidden states.
    """
    names = names_of(_WHAT, seen, model)
    found: dict[int, States] = {}
    ends = [each.encoded.spans.key_sentence.stop for each in seen]  # nothing behind K is read
    for batch in batches(ends, batch_size, max(1, _LOGITS // model.vocabulary)):
        computed = filled(kept, [names[at] for at in batch], partial(_batch, [seen[at] for at in batch], model))
        found |= dict(zip(batch, computed, strict=True))
        if progress:
            progress(len(found), len(seen))
    return np.stack([found[at] for at in range(len(seen))])


def _batch(seen: Sequence[Seen], model: Inside) -> list[States]:
    layers = _forward([each.encoded.input_ids[: each.encoded.spans.key_sentence.stop] for each in seen], model)
    hidden = (torch.stack([layer[place] for layer in layers]) for place in range(len(seen)))
    return [pooled(some, each.encoded).cpu().numpy() for some, each in zip(hidden, seen, strict=True)]


@torch.inference_mode()
def _forward(ids: Sequence[Sequence[int]], model: Inside) -> Sequence[Tensor]:
    tokens, mask = padded(ids, model.tokenizer, model.device)
    out = model.model(input_ids=tokens, attention_mask=mask, output_hidden_states=True, use_cache=False)
    layers: Sequence[Tensor] | None = getattr(out, "hidden_states", None)
    if not layers:
        raise UserError(f"{model.name}: {model.about['class']} shows no hidden states")
    return layers


def pooled(hidden: Float[Tensor, "layers tokens hidden"], encoded: Encoded) -> Float[Tensor, "layers spots hidden"]:
    """Return one row's vectors, in the order of `SPOTS`, in fp32."""
    spans = encoded.spans
    start = min(1, spans.query.stop - 1)
    ranges = {
        "end of X": slice(start, spans.query.stop),
        "start of thinking": slice(spans.query.stop, spans.query.stop + 1),
        "end of U": spans.understanding,
        "end of K": spans.key_sentence,
    }
    wide = hidden.float()
    pools = {
        "last": lambda states: states[:, -1],
        "mean": lambda states: states.mean(1),
        "max": lambda states: states.amax(1),
    }
    return torch.stack([pools[spot.pooling](wide[:, ranges[spot.place]]) for spot in SPOTS], dim=1)
