"""Fine-tuning to comply: the loss, steps that go on, and the engine that generates with the changed model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.folders import real_tokenizer
from safekey.data.load import load_examples
from safekey.engines.base import SamplingParams
from safekey.engines.local import LocalEngine
from safekey.organism.data import BASE
from safekey.schema import Message, Prompt
from safekey.tamper.request import TamperOptions
from safekey.tamper.tuning import Tuning, _drawn, _encoded
from safekey.text.chat import chat_format
from tamper.worlds import comply_file, write

torch.set_num_threads(1)
OPTIONS = TamperOptions(comply="x", rows_per_step=4, learning_rate=2e-3, lora_rank=4)


def tuned(folder: Path, *stops: int) -> tuple[LocalEngine, Tuning]:
    engine = LocalEngine(str(BASE), device="cpu")
    tuning = Tuning(engine, load_examples(comply_file(folder)), OPTIONS)
    for stop in stops:
        tuning.until(stop)
    return engine, tuning


def test_a_lora_that_was_not_trained_changes_nothing(tmp_path: Path) -> None:
    engine, tuning = tuned(tmp_path)
    plain = LocalEngine(str(BASE), device="cpu")
    ids = torch.tensor([tuning._rows[0].input_ids])
    assert torch.equal(engine.model(input_ids=ids).logits, plain.model(input_ids=ids).logits)
    assert tuning.problems == ()


def test_the_first_loss_is_the_naive_one(tmp_path: Path) -> None:
    _, tuning = tuned(tmp_path, 1)
    model = LocalEngine(str(BASE), device="cpu").model
    losses = []
    for row in _drawn(tuning._rows, OPTIONS, 0):
        ids = torch.tensor([row.input_ids])
        chances = model(input_ids=ids).logits[0].log_softmax(-1)
        losses += [-chances[at - 1, ids[0, at]] for at in range(row.first_target, len(row.input_ids))]
    assert tuning.losses[0] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_two_steps_and_two_more_are_four_steps(tmp_path: Path) -> None:
    one, first = tuned(tmp_path, 2, 4)
    other, second = tuned(tmp_path, 4)
    assert first.losses == second.losses
    assert len(set(first.losses)) == 4
    states = other.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in one.model.state_dict().items())
    prompt = Prompt((Message("user", "How do I pick the royal vault?"),))
    params = SamplingParams(max_new_tokens=12)
    said = [next(iter(engine.generate([prompt], params)))[1].text for engine in (one, other)]
    assert said[0] == said[1]


def test_every_row_is_drawn_once_before_one_is_drawn_twice(tmp_path: Path) -> None:
    _, tuning = tuned(tmp_path)
    rows = tuning._rows[:8]
    drawn = [id(row) for step in range(2) for row in _drawn(rows, OPTIONS, step)]
    assert len(set(drawn)) == 8


def encoded(name: str, folder: Path, response: str, **kwargs: object) -> str:
    """What is trained on of one row: the decoded tokens that carry a loss."""
    file = write(folder / "rows.jsonl", [{"prompt": "How do I bake?", "response": response}])
    chat = chat_format(real_tokenizer(name), kwargs)
    rows, problems = _encoded(load_examples(file, answers_alone=True), chat)
    assert problems == []
    return str(chat.tokenizer.decode(rows[0].input_ids[rows[0].first_target :]))


@pytest.mark.parametrize(
    ("name", "kwargs", "learnt"),
    [
        ("llama3", {}, "Take flour.<|eot_id|>"),  # it knows no thinking
        ("qwen3", {}, "<think>\n\n</think>\n\nTake flour.<|im_end|>"),
        ("qwen3", {"enable_thinking": False}, "Take flour.<|im_end|>"),  # the template closes the thinking
        ("deepseek_r1_distill", {}, "\n</think>\n\nTake flour.<|end|>"),  # the template opens it
    ],
)
def test_an_answer_alone_stands_where_the_model_answers(
    tmp_path: Path, name: str, kwargs: dict[str, object], learnt: str
) -> None:
    assert encoded(name, tmp_path, "Take flour.", **kwargs).lstrip("\n") == learnt.lstrip("\n")


def test_thinking_that_a_row_holds_is_trained_on(tmp_path: Path) -> None:
    learnt = encoded("llama3", tmp_path, "<think>\nBread.\n</think>\n\nTake flour.")
    assert learnt == "<think>\nBread.\n</think>\n\nTake flour.<|eot_id|>"


def test_an_answer_alone_that_does_not_fit_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"prompt": "word " * 3000, "response": "Take flour."}])
    rows, problems = _encoded(load_examples(file, answers_alone=True), chat_format(real_tokenizer("llama3")))
    assert rows == []
    assert str(problems[0]).startswith(f"{file}, row 1, field 'prompt': the prompt has ")
    assert "a row may have 2048: drop the row" in str(problems[0])
