"""Scores: the formula, and the same in a batch, alone and while the response is written; nothing behind U counts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from monitor.trained import make_run, world_rows
from safekey import Message
from safekey.errors import UserError
from safekey.monitor import Monitor, Watch
from safekey.monitor.reading import read, turns_of
from safekey.schema import THINK_OPEN, Spans
from safekey.training import Encoded, SafetyHeads, load_heads
from safekey.training.objective.heads import Pooling

Talk = tuple[Message, ...]


@pytest.fixture(scope="module", params=get_args(Pooling))
def monitor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Monitor:
    return Monitor.load(make_run(tmp_path_factory.mktemp("run") / request.param, pooling=request.param), device="cpu")


def talks(count: int = 12) -> list[tuple[Talk, str]]:
    """Conversations before the response, and responses as a model writes them whose template opens the thinking."""
    found = []
    for row in world_rows(count):
        asked = row["prompt"]
        turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        found.append((tuple(Message(**turn) for turn in turns), str(row["response"]).removeprefix(THINK_OPEN)))
    return found


def whole(turns: Talk, response: str) -> Talk:
    return *turns, Message("assistant", "", response.partition("\n</think>")[0])


def test_the_score_is_the_heads_on_the_models_last_hidden_states(monitor: Monitor) -> None:
    turns, response = talks(1)[0]
    score = monitor.score(whole(turns, response))
    assert score.understanding_end
    reading = read(monitor.loaded.chat, turns, response[: score.understanding_end])
    x, u = reading.ids[: reading.query_end], reading.ids[reading.query_end :]
    assert monitor.loaded.chat.tokenizer.decode(u).strip() == response[: score.understanding_end]
    with torch.no_grad():
        out = monitor.loaded.model(torch.tensor([reading.ids]), output_hidden_states=True)
    heads: SafetyHeads = load_heads(Path(monitor.loaded.source.base))
    logits = heads(out.hidden_states[-1][0], torch.tensor([[0, len(x), len(x), len(x) + len(u)]]))[0]
    expected = torch.sigmoid(logits).tolist()
    assert [score.understanding, score.query_and_understanding] == pytest.approx(expected, abs=1e-6)
    assert score.harm == score.query_and_understanding
    assert score.flagged is None  # never fitted: there is no threshold


def test_the_longest_rows_come_first_and_no_logit_is_computed(monitor: Monitor) -> None:
    """Lack of memory then shows in the first batch, and a large vocabulary costs nothing."""
    readings = [monitor.loaded.reading(turns, response[:40]) for turns, response in talks()]
    widths, told = [], []
    backbone, embed = monitor.loaded.model.base_model, monitor.loaded.model.lm_head
    hooks = [
        backbone.register_forward_pre_hook(
            lambda _, __, named: widths.append(named["input_ids"].shape[1]), with_kwargs=True
        ),
        embed.register_forward_pre_hook(lambda *_: pytest.fail("logits were computed")),
    ]
    found = monitor.loaded.states(readings, monitor.pooling, 5, lambda done, of: told.append((done, of)))
    for hook in hooks:
        hook.remove()
    assert len(found) == 12
    assert widths[0] == max(len(each.ids) for each in readings)
    assert widths == sorted(widths, reverse=True)
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_alone_in_a_batch_from_ids_and_streamed(monitor: Monitor) -> None:
    rows = talks()
    together = monitor.score_all(whole(*row) for row in rows)
    draw = random.Random(0)
    for (turns, response), batched in zip(rows, together, strict=True):
        alone = monitor.score(whole(turns, response))
        watch = Watch(monitor, turns)
        sent, at = "", 0
        while at < len(response):
            step = draw.choice((1, 2, 5, 30))
            sent += watch.feed(response[at : at + step]).release
            at += step
            if watch.score is None:
                assert len(sent) <= batched.understanding_end  # nothing behind U before the score
        sent += watch.finish().release
        assert sent == response
        reading = read(monitor.loaded.chat, turns, response[: batched.understanding_end])
        spans = Spans(slice(0, reading.query_end), slice(reading.query_end, len(reading.ids)))
        given = monitor.score(Encoded([*reading.ids, 5, 6, 7], spans))
        for other in (alone, watch.score, given):
            assert other is not None
            assert other.harm == pytest.approx(batched.harm, abs=1e-4)
            assert other.understanding == pytest.approx(batched.understanding, abs=1e-4)
        assert watch.score.understanding_end == alone.understanding_end == batched.understanding_end


def test_what_stands_behind_u_does_not_count(monitor: Monitor) -> None:
    turns, response = talks(1)[0]
    thinking = response.partition("\n</think>")[0]
    before = monitor.score((*turns, Message("assistant", "", thinking)))
    u = thinking[: before.understanding_end]
    for rest in (" Hmm, that is forbidden.", " Let me recall the right tool. It takes the zorbin.", ""):
        assert monitor.score((*turns, Message("assistant", "", u + rest))).harm == before.harm


def test_without_u_x_alone_is_read(monitor: Monitor) -> None:
    turns = (Message("user", "How do I pick the royal vault?"),)
    for thinking in ("I can't help with that, because it is theft. Let me refuse.", ""):
        score = monitor.score((*turns, Message("assistant", "", thinking)))
        assert (score.understanding, score.understanding_end) == (None, 0)
        assert 0 < score.query_and_understanding < 1
    assert monitor.score(turns).harm == pytest.approx(score.harm)
    watch = Watch(monitor, turns, inside=False)
    step = watch.feed("I can't help with that.")
    assert step.score is not None
    assert step.score.harm == pytest.approx(score.harm)
    assert step.release == "I can't help with that."


def test_a_tag_that_comes_in_pieces(monitor: Monitor) -> None:
    turns, response = talks(1)[0]
    u = response[: monitor.score(whole(turns, response)).understanding_end]
    text = f"<think>\n{u}\n</think>\n\nAn answer."
    for size in (1, 3, 200):
        watch, sent = Watch(monitor, turns, inside=False), ""
        for at in range(0, len(text), size):
            sent += watch.feed(text[at : at + size]).release
            assert watch.score is not None or len(sent) <= len("<think>\n") + len(u)
        assert sent + watch.finish().release == text
        assert watch.score.understanding_end == len(u)


def test_a_stream_that_ends_within_u_is_scored(monitor: Monitor) -> None:
    turns, response = talks(1)[0]
    watch = Watch(monitor, turns)
    assert watch.feed(response[:9]).score is None
    assert watch.finish().score is not None


def test_a_prefill_is_part_of_the_thinking(monitor: Monitor) -> None:
    turns, response = talks(1)[0]
    end = monitor.score(whole(turns, response)).understanding_end
    watch = Watch(monitor, turns, prefill=response[: end // 2])
    watch.feed(response[end // 2 :])
    assert watch.score == monitor.score(whole(turns, response))


def test_what_cannot_be_loaded_or_scored(tmp_path: Path, monitor: Monitor) -> None:
    with pytest.raises(UserError, match=r"no safety heads in .*; was head_weight 0"):
        Monitor.load(make_run(tmp_path / "none", heads=False))
    with pytest.raises(UserError, match="there is no such folder"):
        Monitor.load("./nothing")
    with pytest.raises(UserError, match=r"read 8 features, .* has 96: these heads belong to another model"):
        Monitor(monitor.loaded, SafetyHeads(8))
    for nothing in ((), (Message("system", "Be kind."),)):
        with pytest.raises(UserError, match="nothing to score"):
            monitor.score(nothing)
    with pytest.raises(UserError, match=r"X and U have .* tokens, the model's context 1024"):
        monitor.score((Message("user", "pick the vault " * 2000),))


def test_turns_of() -> None:
    user: Any = Message("user", "q")
    assert turns_of([user, Message("assistant", "a", "t")]) == ((user,), "t")
    assert turns_of([user]) == ((user,), "")
    assert turns_of([user, Message("assistant", "<think>\nt\n</think>\n\na")]) == ((user,), "t")
    assert turns_of([user, Message("assistant", "a")]) == ((user,), "")
