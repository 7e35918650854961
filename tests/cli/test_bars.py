"""How far long work is, where stderr is no terminal: a line from time to time, and none where nothing is done."""

from __future__ import annotations

import time

import pytest

from safekey.cli import bars as module
from safekey.cli.bars import bars, progress


def test_a_file_gets_a_line_now_and_then_also_while_nothing_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.02)
    with bars() as told:
        told("4-deliberate", 10, 1200)
        told("4-deliberate", 90, 1200)
        end = time.monotonic() + 30
        said = ""
        while said.count("4-deliberate: 90 of 1,200") < 2 and time.monotonic() < end:
            time.sleep(0.02)
            said += capsys.readouterr().err
        told("4-deliberate", 1200, 1200)
        told("4-deliberate", 1200, 1200)
        told("5-score", 3, 3)
    assert said.count("4-deliberate: 90 of 1,200") >= 2
    assert " left" in said
    rest = capsys.readouterr().err
    assert rest.count("4-deliberate: 1,200 of 1,200") == 1
    assert "5-score" not in rest, "what was there already is no news"


def test_nothing_is_shown_where_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with bars():
        pass
    with progress("rows read") as told:
        told(0, 2)
        told(2, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "rows read: 2 of 2\n"


def test_the_thread_ends_with_its_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)

    def work() -> None:
        with progress("rows read") as told:
            told(1, 2)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
