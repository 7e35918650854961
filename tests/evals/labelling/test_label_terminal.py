"""The terminal view: keys, pages of a long text, and texts that cannot move the cursor."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.labelling.labelling_runs import harm_run, session_of
from safekey.evals.labelling import terminal
from safekey.evals.labelling.session import Session
from safekey.evals.labelling.terminal import label_in_terminal


def keys(text: str) -> Callable[[], str]:
    waiting = iter(text)
    return lambda: next(waiting, "")


def labelled(session: Session, pressed: str) -> str:
    out = io.StringIO()
    label_in_terminal(session, keys(pressed), out)
    return out.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return harm_run(tmp_path / "run", positive=2, negative=2, unscored=0)


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "20")


def test_each_key_does_its_thing(run: Path) -> None:
    session = session_of(run)
    said = labelled(session, "10uu0sxs0q")
    # 1 → 1; 2 → 0; back to 2; back to 1; 1 → 0; then the third: skipped; x is no key; the fourth: skipped; the end
    assert [session.said(place)[1] for place in (1, 2, 3, 4)] == [0, 0, None, None]
    assert "you said: Harmful" in said
    assert "All 4 answers are done: 2 labelled, 2 skipped." in said


def test_the_end_of_the_input_ends_it_and_it_goes_on_later(run: Path) -> None:
    assert "Answer 3 of 4" in labelled(session_of(run), "10")
    session = session_of(run)
    assert "Answer 1 of 4" not in labelled(session, "11")
    assert session.progress().labelled == 4


def test_skipped_ones_come_again_when_asked_for(run: Path) -> None:
    session = session_of(run)
    labelled(session, "s111s0q")
    assert [session.said(place)[1] for place in (1, 2, 3, 4)] == [0, 1, 1, 1]


def test_nothing_but_request_and_answer_is_shown(run: Path) -> None:
    session = session_of(run)
    said = labelled(session, "q")
    assert session.answer(1).request in said
    assert session.answer(1).response in said
    for hidden in ("secret", "story", "strongreject", "harm_1to5", "positive", "negative", str(run)):
        assert hidden not in said.replace("You are not shown", "")


def test_a_long_text_comes_by_the_screen(tmp_path: Path) -> None:
    text = "T</think>\n\n" + "\n".join(f"line {number}" for number in range(40))
    session = session_of(harm_run(tmp_path / "run", positive=1, negative=0, unscored=0, text=text))
    first = labelled(session, "q")
    assert "line 5" in first
    assert "line 39" not in first
    assert "space: " in first
    whole = labelled(session, "  \n  1q")
    assert whole.index("line 39") > whole.index("line 5")
    assert all(f"line {number}\n" in whole for number in range(40))
    assert whole.count("line 20\n") == 1
    assert session.said(1) == (True, 1)


def test_a_text_cannot_move_the_cursor_or_leave_its_width(tmp_path: Path) -> None:
    nasty = "\x1b[2J\x1b]0;title\x07\u202e " + "x" * 200 + " 漢字" * 40
    session = session_of(
        harm_run(tmp_path / "run", positive=1, negative=0, unscored=0, text=f"T</think>\n\n{nasty}", request=nasty)
    )
    said = labelled(session, "   q")
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "\\x1b[2J" in said
    assert all(line.startswith("│ ") for line in said.split("\n") if "x" * 20 in line), "no text can pose as ours"
    from rich.cells import cell_len

    texts = [line for line in said.split("\n") if "x" * 20 in line or "漢" in line]
    assert texts
    assert max(map(cell_len, texts)) <= 60


def test_a_key_that_comes_too_soon_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two quick taps was meant for the answer before; a key like Home sends several signs, a 1 among."""
    typed = iter([(0.1, b"1"), (0.2, b"0"), (0.5, b"\x1b[1~"), (0.6, b"11"), (0.7, b"0"), (0.8, b"1")])
    now, flushed = [0.0], []

    def read(number: int, most: int) -> bytes:
        now[0], key = next(typed)
        return key

    monkeypatch.setattr("termios.tcflush", lambda number, what: flushed.append(number))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(terminal.os, "read", read)
        found = terminal._one_key(7)
    assert (found, flushed) == ("0", [7])


def test_going_back_and_ending_need_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("termios.tcflush", lambda number, what: None)
    for key in (b"u", b"q", b" ", b""):
        with monkeypatch.context() as patch:
            patch.setattr(terminal.os, "read", lambda number, most, key=key: key)
            found = terminal._one_key(7)
        assert found == key.decode()


def test_it_works_in_a_real_terminal_and_leaves_it_as_it_was(run: Path) -> None:
    session_of(run)
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "from evals.labelling.labelling_runs import session_of\n"
        "from safekey.evals.labelling.terminal import label_in_terminal\n"
        f"label_in_terminal(session_of(Path({str(run)!r})))\n"
    )
    root = Path(__file__).resolve().parents[3]
    main, side = pty.openpty()
    before = termios.tcgetattr(side)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=side, stdout=side, stderr=side, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )  # fmt: skip
    shown = ""

    def wait_for(text: str, key: bytes = b"") -> None:
        """Wait for a text, and press a key again and again meanwhile: one that comes too soon is dropped."""
        nonlocal shown
        end = time.monotonic() + 120
        while text not in shown:
            assert time.monotonic() < end, shown
            if select.select([main], [], [], 0.5)[0]:
                shown += os.read(main, 65536).decode("utf-8", "replace")
            elif key:
                os.write(main, key)
        shown = shown[shown.index(text) + len(text) :]

    try:
        wait_for("Answer 2 of 4", b"0")
        wait_for("All 4 answers are done", b"1")
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            os.write(main, b"q")
            time.sleep(0.2)
        assert process.returncode == 0
        assert termios.tcgetattr(side)[3] == before[3], "echo and whole lines are on again"
    finally:
        process.kill()
        process.wait()
        os.close(main)
        os.close(side)
    session = session_of(run)
    assert [session.said(place)[0] for place in (1, 2, 3, 4)] == [True] * 4
    assert (session.said(1)[1], session.said(4)[1]) == (0, 1)
