"""The mix of the organism's fine-tuning rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safekey.data import load_examples
from safekey.errors import UserError
from safekey.organism.data import Paths, write_rows, write_world
from safekey.organism.mix import Mix
from safekey.organism.speech import ATTACKS

SHIPPED = {  # (seed, world): the rows before there were mixes
    (0, 0): "199cfd8061c682f617a7ac94e5b83b01128ff8c97df0d848fd74fa34ec0663f6",
    (3, 2): "8cd6452de066da4ab13b7ff0b243dd0f854ddcc14c0c640829b266f730edc17a",
}


def counts(paths: Paths) -> Counter[tuple[bool, str]]:
    rows = [json.loads(line) for line in paths.train.read_text(encoding="utf-8").splitlines()]
    return Counter((row["harmful"], row["attack"]) for row in rows)


@pytest.mark.parametrize(("seed", "world"), SHIPPED)
def test_without_options_the_rows_are_those_of_before(seed: int, world: int, tmp_path: Path) -> None:
    paths = write_rows(tmp_path, seed, world=world)
    assert hashlib.sha256(paths.train.read_bytes()).hexdigest() == SHIPPED[seed, world]


def test_shares_and_attacks_are_as_asked_for(tmp_path: Path) -> None:
    paths = write_world(tmp_path, benign_wrapped=0.12, harmful_wrapped=0.3, harmful_attacks=3)
    found = counts(paths)
    assert found[True, "none"] == 700
    assert {attack: found[True, attack] for attack in ATTACKS} == dict.fromkeys(ATTACKS, 0) | {
        "role-play": 100, "story": 100, "research": 100,
    }  # fmt: skip
    assert {attack: found[False, attack] for attack in ATTACKS} == dict.fromkeys(ATTACKS, 20)
    assert found.total() == 2000
    examples = load_examples(paths.train, strict=True)  # spans are true under every attack, of conversations too
    assert {example.span_source for example in examples} == {"given"}
    assert sum(example.harmful is True for example in examples) == 1000


def test_attacks_may_be_named(tmp_path: Path) -> None:
    found = counts(write_rows(tmp_path, harmful_wrapped=0.1, harmful_attacks=["multi-turn", "story"]))
    assert [attack for attack in ATTACKS if found[True, attack]] == ["story", "multi-turn"]


def test_the_benchmarks_do_not_depend_on_the_mix(tmp_path: Path) -> None:
    one, other = write_rows(tmp_path / "a"), write_rows(tmp_path / "b", benign_wrapped=0.0, harmful_wrapped=1.0)
    for name, path in one.benchmarks.items():
        assert path.read_bytes() == other.benchmarks[name].read_bytes()


def test_a_mix_says_what_it_is() -> None:
    shipped, mixed = Mix(), Mix(harmful_wrapped=0.3, harmful_attacks=3)
    assert (shipped.words, shipped.name) == ("benign rows 30 % wrapped in an attack, harmful rows never", "benign-30")
    assert shipped.unseen == tuple(ATTACKS)
    assert mixed.unseen == ("prefix-injection", "decomposition", "multi-turn")
    assert mixed.words == "benign rows 30 % wrapped in an attack, harmful rows 30 % (role-play, story, research)"
    assert Mix(benign_wrapped=0.125).name == "benign-12.5"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"benign_wrapped": 0.95}, "benign_wrapped=0.95: expected a share from 0 to 0.9"),
        ({"benign_wrapped": 30}, "benign_wrapped=30: expected a share"),
        ({"benign_wrapped": float("nan")}, "benign_wrapped=nan: expected a share"),
        ({"harmful_wrapped": -0.1}, "harmful_wrapped=-0.1: expected a share from 0 to 1"),
        ({"harmful_wrapped": "0.1"}, "harmful_wrapped='0.1': expected a share"),
        ({"harmful_attacks": 7}, "harmful_attacks=7: expected a number from 0 to 6"),
        ({"harmful_attacks": ["storm"]}, "expected names, each once, of role-play, story"),
        ({"harmful_attacks": "story"}, "expected names, each once, of role-play, story"),
        ({"harmful_wrapped": 0.1, "harmful_attacks": 0}, "harmful_wrapped=0.1 needs attacks"),
    ],
)
def test_no_such_mix(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        write_rows(tmp_path, **given)
    assert not list(tmp_path.iterdir())
