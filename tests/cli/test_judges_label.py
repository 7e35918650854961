"""`safekey judges label` as a user types it."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evals.labelling.labelling_runs import harm_run, session_of
from evals.saved_runs import simple, write_run
from safekey.cli.app import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return harm_run(tmp_path / "run", positive=2, negative=2, unscored=0)


def typed(monkeypatch: pytest.MonkeyPatch, text: str, *words: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return main(["judges", "label", *words])


def test_labels_from_a_pipe_and_the_agreement_of_two(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "1\n0\n", str(run), "--terminal", "--rater", "ann") == 0
    assert "ann: 2 of 4 labelled, 0 skipped, 2 left; the same command goes on" in capsys.readouterr().out
    assert typed(monkeypatch, "1\n0\nq\n", str(run), "--terminal", "--rater", "ann") == 0
    assert "ann: 4 of 4 labelled, 0 skipped, 0 left: " in capsys.readouterr().out
    assert typed(monkeypatch, "", str(run), "--agreement") == 2
    assert "agreement needs two raters (--rater NAME)" in capsys.readouterr().err
    assert typed(monkeypatch, "1\n0\n0\n0\n", str(run), "--terminal", "--rater", "ben", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["labelled"], document["left"]) == (4, 0)
    assert document["draw"] == str(run / "labels" / "harm-answer.draw.json"), "strata are not for the rater's eyes"
    assert document["agreement"][0]["equal"] == 3
    assert typed(monkeypatch, "", str(run), "--agreement", "--json") == 0
    strata = {"positive": {"answers": 2, "drawn": 2}, "negative": {"answers": 2, "drawn": 2}}
    assert json.loads(capsys.readouterr().out)["draw"]["strata"] == strata
    assert typed(monkeypatch, "", str(run), "--agreement") == 0
    said = capsys.readouterr().out
    assert "ann and ben: the same label on 3 of 4 answers" in said
    assert "ann and ben differ on: strongreject/the-item-" in said
    assert len((run / "labels" / "harm-answer.jsonl").read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--kind", "refusal"], "has no answers to label for refusal"),
        (["{run}", "--kind", "harmful"], "there is no 'harmful'; did you mean 'harm'?"),
        (["{run}", "--benchmark", "strongrejct"], "did you mean 'strongreject'?"),
        (["{run}", "--sample", "0"], "expected a number from 1, found 0"),
        (["{run}", "--rater", ""], "--rater ''"),
        (["{run}", "--agreement"], "there are no labels yet"),
        (["{run}", "--port", "99999"], "--port 99999: expected 0 to 65535"),
        (["{run}-none"], "there is no such folder"),
        (["{run}", "--output", "{run}/completions.jsonl"], "is the run's completions.jsonl"),
    ],
)
def test_bad_input_is_one_line(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judges", "label", *(word.replace("{run}", str(run)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(run.glob("labels/*.jsonl")) or "--rater" in error or "--port" in error


def test_both_kinds_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", simple([5.0], ["full_refusal"]))
    assert main(["judges", "label", str(run)]) == 2
    assert "give --kind harm (strongreject) or --kind refusal (xstest-safe)" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_begins_is_killed_goes_on_and_ends_by_ctrl_c(run: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "safekey.cli", "judges", "label", str(run)]
    for attempt, end in enumerate((signal.SIGKILL, signal.SIGINT)):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        said = ""
        while not (link := re.search(r"http://127\.0\.0\.1:(\d+)(/\?token=\S+)", said)):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            said += line
        assert f"rater1: {4 - attempt} of 4 answers to label" in said
        post(int(link[1]), link[2])
        process.send_signal(end)
        out, err = process.communicate(timeout=20)
        assert session_of(run, "rater1").progress().labelled == attempt + 1
    assert process.returncode == 0
    assert err == ""
    assert "rater1: 2 of 4 labelled, 0 skipped, 2 left; the same command goes on: " in out


def post(port: int, link: str) -> None:
    """Do what a browser does, without a script: open the link, go on, label the answer that is shown."""

    def ask(method: str, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, body, headers)
        return connection.getresponse()

    first = ask("GET", link)
    cookie = str(first.headers["Set-Cookie"]).partition(";")[0]
    home = re.search(r'href="(/[\w-]+/)"', first.read().decode())
    assert home is not None
    page = ask("GET", home[1], Cookie=cookie).read().decode()
    item = re.search(r'name="item" value="(\w+)"', page)
    action = re.search(r'action="([^"]+)"', page)
    assert item is not None
    assert action is not None
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{port}", "Cookie": cookie}
    assert ask("POST", action[1], f"item={item[1]}&label=0", **form).status == 303
