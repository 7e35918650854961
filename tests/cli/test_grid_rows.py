"""The mix of the organism's rows, and draws of the world, as options of `safekey grid`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safekey.cli.app import build_parser, main
from safekey.cli.grid_rows import WorldRows, attacks
from safekey.errors import UserError
from safekey.grid.request import GridRequest
from safekey.organism import write_world


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*words: str) -> tuple[GridRequest, WorldRows | None]:
    args = build_parser().parse_args(["grid", *words])
    return args.request(args), args.world


def test_without_options_the_recipe_is_as_before(here: Path) -> None:
    request, world = asked("organism")
    assert (world, request.overrides, request.rows) == (None, (), "same")
    assert request.output == "runs/grid-organism"


def test_a_mix_names_its_rows_and_its_folder_and_writes_them(here: Path) -> None:
    given = ("--benign-wrapped", "0.03", "--harmful-wrapped", "0.5", "--harmful-attacks", "story,multi-turn")
    request, world = asked("organism", *given)
    name = "benign-3-harmful-50-story-multi-turn"
    assert request.overrides == (f"data=organism/train-{name}.jsonl",)
    assert request.output == f"runs/grid-organism-{name}"
    assert world
    world.write()
    rows = [json.loads(line) for line in (here / f"organism/train-{name}.jsonl").read_text().splitlines()]
    assert sum(row["attack"] != "none" and row["harmful"] for row in rows) == 500
    assert sum(row["attack"] != "none" and not row["harmful"] for row in rows) == 30
    own = write_world(here / "mixed", benign_wrapped=0.03, harmful_wrapped=0.5, harmful_attacks=["story", "multi-turn"])
    assert own.train.read_bytes() == (here / f"organism/train-{name}.jsonl").read_bytes()
    assert (here / "organism" / "base" / "model.safetensors").is_file()


def test_a_world_that_is_there_stays_as_it_is(here: Path) -> None:
    paths = write_world(here / "organism", 7)
    before = {path: path.read_bytes() for path in sorted((here / "organism").rglob("*.jsonl"))}
    _, world = asked("organism", "--benign-wrapped", "0.1")
    assert world
    world.write()
    assert {path: path.read_bytes() for path in before} == before
    assert paths.folder.joinpath("train-benign-10.jsonl").is_file()


def test_another_world_is_refused(here: Path) -> None:
    write_world(here / "organism", world=1)
    _, world = asked("organism", "--benign-wrapped", "0.1")
    assert world
    with pytest.raises(UserError, match="is not of world 0"):
        world.write()


def test_drawn_rows_of_the_organism_are_other_draws_of_the_world(here: Path) -> None:
    request, world = asked("organism", "--rows", "drawn", "--seeds", "1,4")
    assert request.overrides == ("data=organism/train-benign-30-seed-{seed}.jsonl",)
    assert request.output == "runs/grid-organism"
    assert world
    world.write()
    for seed in (1, 4):
        drawn = here / f"organism/train-benign-30-seed-{seed}.jsonl"
        assert drawn.read_bytes() == write_world(here / f"own-{seed}", seed).train.read_bytes()


@pytest.mark.parametrize(
    "more", [("--rows-share", "0.9"), ("data=mine.jsonl",)], ids=["a share", "a bootstrap of one's own rows"]
)
def test_other_draws_leave_the_world_alone(more: tuple[str, ...], here: Path) -> None:
    request, world = asked("organism", "--rows", "drawn", *more)
    assert world is None
    assert request.rows == "drawn"


def test_a_recipe_may_hold_the_mix(here: Path) -> None:
    (here / "mine.yaml").write_text("extends: organism\ngrid: {harmful_wrapped: 0.3, harmful_attacks: [story]}\n")
    request, _ = asked("mine.yaml")
    assert request.overrides == ("data=organism/train-benign-30-harmful-30-story.jsonl",)
    (here / "own.yaml").write_text("extends: organism\ndata: mine.jsonl\n")
    with pytest.raises(UserError, match="--benign-wrapped makes rows of the organism"):
        asked("own.yaml", "--benign-wrapped", "0.1")


@pytest.mark.parametrize(
    ("text", "found"), [("3", 3), ("story", ("story",)), ("story, research", ("story", "research"))]
)
def test_attacks(text: str, found: Any) -> None:
    assert attacks(text) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("organism", "--benign-wrapped", "0.95"), "--benign-wrapped 0.95: expected a share from 0 to 0.9"),
        (("organism", "--harmful-wrapped", "30"), "expected a share from 0 to 1, found 30"),
        (("organism", "--harmful-attacks", "storm"), "expected names, each once, of role-play"),
        (("organism", "--harmful-wrapped", "0.1", "--harmful-attacks", "0"), "needs attacks"),
        (("organism", "data=x.jsonl", "--harmful-wrapped", "0.1"), "--harmful-wrapped makes rows of the organism"),
        (("base", "--harmful-attacks", "2"), "--harmful-attacks makes rows of the organism"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(here.iterdir())


def test_a_dry_run_works_before_the_world_is_written_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", "organism", "--harmful-wrapped", "0.3", "--rows", "drawn", "--seeds", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "each seed trains on its own draw (the file that names the seed)" in out
    assert "nothing was written" in out
    assert not list(here.iterdir())
