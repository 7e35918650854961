"""The terminal view: keys, pages of a long text, and texts that cannot move the cursor."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.labelling.labelling_runs import harm_run, session_of
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


def test_a_double_tap_in_a_real_terminal_labels_once(run: Path) -> None:
    """Keys come through a pseudo-terminal; the second of two quick ones, and a key whose code holds a 1, do nothing."""
    session_of(run)
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from evals.labelling.labelling_runs import session_of\n"
        "from safekey.evals.labelling.terminal import label_in_terminal\n"
        "from pathlib import Path\n"
        f"label_in_terminal(session_of(Path({str(run)!r})))\n"
    )
    root = Path(__file__).resolve().parents[3]
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=side, stdout=side, stderr=side, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )  # fmt: skip
    os.close(side)
    shown = ""

    def wait_for(text: str) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(main, 65536).decode("utf-8", "replace")
        shown = shown[shown.index(text) + len(text) :]

    try:
        wait_for("back   q end")
        time.sleep(0.5)
        os.write(main, b"0")
        wait_for("Answer 2 of 4")
        wait_for("back   q end")
        os.write(main, b"0")  # at once: meant for the answer before
        time.sleep(0.5)
        os.write(main, b"\x1b[1~")  # the key Home
        time.sleep(0.2)
        os.write(main, b"1")
        wait_for("Answer 3 of 4")
        wait_for("back   q end")
        os.write(main, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    session = session_of(run)
    assert [session.said(place) for place in (1, 2, 3)] == [(True, 0), (True, 1), (False, None)]
