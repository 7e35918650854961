"""`Monitor`: the heads of a trained model as an alarm, by a forward pass of its own on local weights

    monitor = Monitor.load("runs/first")
    score = monitor.score([Message("user", "How do I pick the royal vault?"), Message("assistant", "", thinking)])
    score.harm, score.flagged      -> 0.97, True

docs/monitor.md says what a score means and what it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from safekey.engines import weights
from safekey.errors import UserError
from safekey.monitor.border import find_border
from safekey.monitor.calibration import Scale
from safekey.monitor.card import CARD, KIND, Card, read_card
from safekey.monitor.reading import Reading, read, turns_of
from safekey.monitor.request import HEADS, Head
from safekey.monitor.states import Pooled, Progress, pooled_states
from safekey.run_folder import RUN
from safekey.schema import Message
from safekey.text.chat import DEFAULT_DATE, ChatFormat
from safekey.training.encoding import Encoded, trainable_format
from safekey.training.loop.export import load_heads
from safekey.training.objective.heads import Pooling, SafetyHeads


@dataclass(frozen=True, slots=True)
class Score:
    """What the monitor says of one response.

    Attributes:
        harm: the probability that the request is harmful, by the head that decides; None where that head has nothing to
            read (U alone, and there is no U).
        understanding: the same by the head over U; None without U.
        query_and_understanding: by the head over X and U; over X alone without U.
        flagged: whether the logit is above the threshold; None without a threshold. A row that the head cannot read is
            not flagged.
        logit: of the head that decides; None with `harm`.
        understanding_end: where U ends in the thinking, in characters; 0 for no U, None for given ids.
    """

    harm: float | None
    understanding: float | None
    query_and_understanding: float
    flagged: bool | None
    logit: float | None
    understanding_end: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with its chat format, ready for forward passes."""

    model: Any
    chat: ChatFormat
    source: weights.Source
    context: int

    @property
    def hidden_size(self) -> int:
        """How many features a state of the model has."""
        return int(self.model.config.get_text_config().hidden_size)

    def reading(self, messages: Sequence[Message], understanding: str) -> Reading:
        """Return X and U as tokens.

        Raises:
            UserError: they are longer than the model's context, or the template cannot render them.
        """
        made = read(self.chat, messages, understanding)
        if len(made.ids) > self.context:
            raise UserError(f"X and U have {len(made.ids)} tokens, the model's context {self.context}: cannot be read")
        return made

    def states(
        self, readings: Sequence[Reading], pooling: Pooling, batch_size: int, progress: Progress | None = None
    ) -> list[Pooled]:
        """Return the pooled states of readings; see `pooled_states`."""
        return pooled_states(
            self.model, self.chat.tokenizer, readings, pooling, batch_size=batch_size, progress=progress
        )


def load_model(
    model: str,
    *,
    device: str | None = None,
    dtype: str = "float32",
    chat_template_kwargs: dict[str, Any] | None = None,
    today: str = DEFAULT_DATE,
) -> Loaded:
    """Load a model for the monitor; the arguments are those of `LocalEngine`.

    Raises:
        UserError: it cannot be found, loaded or used.
    """
    source = weights.find(model)
    place = weights.pick_device(device)
    chat = trainable_format(weights.load_tokenizer(source, None), chat_template_kwargs, today)
    loaded = weights.load_model(source, None, dtype=weights.pick_dtype(dtype, place)).to(place).eval()
    return Loaded(loaded, chat, source, weights.context_length(loaded.config))


