"""A URL with a password is refused before it is printed, in every verb, option and file that takes a URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safekey.cli.app import main
from safekey.data.annotate import annotate
from safekey.engines.transport import Transport
from safekey.errors import UserError
from safekey.evals.judges.open import parse_judges
from safekey.evals.request import EvalRequest
from safekey.terminal import has_login, without_login

URL = "http://anna:plum@127.0.0.1:9/v1"


@pytest.mark.parametrize("verb", [["eval", "m"], ["judge", "run"], ["grid", "organism"]])
@pytest.mark.parametrize(
    "words",
    [
        ["--judge-url", URL],
        [f"--judge-url={URL}"],
        ["--judge-url", "anna:plum@127.0.0.1:9/v1"],
        ["--judge", f"refusal_3class={URL}#m"],
        [f"--judge=harm_1to5={URL}#m"],
        ["--judge-model", f"{URL}#m"],
        ["--server-url", URL],
        ["--server-url", "https://plum@host.example/v1"],
        ["--engine-option", f"base_url={URL}"],
        ["--server-url", "https://host.example/v1?api_key=plum"],
        ["--no-such-option", URL],
    ],
)
def test_options(capsys: pytest.CaptureFixture[str], verb: list[str], words: list[str]) -> None:
    refused(capsys, [*verb, *words])


@pytest.mark.parametrize(
    "words",
    [
        ["eval", URL, "--suite", "all"],
        ["eval", f"{URL}#m", "--dry-run"],
        ["data", "segment", "x.jsonl", "--output", "y.jsonl", "--annotator-url", URL, "--annotator-model", "m"],
        ["data", "segment", "x.jsonl", "--output", "y.jsonl", "--annotator-url", "anna:plum@host/v1"],
        ["data", "validate", URL],
        ["data", "inspect", "x", "--model", URL],
        ["train", "organism", f"model_name_or_path={URL}"],
        ["train", "organism", f"hub_model_id={URL}", "--dry-run"],
        ["train", URL],
        ["compare", URL, "b"],
        ["report", URL],
        ["analyze", "key-sentences", URL],
        ["demo", "--output", URL],
        [URL],
    ],
)
def test_verbs(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    refused(capsys, words)


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("safekey: error: ")
    assert "into the environment" in err
    assert "plum" not in err
    assert "anna" not in err


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.yaml"
    for text in (
        f"extends: organism\ngrid:\n  judge_url: {URL}\n",
        f"extends: organism\ngrid:\n  judge: ['refusal_3class={URL}#m']\n",
        f"extends: organism\nhub_model_id: {URL}\n",
    ):
        recipe.write_text(text)
        for verb in ("train", "grid"):
            assert main([verb, str(recipe)]) == 2
            err = capsys.readouterr().err
            assert "plum" not in err
            assert "r.yaml: key '" in err


def test_in_python() -> None:
    for make in (
        lambda: EvalRequest(model="m", server_url=URL),
        lambda: EvalRequest(model=f"{URL}#m"),
        lambda: EvalRequest(model="m", judge_url=URL),
        lambda: EvalRequest(model="m", judges=(f"harm_1to5={URL}#m",)),
        lambda: EvalRequest(model="m", engine_options={"base_url": URL}),
        lambda: parse_judges([f"harm_1to5={URL}#m"]),
        lambda: parse_judges([], URL, "m"),
        lambda: annotate([], model="m", base_url=URL),
        lambda: Transport(URL, "m", None, 1.0, 1, 1.0),
        lambda: Transport("anna:plum@host/v1", "m", None, 1.0, 1, 1.0),
        lambda: Transport("http://anna:plum/x@host/v1", "m", None, 1.0, 1, 1.0),
    ):
        with pytest.raises(UserError) as error:
            make()
        assert "plum" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8000/v1", "http://host:8000/v1#org/model@v2", "https://host/v1#m@rev", "a mail to me@host.org",
     "refusal_3class=http://h:1/v1#m", "local:org/model@main", "https://h/v1?api-version=2"],
)  # fmt: skip
def test_what_is_no_login(text: str) -> None:
    assert not has_login(text)
    assert without_login(text) == text


def test_a_message_that_holds_one_after_all_does_not_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise UserError(f"cannot reach {URL}, nor https://h/x?token=plum&a=1")

    monkeypatch.setattr("safekey.data.load.load_examples", fails)
    monkeypatch.setattr("safekey.data.load_examples", fails)
    assert main(["data", "inspect", "x.jsonl"]) == 2
    err = capsys.readouterr().err
    assert "cannot reach http://***@127.0.0.1:9/v1, nor https://h/x?token=***&a=1" in err
    assert json.dumps(err).count("plum") == 0
