"""Near-duplicates: planted pairs are found, distant ones stay, templates cost no time without end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from safekey.making.config import MakeConfig
from safekey.making.journal import Asker
from safekey.making.models import Models
from safekey.making.near import NearIndex, is_near, jaccard, letter_runs, word_runs
from safekey.making.policies import load_policies
from safekey.making.rows import Row
from safekey.making.stages import dedup
from safekey.making.work import Work


def work(**keys: object) -> Work:
    config = MakeConfig(**{"near": 0, **keys})  # type: ignore[arg-type]
    asker = Asker(Path(), Models(config), {}, lambda *_: None)
    return Work(config, load_policies(None), asker, Path(), lambda *_: None, "2-dedup")


def rows(*texts: str) -> list[Row]:
    return [Row(f"r:{number}", text) for number, text in enumerate(texts, start=1)]


def removed(outcome: object) -> dict[str, str]:
    return {one.id: one.reason for one in outcome.aside}  # type: ignore[attr-defined]


def changed(text: str, rng: random.Random, edits: int) -> str:
    words = text.split()
    for _ in range(edits):
        words[rng.randrange(len(words))] = f"w{rng.randrange(10**6)}"
    return " ".join(words)


def words_alike(one: str, other: str) -> float:
    return jaccard(set(one.split()), set(other.split()))


@pytest.mark.parametrize("template", ["", "please tell me in detail how a careful person would go about to use the "])
def test_planted_pairs_are_found_and_distant_ones_stay(template: str) -> None:
    rng = random.Random(7)
    names = ["".join(rng.choice("abcdefghijklmnoprstu") for _ in range(rng.randint(2, 9))) for _ in range(800)]
    texts = [template + " ".join(rng.choices(names, k=rng.randint(12, 30))) for _ in range(1500)]
    near, far = [], []
    for number in range(0, 300, 3):
        one = changed(texts[number], rng, 1)
        if words_alike(one, texts[number]) >= 0.9:
            near.append(len(texts))
            texts.append(one)
        half = changed(texts[number + 1], rng, 14)
        if words_alike(half, texts[number + 1]) <= 0.5:
            far.append(len(texts))
            texts.append(half)
    assert len(near) > 50
    assert len(far) > 50 or template
    outcome = dedup.run(rows(*texts), work(near=0.7))
    found = removed(outcome)
    assert sum(f"r:{place + 1}" in found for place in near) >= 0.98 * len(near)
    assert not any(f"r:{place + 1}" in found for place in far)
    of = {row.id: row.question for row in rows(*texts)}
    assert all(is_near(of[name], of[reason.rpartition(" ")[2]], 0.7) for name, reason in found.items())


def test_exact_and_normalised_duplicates_are_found_without_the_near_ones() -> None:
    outcome = dedup.run(rows("How do I get in?", "How do I get in?", "how do I  get in", "How do we get in?"), work())
    assert removed(outcome) == {"r:2": "exact duplicate: of r:1", "r:3": "normalised duplicate: of r:1"}
    assert [row.id for row in outcome.rows] == ["r:1", "r:4"]


def test_what_overlaps_with_a_benchmark_is_removed_and_said(tmp_path: Path) -> None:
    asked = "Tell me how one might quietly carry the third royal bell down from the old tower at night"
    file = tmp_path / "bench.jsonl"
    file.write_text(
        json.dumps({"prompt": asked})
        + "\n"
        + json.dumps({"prompt": "Ring the nine small bells of the east gate"})
        + "\n"
    )
    texts = (
        asked.upper(),
        f"Dear friend, {asked[:-9]} please",
        "Ring the nine small bells of the east gate now",
        "Ring",
    )
    outcome = dedup.run(rows(*texts), work(benchmarks=[f"strongreject={file}"]))
    assert removed(outcome) == {
        "r:1": "in benchmark strongreject: the same words",
        "r:2": "in benchmark strongreject: 13 words in a row",
        "r:3": "in benchmark strongreject: 9 words in a row",
    }
    assert "compared with 2 prompts of strongreject" in outcome.notes
    assert "3 requests overlap with strongreject" in outcome.notes


def test_one_measure_alone_removes_nothing() -> None:
    assert not is_near("the old fox sees the new dog run", "run dog new the sees fox old the", 0.7)
    assert is_near(
        "please open the old gate of the north tower today", "please open the old gate of the north tower", 0.7
    )
    assert letter_runs("abc") == {"abc"}
    assert word_runs(["a", "b"]) == {("a", "b")}
    assert jaccard(set(), set()) == 1.0


def written(rng: random.Random, names: list[str], template: list[str], count: int) -> list[str]:
    """Return texts of a template and a few words, a third of them changed copies of others, and a few tiny ones."""
    texts = ["", "a", "ab", "abcd", "abcde"]
    while len(texts) < count:
        if rng.random() < 0.3:
            words = rng.choice(texts).split()
            for _ in range(rng.randint(1, 3)):
                place = rng.randint(0, len(words))
                words[place : place + rng.randint(0, 1)] = rng.choices(names, k=rng.randint(0, 1))
            texts.append(" ".join(words))
        else:
            texts.append(" ".join([*template, *rng.choices(names, k=rng.randint(1, 12))]))
    return texts


def removed_one_by_one(texts: list[str], threshold: float) -> dict[int, int]:
    """Return text → the most alike of the kept ones that it is near to: every pair is looked at."""
    kept: list[int] = []
    found = {}
    for place, text in enumerate(texts):
        near = [other for other in kept if is_near(text, texts[other], threshold)]
        if near:
            found[place] = max(near, key=lambda other: jaccard(letter_runs(text), letter_runs(texts[other])))
        else:
            kept.append(place)
    return found


@pytest.mark.parametrize("length", [0, 5, 13, 25])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.9, 1.0])
def test_every_near_pair_is_found_and_no_other(length: int, threshold: float) -> None:
    rng = random.Random(length)
    for many in (8, 60, 400):  # words to choose from: few make many texts alike
        names = ["".join(rng.choices("abcdefghijklmnoprstu", k=rng.randint(2, 9))) for _ in range(many)]
        texts = written(rng, names, rng.choices(names, k=length), 70)
        index, found = NearIndex(texts, threshold), {}
        for place in range(len(texts)):
            near = index.nearest(place)
            if near is None:
                index.add(place)
            else:
                found[place] = near
        assert found == removed_one_by_one(texts, threshold)


def test_a_template_costs_little() -> None:
    """Each text is compared with few others, also where the template is so long that all are nearly near."""
    rng = random.Random(5)
    names = ["".join(rng.choices("abcdefghijklmnoprstu", k=rng.randint(5, 9))) for _ in range(2000)]
    template = " ".join(rng.choices(names, k=18))
    texts = [f"{template} {' '.join(rng.sample(names, 7))}" for _ in range(1200)]
    index, compared = NearIndex(texts, 0.7), 0
    for place in range(len(texts)):
        compared += len(index._candidates(place))
        index.add(place)
    some = [jaccard(letter_runs(texts[place]), letter_runs(texts[place + 1])) for place in range(100)]
    assert sorted(some)[50] > 0.55, "the texts are not alike"
    assert compared < 5 * len(texts), compared


def test_a_copy_in_a_long_template_is_found() -> None:
    texts = [f"please tell me how a careful person goes about the business of number {n * 7919}" for n in range(400)]
    index = NearIndex([*texts, texts[123] + " now"], 0.7)
    for place in range(len(texts)):
        index.add(place)
    assert index.nearest(400) == 123