class Monitor:
    """Scores responses at the end of U.

    Attributes:
        loaded: the model.
        heads: the two heads.
        card: what was fitted; None: scores are sigmoids of raw logits, and nothing is flagged.
    """

    def __init__(self, loaded: Loaded, heads: SafetyHeads, card: Card | None = None, *, batch_size: int = 16) -> None:
        """Take a loaded model and its heads.

        Raises:
            UserError: the heads read another number of features than the model has.
        """
        if heads.hidden_size != loaded.hidden_size:
            raise UserError(
                f"the heads read {heads.hidden_size} features, {loaded.source.base} has {loaded.hidden_size}: "
                "these heads belong to another model"
            )
        self.loaded, self.heads, self.card, self._batch_size = loaded, heads.eval(), card, batch_size

    @classmethod
    def load(
        cls, run: str | Path, *, device: str | None = None, dtype: str = "float32", batch_size: int = 16
    ) -> Monitor:
        """Load a monitor.

        Args:
            run: a training's run folder (its `monitor/` is read if there is one, else its heads alone), a monitor's
                folder, or a model's folder with heads.
            device: as for `LocalEngine`.
            dtype: of the model; in float32 the scores of a batch and of single rows are equal to 1e-4.
            batch_size: rows in a forward pass.

        Raises:
            UserError: there are no heads, or they were fitted for other weights.
        """
        folder = Path(run).expanduser()
        home = home_of(folder)
        if home is None:
            heads = load_heads(heads_folder(weights.find(str(run))))  # before the weights, which may take minutes
            loaded = load_model(str(run), device=device, dtype=dtype, **template_settings(str(run)))
            return cls(loaded, heads, batch_size=batch_size)
        card = read_card(home)
        model = model_of(folder, home, card)
        source = weights.find(model)
        if weights.fingerprint(source) != card.weights_sha256:
            raise UserError(
                f"{home / CARD}: was fitted for other weights than those of {model}: run `safekey monitor fit` again"
            )
        heads = load_heads(home if card.heads == "frozen" else heads_folder(source))
        loaded = load_model(model, device=device, dtype=dtype, **card.settings)
        return cls(loaded, heads, card, batch_size=batch_size)

    @property
    def head(self) -> Head:
        """The head that decides."""
        return self.card.head if self.card else "query_and_understanding"

    @property
    def pooling(self) -> Pooling:
        """How the heads pool."""
        return self.heads.pooling

    def score(self, what: Sequence[Message] | Encoded) -> Score:
        """Score one response.

        Args:
            what: a conversation that ends with the assistant's turn, whose `thinking` may be unfinished; or ids with
                the spans of X and U, which are taken as they are.

        Raises:
            UserError: nothing to score, or longer than the model's context.
        """
        if isinstance(what, Encoded):
            spans = what.spans
            u = spans.understanding if spans.understanding.stop > spans.understanding.start else None
            end = u.stop if u else spans.query.stop
            return self.score_readings([Reading(tuple(what.input_ids[:end]), u.start if u else end)])[0]
        return self.score_all([what])[0]

    def score_all(self, conversations: Iterable[Sequence[Message]]) -> list[Score]:
        """Score many responses in batches; see `score`."""
        readings, ends = [], []
        for messages in conversations:
            turns, thinking = turns_of(messages)
            ends.append(find_border(turns, thinking))
            readings.append(self.loaded.reading(turns, thinking[: ends[-1]]))
        return self.score_readings(readings, ends)

    def score_readings(
        self, readings: Sequence[Reading], ends: Sequence[int | None] | None = None, progress: Progress | None = None
    ) -> list[Score]:
        """Score what has been read; `ends` are for `Score.understanding_end`; `progress` is told of each batch."""
        logits = self.logits(readings, progress)
        found = ends if ends is not None else [None] * len(readings)
        return [self._score(pair, end) for pair, end in zip(logits, found, strict=True)]

    def logits(self, readings: Sequence[Reading], progress: Progress | None = None) -> list[tuple[float | None, float]]:
        """Return the logits of both heads for each reading: over U (None without U), and over X and U."""
        return head_logits(self.heads, self.loaded.states(readings, self.pooling, self._batch_size, progress))

    def probability(self, head: Head, logit: float) -> float:
        """Return the probability of harm for a head's logit, 0 to 1."""
        return (self.card.scales[head] if self.card else Scale()).probability(logit)

    def _score(self, pair: tuple[float | None, float], end: int | None) -> Score:
        by: dict[Head, float | None] = dict(zip(HEADS, pair, strict=True))
        logit = by[self.head]
        u = pair[0]
        flagged = None if self.card is None else logit is not None and logit > self.card.threshold.logit
        return Score(
            harm=None if logit is None else self.probability(self.head, logit),
            understanding=None if u is None else self.probability("understanding", u),
            query_and_understanding=self.probability("query_and_understanding", pair[1]),
            flagged=flagged,
            logit=logit,
            understanding_end=end,
        )


@torch.inference_mode()
def head_logits(heads: SafetyHeads, states: Sequence[Pooled]) -> list[tuple[float | None, float]]:
    """Return the logits of both heads for pooled states."""
    return [
        (
            None if one.understanding is None else float(heads.understanding(one.understanding)),
            float(heads.query_and_understanding(one.query_and_understanding)),
        )
        for one in states
    ]


def heads_folder(source: weights.Source) -> str:
    """Return the folder in which a model's heads lie: its own, or its adapter's."""
    return source.adapter or source.base


def home_of(run: Path) -> Path | None:
    """Return the folder of the monitor that belongs to a run or is one; None where there is none."""
    return next((place for place in (run, run / KIND) if (place / CARD).is_file()), None)


def template_settings(run: str) -> dict[str, Any]:
    """Return the settings of the chat template that a training used; none for any other folder."""
    from safekey.comparison.saved_runs import read_mapping
    from safekey.evals.benchmarks.contamination import training_run

    folder = training_run(run)
    config = read_mapping(folder / "config.yaml") if folder else {}
    kwargs, today = config.get("chat_template_kwargs"), config.get("template_date")
    found: dict[str, Any] = {"chat_template_kwargs": kwargs} if isinstance(kwargs, dict) and kwargs else {}
    return found | ({"today": str(today)} if today else {})


def card_of(run: str) -> Card | None:
    """Return the card of the monitor that belongs to a run or is one; None where nothing was fitted.

    Raises:
        UserError: it cannot be read.
    """
    home = home_of(Path(run).expanduser())
    return read_card(home) if home else None


def model_of(run: Path, home: Path, card: Card) -> str:
    """Return the model that a monitor watches: the run that it lies in, wherever that was moved, else the card's."""
    if home != run:
        return str(run)
    inside = run.name == KIND and (run.parent / RUN).is_file()
    return str(run.parent) if inside else card.model
