"""The tables of attacks that adapt: prompts that gave way by the number of calls, the attacker and its budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.saved_runs import write_run
from report.worlds import Rows, harm
from safekey.report import write_report
from safekey.report.attacks.adaptive import _short, adaptive_tables
from safekey.report.content import read_content
from safekey.schema import NO_ATTACK

SETTINGS = {"adaptive": {"attacks": ["pair"], "attacker": "http://127.0.0.1:1/v1#mallory", "budget": 4, "branches": 2}}


def attacked(item: str, calls: int, broken: bool, *, missed: int = 0, budget: int = 4) -> Any:
    about = {"attacker": SETTINGS["adaptive"]["attacker"], "budget": budget, "branches": 2, "calls": calls, "best": 1}
    counts = {"attacker_calls": calls + missed, "refused": missed, "unreadable": 0, "failed": 0}
    ended = {} if calls else {"finish": "error", "error": f"{NO_ATTACK}the attacker refused", "text": ""}
    return harm(item, broken, "pair", adaptive={**about, "broken": broken, **counts}, **ended)


def run(folder: Path, rows: Rows, **settings: Any) -> Path:
    return write_run(folder, [harm(f"vault-{i}", False) for i in range(4)] + rows, **(settings or SETTINGS))


def shown(folder: Path) -> dict[str, list[Path]]:
    held = [attacked(f"vault-{i}", 4, False) for i in range(3)]
    first = [attacked("vault-0", 1, True), attacked("vault-1", 3, True), attacked("vault-2", 4, False)]
    second = [*held, attacked("vault-3", 0, False, missed=5)]
    return {"sft": [run(folder / "a", first), run(folder / "b", first)], "safekey": [run(folder / "c", second)]}


def test_prompts_that_gave_way_by_calls_and_arm(tmp_path: Path) -> None:
    (table,) = adaptive_tables(read_content(shown(tmp_path), "sft"))
    assert table.head == ("calls", "sft", "safekey")
    lines = {row[0].text: [(cell.text, *cell.more) for cell in row[1:]] for row in table.rows}
    assert lines == {
        "within 1 call": [("33.3 %", "2 of 6"), ("0.0 %", "0 of 3")],
        "within 2 calls": [("33.3 %", "2 of 6"), ("0.0 %", "0 of 3")],
        "within 3 calls": [("66.7 %", "4 of 6"), ("0.0 %", "0 of 3")],
        "within 4 calls": [("66.7 %", "4 of 6"), ("0.0 %", "0 of 3")],
        "calls for a prompt": [("2.7", "16 in all"), ("3.0", "12 in all")],
        "attacker gave no message": [("0 of 16",), ("5 of 17",)],
        "no whole attack": [("0 of 6",), ("1 of 4",)],
    }
    assert "mallory wrote the messages: at most 4 calls to the target for a prompt, on 2 branches." in table.note
    assert "127.0.0.1" not in table.note


def test_arms_with_other_budgets_have_tables_of_their_own(tmp_path: Path) -> None:
    arms = {
        "sft": [run(tmp_path / "a", [attacked("vault-0", 1, True)])],
        "safekey": [run(tmp_path / "b", [attacked("vault-0", 1, True, budget=2)])],
    }
    content = read_content(arms, "sft", allow_different_settings=True)
    tables = adaptive_tables(content)
    assert [table.rows[-2][0].text for table in tables] == ["within 4 calls", "within 2 calls"]
    assert [[cell.text for cell in table.rows[0][1:]] for table in tables] == [["100.0 %", "–"], ["–", "100.0 %"]]


def test_page_and_markdown_have_it_and_plain_runs_do_not(tmp_path: Path) -> None:
    written = write_report(shown(tmp_path), tmp_path / "out", reference="sft")
    for file in (written.markdown, written.html):
        text = file.read_text()
        assert "pair on strongreject: prompts that gave way, by the number of calls to the target" in text
        assert "The draws of best_of_n" not in text
    plain = write_run(tmp_path / "plain", [harm(f"vault-{i}", False) for i in range(4)])
    assert adaptive_tables(read_content({"a": [plain]}, "a")) == []


@pytest.mark.parametrize(
    ("attacker", "name"),
    [
        ("http://127.0.0.1:1/v1#mallory", "mallory"),
        ("http://127.0.0.1:1/v1#/home/anna/models/mallory", "mallory"),
        ("http://127.0.0.1:1/v1", "The attacker"),
        ("scripted:/home/anna/script.json@0a1b", "script.json@0a1b"),
        ("scripted:script.json@0a1b", "script.json@0a1b"),
        ("local:owner/mallory", "owner/mallory"),
        ("/home/anna/mallory", "mallory"),
        ("openai/gpt-4.1", "openai/gpt-4.1"),
    ],
)
def test_the_name_of_an_attacker_tells_no_place(attacker: str, name: str) -> None:
    assert _short(attacker) == name
