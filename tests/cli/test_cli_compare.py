"""`safekey compare`: the table, the sentences, one line for every mistake, nothing that moves the cursor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.saved_runs import arm, completion, simple, verdict, write_run
from safekey.cli.app import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seed 0–2 of sft and of safekey, with a run that stopped."""
    home = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        write_run(home / f"sft-{seed}", arm(60 + seed, 10, 90))
        write_run(home / f"safekey-{seed}", arm(12 + seed, 10, 90))
    write_run(home / "stopped", arm(1, 1, 1), status="interrupted")
    return home


def out(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["compare", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["compare", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    assert said.startswith("safekey: error: ")
    return said


def test_two_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = out([str(runs / "sft-0"), str(runs / "safekey-0"), "--discordant", "3", "--margin", "8"], capsys)
    assert "50.0 → 10.0 %" in said
    assert "ASR (lower is better)" in said
    assert "Reasoning (higher is better)" in said
    assert "safekey-0 is better than sft-0: ASR 40.0 points lower (50.0 → 10.0 %," in said
    assert "This is about these two checkpoints" in said
    assert "No pair was lost." in said
    assert "ASR: 48 prompts with safekey-0 lower than sft-0, 3 shown" in said
    assert "strongreject: q12 (1 → 0)" in said


def test_seeds_and_reference(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [f"{name}={','.join(str(runs / f'{name}-{seed}') for seed in range(3))}" for name in ("safekey", "sft")]
    words = ["--arm", arms[0], "--arm", arms[1], "--reference", "sft", "--margin", "8"]
    said = out(words, capsys)
    assert "(seeds 0, 1, 2)" in said
    assert "safekey is better than sft" in said
    assert "the methods over training seeds (3 runs per arm)" in said
    found = json.loads(out([*words, "--json"], capsys))
    assert found["reference"] == "sft"
    assert found["seeds"]["sft"] == [0, 1, 2]
    assert found["verdicts"]["safekey"]["verdict"] == "better"
    assert found["comparisons"][0]["difference"]["design"] == "matched seeds"
    assert found["discordant"][1]["count"] == 50


def test_the_reference_may_be_one_more_run_or_one_of_them(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = str(runs / "safekey-0"), str(runs / "sft-0")
    for words in ([one, "--reference", other], [one, other, "--reference", other], [other, one, "--reference", "sft-0"],
                  ["--arm", f"x={one}", "--arm", f"sft-0={other}", "--reference", other]):  # fmt: skip
        assert json.loads(out([*words, "--json"], capsys))["reference"] == "sft-0"


def test_margin_and_lost_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", simple([5.0] * 40 + ["cut"] * 2, ["full_compliance"] * 40))
    write_run(tmp_path / "b", simple([1.0] * 41 + [None], ["full_compliance"] * 40))
    words = [str(tmp_path / "a"), str(tmp_path / "b")]
    said = out([*words, "--margin", "20"], capsys)
    assert "b, ASR: 2 of 42 pairs lost (a: truncated 2, b: judge error: Timeout 1)" in said
    assert "not measured" in said
    assert "reasoning accuracy was not measured in both" in said
    assert json.loads(out([*words, "--margin", "20", "--json"], capsys))["margin"] == 0.2


def test_markdown_and_terminal_are_safe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J[red]<script>|\u202e`x`"
    for name, value in (("a", 5.0), ("b", 1.0)):
        row = completion("strongreject", evil)
        write_run(tmp_path / name, [(row, [verdict(row, value)])])
    words = [str(tmp_path / "a"), "--arm", f"[bold]\x1b[31mb={tmp_path / 'b'}"]
    for form in ([], ["--markdown"], ["--json"]):
        said = out([*words, *form], capsys)
        assert "\x1b" not in said
        assert "\u202e" not in said
    said = out([*words, "--markdown"], capsys)
    assert "<script>" not in said
    assert "| compared with a | verdict |" in said
    assert "ASR: 1 prompt with" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sft-0"], "nothing to compare: give at least two runs"),
        (["sft-0", "nowhere"], "there is no such folder"),
        (["sft-0", "."], "no evaluation's run folder"),
        (["sft-0", "stopped"], "not finished (interrupted)"),
        (["sft-0", "sft-0"], "given twice"),
        (["sft-0", "sft-1", "--reference", "qmm"], "--reference qmm: neither a run folder nor an arm"),
        (["sft-0", "--arm", "sft"], "--arm sft: expected NAME=RUN,RUN"),
        (["sft-0", "--arm", "sft-0=sft-1"], "two arms are called 'sft-0'"),
        (["sft-0", "sft-1", "--margin", "101"], "expected points from 0 to 100"),
        (["sft-0", "sft-1", "--margin", "nan"], "expected points from 0 to 100"),
        (["sft-0", "sft-1", "--discordant", "-1"], "expected a number from 0"),
        (["sft-0", "sft-1", "--judge", "harm_rubric"], "none of these runs was judged by it"),
        (["sft-0", "sft-1", "--part", "whole"], "no verdicts on the whole"),
    ],
)
def test_one_line_for_every_mistake(
    words: list[str], expected: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    assert expected in error(words, capsys)


def test_prefilling_attacks_stand_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, unsafe in (("sft", 5.0), ("ksm", 1.0)):
        forced = [completion("prefill", f"p{number}", attack="prefill-5") for number in range(40)]
        rows = [(row, [verdict(row, unsafe)]) for row in forced]
        write_run(tmp_path / name, [*simple([1.0] * 40), *rows])
    found = json.loads(out([str(tmp_path / "sft"), str(tmp_path / "ksm"), "--json"], capsys))
    asr = next(row for row in found["comparisons"] if row["metric"] == "asr")
    assert (asr["difference"]["arm_rate"], asr["difference"]["reference_rate"], asr["expected"]) == (0.0, 0.0, 40)
    assert found["apart"]["comparisons"][0]["difference"]["estimate"] == -1.0
    assert found["verdicts"]["ksm"]["verdict"] == "not-established"
    for words in ([], ["--markdown"]):
        assert "The prefilling attack, apart" in out([str(tmp_path / "sft"), str(tmp_path / "ksm"), *words], capsys)
    only = [tmp_path / f"{name}-only" for name in ("sft", "ksm")]
    for path, unsafe in zip(only, (5.0, 1.0), strict=True):
        forced = [completion("prefill", f"p{number}", attack="prefill-5") for number in range(40)]
        write_run(path, [(row, [verdict(row, unsafe)]) for row in forced])
    alone = json.loads(out([*map(str, only), "--json"], capsys))  # nothing but prefills: they are the comparison
    assert alone["apart"] is None
    assert alone["comparisons"][0]["difference"]["estimate"] == -1.0


def test_a_grid_is_compared_by_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.yaml").write_text(
        "recipe: r\narms: {base: [], qmm: [], sft: []}\nseeds: [0, 1]\ncompare: {reference: sft, margin: 0.5}\n"
    )
    assert "no two arms of this grid are finished, 'sft' among them" in error([str(tmp_path)], capsys)
    write_run(tmp_path / "arms" / "base" / "eval", arm(100, 0, 90))
    for seed in (0, 1):
        for name, unsafe in (("sft", 60), ("qmm", 58)):
            write_run(tmp_path / "arms" / name / f"seed-{seed}" / "eval", arm(unsafe + seed, 10, 90))
    found = json.loads(out([str(tmp_path), "--json"], capsys))
    assert (found["reference"], list(found["verdicts"])) == ("sft", ["qmm", "base"])
    assert len(found["runs"]["qmm"]) == 2
    assert found["margin"] == 0.5
    assert json.loads(out([str(tmp_path), "--margin", "3", "--json"], capsys))["margin"] == 0.03
    assert json.loads(out([str(tmp_path), "--reference", "qmm", "--json"], capsys))["reference"] == "qmm"
    assert main(["analyze", "key-sentences", str(tmp_path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["runs"]) == {"base", "qmm", "sft"}
