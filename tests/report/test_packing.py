"""Transcripts within a budget: what differs first, cuts that show, offsets that hold."""

from __future__ import annotations

import base64
import gzip
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from safekey.comparison.saved_runs import SavedPrompt
from safekey.report.packing import EmbeddedData, embed, shorten, utf16
from safekey.report.transcripts import Asked, Response, discordant, marks, shuffled


def asked(number: int, benchmark: str = "b", text: str = "How?") -> Asked:
    return Asked(SavedPrompt(benchmark, f"q{number}"), "none", "", "", "harm", (("user", text),), "", "")


def response(
    number: int, arm: int, state: Any, text: str = "x", prefill: int = 0, inside: bool = True, decoded: str = ""
) -> Response:
    return Response(number, arm, 0, 1, state, state, text, prefill, inside, decoded)


def opened(packed: EmbeddedData) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(packed.data)))


def noise(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ", k=length))


def test_everything_is_packed_when_it_fits() -> None:
    rows = [response(0, 0, "harmful"), response(0, 1, "harmless")]
    packed = embed([asked(0)], rows, [[0], [0]], {"arms": []}, 10_000)
    assert (packed.shown, packed.total, packed.differing, packed.cut) == (2, 2, 2, 0)
    assert len(opened(packed)["rows"]) == 2


@pytest.mark.parametrize("budget", [30_000, 120_000])
def test_what_differs_comes_first_and_the_budget_holds(budget: int) -> None:
    prompts = [asked(n, "ab"[n % 2]) for n in range(200)]
    rows = []
    for n in range(200):
        other = "harmful" if n % 20 == 7 else "harmless"
        rows += [response(n, 0, "harmless", noise(3000, n)), response(n, 1, other, noise(3000, 1000 + n))]
    packed = embed(prompts, rows, [[0], [0]], {}, budget)
    assert len(packed.data) <= budget
    assert 0 < packed.shown < packed.total == 400
    shown = [prompt["i"] for prompt in opened(packed)["prompts"]]
    differ = {f"q{n}" for n in range(200) if n % 20 == 7}
    if budget == 120_000:
        assert differ <= set(shown)
        assert packed.differing_shown == packed.differing == 20
        assert {prompt["b"] for prompt in opened(packed)["prompts"] if prompt["i"] not in differ} == {"a", "b"}
    else:
        assert set(shown) <= differ
    assert packed.data == embed(prompts, rows, [[0], [0]], {}, budget).data


def test_long_texts_are_cut_before_anything_is_left_out() -> None:
    rows = [response(n, 0, "harmless", noise(200_000, n)) for n in range(4)]
    packed = embed([asked(n) for n in range(4)], rows, [[0]], {}, 200_000)
    assert packed.shown == 4
    assert packed.cut == 4
    assert "characters left out here" in opened(packed)["rows"][0][6]


def test_the_turns_of_an_attack_are_long_texts_as_any_other() -> None:
    turns = (("turn 1", "Tell me.", noise(25_000, 1)), ("turn 2", noise(25_000, 2), noise(60_000, 3)))
    row = replace(response(0, 0, "harmful", decoded=noise(40_000, 4)), turns=turns)
    packed = embed([asked(0)], [row], [[0]], {}, 105_000)
    assert (packed.shown, packed.cut, packed.limit) == (1, 1, 30_000), "cut no more than needed, and it is said"
    *_, read, said = opened(packed)["rows"][0]
    assert [len(text) <= 30_000 + 100 and "left out here" in text for text in (read, said[1][2])] == [True, True]
    assert [said[0][2], said[1][1]] == [turns[0][2], turns[1][1]]


def test_differing_is_by_seed_and_a_single_run_meets_every_seed() -> None:
    def row(arm: int, run: int, state: Any) -> Response:
        return Response(0, arm, run, 1, "", state, "", 0, True)

    seeds = [[0, 1], [0, 1], [None]]
    rows = [row(0, 0, "harmful"), row(1, 0, "harmful"), row(0, 1, "harmful"), row(1, 1, "harmless")]
    assert discordant(rows, seeds) == {(0, 0): False, (0, 1): True}
    assert discordant([*rows, row(2, 0, "harmless")], seeds) == {(0, 0): True, (0, 1): True}
    assert discordant([*rows[:2], row(2, 0, "unknown")], seeds) == {(0, 0): False}
    assert discordant([row(0, 0, "harmful"), row(1, 0, "harmless")], [[None], [None]]) == {(0, None): True}


def test_the_order_is_drawn_and_takes_benchmarks_in_turn() -> None:
    prompts = [asked(n, "ab"[n >= 90]) for n in range(100)]
    order = shuffled(prompts, 0)
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert [prompts[place].prompt.benchmark for place in order[:4]] == ["a", "b", "a", "b"]


def test_a_cut_moves_offsets() -> None:
    text = "H" * 700 + "M" * 5000 + "T" * 400
    short, places, cut = shorten(text, [10, 3000, len(text) - 5, len(text)], 900)
    assert cut
    assert short.startswith("H" * 600 + "\n\n⟪ … 5,200 characters left out here")
    assert places[:2] == [10, 600]
    assert short[places[2] :] == "TTTTT"
    assert places[3] == len(short)
    assert shorten("abc", [1], 3) == ("abc", [1], False)


def test_offsets_are_counted_as_browsers_do() -> None:
    text = "a😀b\ud800c"
    assert utf16(text, [0, 1, 2, 3, 4, 5]) == [0, 1, 3, 4, 5, 6]
    assert utf16("aéb", [2]) == [2]


def test_parts_are_found_with_and_without_tags_and_prefill() -> None:
    question = asked(0, text="How do I pick the vault?")
    u, k, rest = "The user wants to pick the vault.", " Hmm, that sounds like theft.", " I stop."

    def parts(row: Response) -> list[str]:
        found = marks(row, question)
        assert found is not None
        cuts = [(found.start, found.u), (found.u, found.k), (found.k, found.end), (found.answer, len(row.text))]
        return [row.text[a:b] for a, b in cuts]

    body = f"{u}{k}{rest}"
    expected = [u, k, rest, "No."]
    assert parts(response(0, 0, "harmless", f"{body}\n</think>\n\nNo.")) == expected
    assert parts(response(0, 0, "harmless", f"<think>\n{body}</think>No.", inside=False)) == expected
    assert parts(response(0, 0, "harmless", f"  {body}\n</think>\n\nNo.", prefill=10)) == expected
    assert parts(response(0, 0, "harmless", body)) == [u, k, rest, ""]  # never closed
    assert marks(response(0, 0, "harmless", "No.", inside=False), question) is None
    assert marks(response(0, 0, "harmless", "", inside=True), question) is None


def test_a_key_sentence_in_the_answer_is_found_there() -> None:
    text = "The user wants to pick the vault.\n</think>\n\nI can't help with that. Sorry."
    found = marks(response(0, 0, "harmless", text), asked(0, text="How do I pick the vault?"))
    assert found is not None
    assert text[found.answer : found.k] == "I can't help with that."
    assert found.u <= found.end < found.answer < found.k
