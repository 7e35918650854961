"""Run folders and their rows: half lines, superseded rows, damage, secrets; and from rows to numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from safekey.errors import UserError
from safekey.evals.judges.verdicts import is_failure
from safekey.evals.model_api.convert import output_of
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.progress import time_left
from safekey.evals.records.rows import (
    RowStore,
    close_rows,
    completion_hash,
    completion_in,
    completion_key,
    is_final,
    open_rows,
    verdict_key,
)
from safekey.evals.request import TableOptions
from safekey.evals.summary.summary import summarize
from safekey.evals.summary.tables import left_out_lines, pass_lines, print_summary
from safekey.text.outputs import classify_output

WHOLE = "A cake.\n</think>\n\nTake flour."


def store(path: Path) -> RowStore:
    return RowStore(path, lambda row: row["id"])


def test_half_a_line_is_cut_off_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "text": "a"}\n{"id": 2, "te')
    rows = store(path)
    assert [row["id"] for row in rows.rows()] == [1]
    rows.add({"id": 2, "text": "\ud800 b"})
    rows.close()
    assert [row["text"] for row in store(path).rows()] == ["a", "\ud800 b"]


def test_a_later_row_supersedes_and_rewriting_drops_the_earlier(tmp_path: Path) -> None:
    rows = store(tmp_path / "rows.jsonl")
    for number in (3, 1, 2):
        rows.add({"id": number, "at": 0})
    rows.add({"id": 1, "at": 1})
    assert rows.get(1) == {"id": 1, "at": 1}
    assert len(rows) == 3
    rows.rewrite(lambda row: row["id"], keep=lambda row: row["id"] != 2)
    assert [json.loads(line) for line in rows.path.read_text().splitlines()] == [{"id": 1, "at": 1}, {"id": 3, "at": 0}]
    rows.add({"id": 4, "at": 0})
    assert [row["id"] for row in rows.rows()] == [1, 3, 4]
    assert list(tmp_path.iterdir()) == [rows.path]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\nnonsense\n{"id": 3}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2: is no row of this file"):
        store(tmp_path / "rows.jsonl")


def test_secrets_and_other_settings(tmp_path: Path) -> None:
    run = EvalRun(tmp_path / "run")
    run.hold()
    resolved = {"model": "m", "engine": {"api_key": "sk-1", "hub_token": "hf_1", "max_tokens": 5}, "seed": 1}
    run.begin(resolved, {"model": {"authorization": "Bearer sk-1"}})
    run.release()
    assert not any("sk-1" in path.read_text() for path in run.path.iterdir() if path.is_file())
    assert run.resolved["engine"] == {"max_tokens": 5}
    run.check(resolved)
    with pytest.raises(UserError, match=r"seed: 1 then, 2 now; .*old settings|engine.max_tokens: 5 then, 6 now"):
        run.check({**resolved, "engine": {"max_tokens": 6}, "seed": 2})


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty and no evaluation's run folder"):
        EvalRun(tmp_path).check({})


def completion(item: str, text: str = WHOLE, finish: str = "stop", epoch: int = 1, **more: Any) -> dict[str, Any]:
    row = {"benchmark": "xstest-safe", "item": item, "epoch": epoch, "behaviour": item, "category": "c",
           "attack": "none", "request": f"{item}?", "text": text, "finish": finish, "prefill": "",
           "started_inside": True, "prompt_ids": None, "output_tokens": 3, "error": "", **more}  # fmt: skip
    return {**row, "output": classify_output(completion_in(row))}


def verdict(
    row: dict[str, Any], value: Any, judge: str = "refusal_3class", kind: str = "refusal", **more: Any
) -> dict[str, Any]:
    named = {name: row[name] for name in ("benchmark", "item", "epoch")}
    return {**named, "part": "answer", "kind": kind, "judge": judge, "model": "m", "prompt_hash": "p", "parser": "1",
            "completion": completion_hash(row), "value": value, "raw": "",
            "unscored": "" if value is not None else "judge error: X", **more}  # fmt: skip


def folder(path: Path, completions: list[dict[str, Any]], verdicts: list[dict[str, Any]]) -> Any:
    path.mkdir()
    (path / "resolved.yaml").write_text("{}")
    rows = open_rows(str(path))
    assert rows is not None
    for row in completions:
        rows.completions.add(row)
    for row in verdicts:
        rows.verdicts.add(row)
    return rows


def test_numbers_from_rows(tmp_path: Path) -> None:
    said = [completion(f"q{i}") for i in range(20)]
    said.append(completion("long", "A cake that", "length"))
    values = ["full_refusal", "partial_refusal", *["full_compliance"] * 17, None]
    verdicts = [verdict(row, value) for row, value in zip(said, values, strict=False)]
    verdicts.append(verdict(said[-1], None, unscored="no whole answer: truncated"))
    stale = completion("q0", "Another text.</think>\n\nHm.")
    rows = folder(tmp_path / "run", [*said], [verdict(stale, "full_refusal"), *verdicts])
    summary = summarize(rows)
    lines = {line["rule"]: line for line in summary.metrics["rates"] if set(line["by"]) == {"benchmark", "part"}}
    assert (lines["full + partial"]["k"], lines["full + partial"]["n"]) == (2, 19)
    assert lines["full + partial"]["headline"]
    assert lines["full"]["k"] == lines["partial"]["k"] == 1
    assert lines["full"]["unscored"] == 1  # 1 of 20: just allowed
    assert lines["full"]["truncated"] == 1
    assert summarize(rows, TableOptions(allow_unscored=0.01)).metrics["rates"][0]["rate"] is None
    console = Console(record=True, width=110)
    print_summary(console, summary)
    assert "1 unscored, 1 truncated; with them 10.0 … 15.0" in console.export_text()
    rows.put_in_order(["xstest-safe"], {"xstest-safe": [row["item"] for row in reversed(said)]})
    assert len(rows.verdicts) == 21  # the stale one is gone
    assert next(iter(rows.completions.rows()))["item"] == "long"
    close_rows(str(tmp_path / "run"))


def test_two_models_behind_one_judge_stand_side_by_side_and_vote(tmp_path: Path) -> None:
    said = [completion(f"q{i}") for i in range(10)]
    first = [verdict(row, "full_refusal" if i < 5 else "full_compliance") for i, row in enumerate(said)]
    second = [verdict(row, "full_refusal" if i < 4 else "full_compliance", model="n") for i, row in enumerate(said)]
    rows = folder(tmp_path / "run", said, first + second)
    summary = summarize(rows, TableOptions(voting="any"))
    judges = {line["judge"] for line in summary.metrics["rates"]}
    assert judges == {"refusal_3class (m)", "refusal_3class (n)", "any of refusal_3class (m), refusal_3class (n)"}
    (found,) = summary.agreements.values()
    assert found.equal == 0.9
    assert found.level == "ordinal"
    elected = [r for r in summary.metrics["rates"] if r["judge"].startswith("any") and r["headline"]]
    assert {line["k"] for line in elected} == {5}
    close_rows(str(tmp_path / "run"))


def test_accuracy_counts_what_was_cut_off_as_wrong(tmp_path: Path) -> None:
    said = [completion("a", epoch=1), completion("a", "Hm", "length", epoch=2), completion("b", epoch=1),
            completion("b", epoch=2)]  # fmt: skip
    values = [1.0, None, 0.0, 1.0]
    verdicts = [
        verdict(row, value, "math", "accuracy", unscored="" if value is not None else "no whole answer: truncated")
        for row, value in zip(said, values, strict=True)
    ]
    summary = summarize(folder(tmp_path / "run", said, verdicts))
    line = summary.metrics["rates"][0]
    assert (line["metric"], line["k"], line["n"], line["truncated"]) == ("accuracy", 2, 4, 1)
    assert [(e["k"], e["value"]) for e in summary.metrics["pass_at_k"]] == [(1, 0.5), (2, 1.0)]
    assert pass_lines(summary.metrics["pass_at_k"])[0].startswith("xstest-safe: pass@1 50.0 %")
    close_rows(str(tmp_path / "run"))


def test_what_is_final_and_what_failed() -> None:
    assert is_final(completion("q"))
    assert is_final(completion("q", "", "error", error="the prompt has 9 tokens, which fills the model's context of 8"))
    assert not is_final(completion("q", "", "error", error="no answer: the server answered 500, after 6 attempts"))
    row = completion("q")
    assert is_failure(verdict(row, None))
    assert not is_failure(verdict(row, None, unscored="no whole answer: truncated"))
    assert completion_key(row) == ("xstest-safe", "q", 1)
    assert verdict_key(verdict(row, 1.0)) != verdict_key(verdict(row, 1.0, part="whole"))


def test_a_stored_row_becomes_the_output_it_was() -> None:
    row = completion("q", sampling={"temperature": 0.0})
    output = output_of(row, "safekey/m")
    assert output.completion == "Take flour."
    assert output.choices[0].stop_reason == "stop"
    assert output.metadata is not None
    assert output.metadata["safekey"]["text"] == WHOLE


def test_lines_for_people() -> None:
    assert time_left({"a": 0}, {"a": 10}, {"a": 40}, 20.0) == ", about 60 s left"
    assert time_left({"a": 0}, {"a": 10}, {"a": 400}, 20.0) == ", about 13 min left"
    assert time_left({"a": 5}, {"a": 5}, {"a": 40}, 20.0) == ""
    reasons = {"x": "d: no file for 'x': looked", "y": "d: no file for 'y': looked", "z": "docker \x1b[2J is missing"}
    assert left_out_lines(reasons) == ["NOT RUN: z: docker \\x1b[2J is missing", "NOT RUN, no file found: x, y"]
