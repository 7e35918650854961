"""A few steps of fine-tuning on rows that comply: a LoRA on all linear layers, in memory, never saved.

The loss is the mean cross-entropy of the response's tokens, as in SFT. The rows of each step are drawn by the seed, and
are the same for every arm with one tokenizer.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safekey.engines.local import LocalEngine
from safekey.errors import RowProblem, UserError
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Spans
from safekey.tamper.request import TamperOptions
from safekey.text.chat import ChatFormat, Rendered, literal_ranges, tokenize, tokenize_after
from safekey.training.encoding import Encoded, EncodeError, encode

_LONGEST = 2_048  # tokens of a row; a longer one loses its end
_CLIP = 1.0
_NO_THINKING = THINK_OPEN + THINK_CLOSE  # what the canonical form of an answer alone begins with


class Tuning:
    """A fine-tuning that can be carried on step by step; the engine then generates with the changed model.

    Attributes:
        step: how many steps were made.
        losses: the loss of each, before the step.
        problems: why rows could not be encoded, a line each.
    """

    def __init__(self, engine: LocalEngine, examples: Sequence[Example], options: TamperOptions) -> None:
        """Encode the rows, and put the LoRA on the engine's model.

        Raises:
            UserError: no row can be encoded, or the model takes no LoRA.
        """
        self._rows, problems = _encoded(examples, engine.chat)
        self.problems = tuple(map(str, problems))
        if not self._rows:
            raise UserError(f"--comply: no row can be encoded for this model; the first: {problems[0]}")
        self._engine, self._options = engine, options
        self.step, self.losses = 0, list[float]()
        engine.model = _with_lora(engine.model, options)
        trained = [each for each in engine.model.parameters() if each.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
        self._trained = trained

    def until(self, step: int) -> None:
        """Train until so many steps were made in all."""
        model = self._engine.model
        while self.step < step:
            rows = _drawn(self._rows, self._options, self.step)
            count = sum(len(row.input_ids) - row.first_target for row in rows)
            self._optimizer.zero_grad()
            total = 0.0
            for row in rows:  # one at a time: no padding, and little memory
                loss = _loss(model, row, self._engine.device) / count
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(self._trained, _CLIP)
            self._optimizer.step()
            self.losses.append(total)
            self.step += 1


def _encoded(examples: Sequence[Example], chat: ChatFormat) -> tuple[list[Encoded], list[RowProblem]]:
    """Encode the rows in their order.

    An answer alone stands right behind the prompt where the template closes the thinking, or the model knows none.
    Everywhere else an empty thinking stands before it.
    """
    rows: list[Encoded] = []
    problems: list[RowProblem] = []
    for example in examples:
        alone = (chat.closed or not chat.thinks) and example.response.startswith(_NO_THINKING)
        try:
            rows.append(_answer_alone(example, chat) if alone else _whole(example, chat))
        except EncodeError as error:
            problems.append(error.problem)
    return rows, problems


def _whole(example: Example, chat: ChatFormat) -> Encoded:
    return encode(example, chat.tokenizer, _LONGEST, chat_template_kwargs=dict(chat.template_kwargs))


def _answer_alone(example: Example, chat: ChatFormat) -> Encoded:
    """Encode prompt, answer and the end of the turn.

    Raises:
        EncodeError: the template refuses the turns, or nothing of the answer fits.
    """
    where = (example.file or "(no file)", example.row)
    try:
        prompt = chat.render(example.prompt)
    except UserError as error:
        raise EncodeError(RowProblem(*where, "prompt", str(error))) from error
    answer = example.response.removeprefix(_NO_THINKING)
    ids = tokenize(chat.tokenizer, prompt)[0]
    if len(ids) >= _LONGEST:
        said = f"the prompt has {len(ids)} tokens, and a row may have {_LONGEST}: drop the row"
        raise EncodeError(RowProblem(*where, "prompt", said))
    response = Rendered(answer + chat.end, tuple(literal_ranges(chat, answer, 0)))
    whole = ids + tokenize_after(chat.tokenizer, prompt, ids, response)[0]
    nothing = slice(len(ids), len(ids))
    return Encoded(whole[:_LONGEST], Spans(slice(0, len(ids)), nothing, nothing), example.harmful, len(ids))


def _with_lora(model: Any, options: TamperOptions) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    if isinstance(model, PeftModel):  # an arm that is an adapter: a part of what is attacked
        model = model.merge_and_unload()
    config = LoraConfig(
        r=options.lora_rank, lora_alpha=2 * options.lora_rank, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(), warnings.catch_warnings():
        # transformers renames what PEFT still calls by its old name
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
        torch.manual_seed(options.tamper_seed)
        try:
            return get_peft_model(model, config).eval()
        except ValueError as error:
            raise UserError(f"{type(model).__name__}: takes no LoRA: {' '.join(str(error).split()):.200}") from error


def _drawn(rows: Sequence[Encoded], options: TamperOptions, step: int) -> list[Encoded]:
    """Return the rows of a step: each round goes through all rows once, in an order of its own."""
    places = [divmod(step * options.rows_per_step + i, len(rows)) for i in range(options.rows_per_step)]
    orders = {around: list(range(len(rows))) for around, _ in places}
    for around, order in orders.items():
        random.Random(f"tamper {options.tamper_seed} {around}").shuffle(order)  # noqa: S311 - not a secret
    return [rows[orders[around][at]] for around, at in places]


def _loss(model: Any, row: Encoded, device: Any) -> Tensor:
    """Return the summed cross-entropy of a row's response."""
    ids = torch.tensor([row.input_ids], device=device)
    logits = model(input_ids=ids, use_cache=False).logits[0, row.first_target - 1 : -1]
    return F.cross_entropy(logits.float(), ids[0, row.first_target :], reduction="sum")
