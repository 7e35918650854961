"""`safekey judges import`: what it prints, its document, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safekey.cli.app import main


@pytest.fixture
def file(tmp_path: Path) -> str:
    rows = [{"prompt": f"How do I borrow plum {n}?", "response": "\x1b[2JNo.", "human1": 0} for n in range(2)]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_import_judge_and_json(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judges", "import", file, "--kind", "refusal", "--model", "m\x1b[2J", "--output", str(tmp_path / "run")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "is a run folder now" in out
    assert "labels.jsonl: 2 judgements of people" in out
    assert "does not say which answers were cut off" in out
    assert "\x1b" not in out
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["again"], document["answers"], document["labels"]) == (True, 2, 2)
    assert main(["judge", str(tmp_path / "run"), "--judge", "refusal_keywords"]) == 0
    assert "answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "harms"], "there is no 'harms'; did you mean 'harm'"),
        (["--kind", "harm", "--column", "respons=x"], "--column: unknown key 'respons'; did you mean 'response'"),
        (["--kind", "harm", "--column", "response"], "--column response: expected NAME=VALUE"),
        (["--benchmark", "a/b", "--kind", "harm"], "expected a name of letters, digits"),
        (["--benchmark", "xstest-safe", "--kind", "harm"], "judges look for refusal in 'xstest-safe'"),
        ([], "what shall judges look for? Give --kind harm"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judges", "import", file, "--output", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
