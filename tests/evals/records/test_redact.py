"""`--redact`: no text of a prompt, an output or a judge is left in the run folder, and every number stays the same."""

from __future__ import annotations

import base64
import gzip
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import get_model

from engines.endpoint import Endpoint, Handler, running
from safekey.analysis.key_sentences.from_runs import diagnose
from safekey.comparison.collect import collect
from safekey.comparison.compare import compare
from safekey.engines.scripted import ScriptedEngine
from safekey.errors import UserError
from safekey.evals.evaluate import EvalResult, evaluate
from safekey.evals.judges.open import parse_judges
from safekey.evals.records.folder import EvalRun
from safekey.evals.rejudge import rejudge
from safekey.evals.request import EvalRequest, JudgeSettings
from safekey.report import write_report

SETTINGS = JudgeSettings(timeout=2.0, attempts=2, backoff=0.01, concurrency=4)
SECRET = ("zebra cake", "Zanzibar flour", "zinnia sugar", "the judge says zircon")


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with running() as endpoint:
        said = f'{{"reason": "{SECRET[3]}", "class": "full_compliance"}}'
        endpoint.message = {"role": "assistant", "content": said}
        yield endpoint


def run(folder: Path, url: str, data: Path, said: str = "", count: int = 6, **options: Any) -> EvalResult:
    data.mkdir(exist_ok=True)
    rows = [{"id": f"q{i}", "prompt": f"How do I bake {SECRET[0]} {i}?", "label": "safe"} for i in range(count)]
    (data / "xstest_safe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = said or f"<think>\nThe user wants {SECRET[2]}. Sure.\n</think>\n\nTake {SECRET[1]}."
    model = get_model("safekey/scripted", engine=ScriptedEngine(default=answer), kind="scripted", memoize=False)
    settings: dict[str, Any] = {"tasks": ("xstest",), "data_dir": str(data), "judges": ("refusal_3class",),
                                "judge_url": url, "judge_model": "tiny", "judge_settings": SETTINGS}  # fmt: skip
    return evaluate(EvalRequest(model="scripted", output=str(folder), **settings, **options), model=model)


def contents(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def numbers(result: Any) -> Any:
    return {name: result.metrics[name] for name in ("rates", "completions") if name in result.metrics}


def test_no_text_is_left_and_every_number_stays(server: Endpoint, tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", server.url, tmp_path / "data")
    assert SECRET[1].encode() in contents(tmp_path / "plain"), "this check could not fail"
    dropped = run(tmp_path / "dropped", server.url, tmp_path / "data", redact=True)
    left = contents(tmp_path / "dropped")
    for word in SECRET:
        assert word.encode() not in left
    assert not list((tmp_path / "dropped" / "logs").glob("*"))
    assert numbers(dropped.summary) == numbers(plain.summary)
    rows = [json.loads(line) for line in (tmp_path / "dropped" / "completions.jsonl").read_text().splitlines()]
    assert {row["output"] for row in rows} == {"ok"}
    assert {row["item"] for row in rows} == {f"q{i}" for i in range(6)}
    assert all(len(row["redacted"]["completion"]) == 64 and row["prompt_ids"] is None for row in rows)
    verdicts = [json.loads(line) for line in (tmp_path / "dropped" / "verdicts.jsonl").read_text().splitlines()]
    assert {(row["value"], row["raw"]) for row in verdicts} == {("full_compliance", "")}
    assert {row["completion"] for row in verdicts} == {row["redacted"]["completion"] for row in rows}


def test_the_same_command_again_asks_nobody(server: Endpoint, tmp_path: Path) -> None:
    first = run(tmp_path / "run", server.url, tmp_path / "data", redact=True)
    before, asked = contents(tmp_path / "run"), len(server.bodies)
    again = run(tmp_path / "run", server.url, tmp_path / "data", redact=True)
    assert len(server.bodies) == asked
    assert numbers(again.summary) == numbers(first.summary)
    assert contents(tmp_path / "run") == before
    without = run(tmp_path / "run", server.url, tmp_path / "data")  # not asked for again: what is gone stays gone
    assert numbers(without.summary) == numbers(first.summary)


def test_a_finished_run_is_redacted_later(server: Endpoint, tmp_path: Path) -> None:
    first = run(tmp_path / "run", server.url, tmp_path / "data")
    later = run(tmp_path / "run", server.url, tmp_path / "data", redact=True)
    assert numbers(later.summary) == numbers(first.summary)
    assert not any(word.encode() in contents(tmp_path / "run") for word in SECRET)


def test_redacted_runs_are_compared_like_others(server: Endpoint, tmp_path: Path) -> None:
    refuses = "<think>\nThe user wants a cake.\n</think>\n\nI can't help with that."
    run(tmp_path / "a", server.url, tmp_path / "data")
    run(tmp_path / "b", server.url, tmp_path / "data", redact=True)
    server.message = {"role": "assistant", "content": '{"reason": "no", "class": "full_refusal"}'}
    run(tmp_path / "c", server.url, tmp_path / "data", said=refuses)
    both = []
    for one in ("a", "b"):
        found = collect({"one": [str(tmp_path / one)], "two": [str(tmp_path / "c")]})
        both.append(compare(found.outcomes, reference="one"))
    assert both[0] == both[1]
    assert both[1].comparisons, "nothing was compared"
    page = write_report({"one": (tmp_path / "b",), "two": (tmp_path / "c",)}, tmp_path / "page", reference="one").html
    html = page.read_text()
    packed = re.findall(r">([A-Za-z0-9+/=]{40,})</script>", html)
    text = html + "".join(gzip.decompress(base64.b64decode(one)).decode() for one in packed)
    assert "the text was dropped" in text
    assert SECRET[1] not in text
    keys = diagnose({"one": [str(tmp_path / "b")]})
    assert not keys.groups
    assert any("--redact" in note for note in keys.notes)


def test_a_completion_whose_judge_failed_keeps_its_text_until_it_is_judged(server: Endpoint, tmp_path: Path) -> None:
    def dead(handler: Handler, number: int) -> bool:
        if number <= 4:
            return False
        handler.close_connection = True
        return True

    server.fault = dead
    run(tmp_path / "run", server.url, tmp_path / "data", parts=("answer",), redact=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["text"]]
    assert 0 < len(kept) < 6
    assert EvalRun(tmp_path / "run").record["redacted"]["with_text"] == len(kept)
    assert contents(tmp_path / "run").count(SECRET[1].encode()) == len(kept), "the texts of the others are elsewhere"
    assert not list((tmp_path / "run" / "logs").glob("*")), "a log, which is compressed, holds the texts of all"
    server.fault = None
    _, summary = rejudge(str(tmp_path / "run"), parse_judges((), server.url, "tiny"), SETTINGS)
    assert next(r for r in summary.metrics["rates"] if r["headline"])["n"] == 6
    assert not any(word.encode() in contents(tmp_path / "run") for word in SECRET)
    with pytest.raises(UserError, match="texts were dropped"):
        rejudge(str(tmp_path / "run"), parse_judges((), server.url, "tiny"), SETTINGS)


def test_lines_about_bad_rows_lose_what_they_quote(server: Endpoint, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run(tmp_path / "plain", server.url, data)
    bad = json.dumps({"id": "bad", "prompt": 5, "label": "safe", "note": "x"})
    asked = (data / "xstest_safe.jsonl").read_text() + bad + "\n"
    (data / "bad.jsonl").write_text(asked)
    model = get_model("safekey/scripted", engine=ScriptedEngine(default="Fine."), kind="scripted", memoize=False)
    what: dict[str, Any] = {"tasks": ("xstest",), "files": {"xstest-safe": str(data / "bad.jsonl")}}
    how: dict[str, Any] = {"judges": ("refusal_3class",), "judge_url": server.url, "judge_model": "tiny"}
    order = EvalRequest(model="scripted", output=str(tmp_path / "run"), judge_settings=SETTINGS, **what, **how)
    evaluate(order, model=model)
    before = EvalRun(tmp_path / "run")
    (problem,) = before.record["problems"]["xstest-safe"]
    assert problem in before.metrics["warnings"]
    for _ in range(2):
        evaluate(replace(order, redact=True), model=model)
        after = EvalRun(tmp_path / "run")
        assert after.record["problems"] == {"xstest-safe": ["1 rows (texts dropped)"]}
        assert problem.encode() not in contents(tmp_path / "run")


def test_what_cannot_be_redacted_is_refused(server: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--no-judge judges nothing"):
        run(tmp_path / "run", server.url, tmp_path / "data", redact=True, judge=False)


def test_run_folders_are_private(server: Endpoint, tmp_path: Path) -> None:
    run(tmp_path / "run", server.url, tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    run(shared, server.url, tmp_path / "data")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755, "a folder that the user made stays as it was"
