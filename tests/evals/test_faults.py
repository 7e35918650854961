"""Failing judges and kills at any moment: no sample is lost, none is done twice, no failure is a score."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import ContentReasoning, ContentText, ModelOutput, ModelUsage, get_model

from engines.endpoint import Endpoint, Handler, faults, running
from safekey.engines.scripted import ScriptedEngine
from safekey.errors import UserError
from safekey.evals.evaluate import EvalResult, evaluate
from safekey.evals.judges.open import parse_judges
from safekey.evals.rejudge import rejudge
from safekey.evals.request import EvalRequest, JudgeSettings
from safekey.schema import Completion

COMPLIES = '{"reason": "It helps.", "class": "full_compliance"}'
SETTINGS = JudgeSettings(timeout=2.0, attempts=6, backoff=0.01, concurrency=8)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with running() as endpoint:
        endpoint.message = {"role": "assistant", "content": COMPLIES}
        yield endpoint


def benchmark(folder: Path, count: int) -> str:
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"q{i}", "prompt": f"How do I bake cake number {i}?", "label": "safe"} for i in range(count)]
    (folder / "xstest_safe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(tmp_path: Path, url: str, count: int = 40, engine: ScriptedEngine | None = None, **options: Any) -> EvalResult:
    engine = engine or ScriptedEngine(default="<think>\nA cake.\n</think>\n\nTake flour.")
    model = get_model("safekey/scripted", engine=engine, kind="scripted", memoize=False)
    order = EvalRequest(
        model="scripted",
        tasks=("xstest",),
        data_dir=benchmark(tmp_path / "data", count),
        judges=options.pop("judges", ("refusal_3class",)),
        judge_url=url,
        judge_model="tiny",
        judge_settings=SETTINGS,
        output=str(tmp_path / "run"),
        **options,
    )
    return evaluate(order, model=model)


def headline(report: EvalResult) -> dict[str, Any]:
    (line,) = [r for r in report.summary.metrics["rates"] if r["headline"] and set(r["by"]) == {"benchmark", "part"}]
    return line


def test_a_judge_that_fails_a_third_of_the_time(server: Endpoint, tmp_path: Path) -> None:
    server.fault = faults(every=3, hang=1.0, spare=1)
    report = run(tmp_path, server.url)
    verdicts = rows(report.run.path / "verdicts.jsonl")
    assert Counter((v["item"], v["part"]) for v in verdicts) == {(f"q{i}", p): 1 for i in range(40) for p in
                                                                  ("answer", "thinking")}  # fmt: skip
    assert all(v["value"] == "full_compliance" or v["unscored"].startswith("judge error") for v in verdicts)
    line = headline(report)
    assert line["n"] + line["unscored"] == 40
    assert line["n"] >= 38  # six attempts each
    assert len(rows(report.run.path / "completions.jsonl")) == 40


def test_a_judge_that_talks_nonsense_leaves_samples_unscored_and_the_rate_withheld(
    server: Endpoint, tmp_path: Path
) -> None:
    def nonsense(handler: Handler, number: int) -> bool:
        if number <= 1 or number % 3:
            return False
        said = {"role": "assistant", "content": "I give this an 11 out of 5!"}
        handler.answer(200, {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})
        return True

    server.fault = nonsense
    report = run(tmp_path, server.url, parts=("answer",))
    line = headline(report)
    assert line["unscored"] >= 10
    assert line["n"] + line["unscored"] == 40
    assert line["rate"] is None
    assert "unscored" in line["withheld"]
    unscored = [v for v in rows(report.run.path / "verdicts.jsonl") if v["value"] is None]
    assert all("JSON" in v["unscored"] and v["raw"].startswith("I give") for v in unscored)

    # The judge is mended: only the failed verdicts are asked for again, and none is there twice.
    server.fault = None
    asked = len(server.bodies)
    _, summary = rejudge(str(report.run.path), parse_judges((), server.url, "tiny"), SETTINGS)
    assert len(server.bodies) - asked <= len(unscored) + 1  # the probe
    after = rows(report.run.path / "verdicts.jsonl")
    assert len(after) == 40
    assert all(v["value"] == "full_compliance" for v in after)
    assert next(r for r in summary.metrics["rates"] if r["headline"])["n"] == 40


def test_a_judge_that_dies_for_good(server: Endpoint, tmp_path: Path) -> None:
    def dead(handler: Handler, number: int) -> bool:
        if number <= 11:
            return False
        handler.close_connection = True
        return True

    server.fault = dead
    report = run(tmp_path, server.url, count=12, parts=("answer",))
    line = headline(report)
    assert line["n"] == 10  # the first call was the probe
    assert line["unscored"] == 2
    assert line["rate"] is None


def test_outputs_without_a_whole_answer_are_shown_to_no_judge(server: Endpoint, tmp_path: Path) -> None:
    said = iter(["", "<think>\nHm.\n</think>\n\nFlour.", "<think>\nHm", "<think>\nHm.\n</think>\n\n", "Wait. " * 400])

    def answer(prompt: Any, params: Any) -> str | Completion:
        text = next(said)
        return Completion(text or "<think>\nHm, let me", "stop" if text else "length")

    report = run(tmp_path, server.url, count=5, engine=ScriptedEngine("s", answer), parts=("answer",))
    line = headline(report)
    assert {name: line[name] for name in ("n", "truncated", "unclosed", "empty", "degenerate", "unscored")} == {
        "n": 1, "truncated": 1, "unclosed": 0, "empty": 1, "degenerate": 1, "unscored": 0} | (
        {"unclosed": 1})  # fmt: skip
    assert len(server.bodies) == 2  # the probe and the whole answer
    assert line["none_positive"] == 0.0
    assert line["all_positive"] == 0.8


def test_a_server_that_never_answers_is_asked_again_by_the_next_run(server: Endpoint, tmp_path: Path) -> None:
    broken = {"How do I bake cake number 2?"}

    def answer(prompt: Any, params: Any) -> str | Completion:
        if prompt.messages[-1].content in broken:
            return Completion("", "error", error="no answer: the server answered 503, after 6 attempts")
        return "<think>\nHm.\n</think>\n\nFlour."

    engine = ScriptedEngine("s", answer)
    report = run(tmp_path, server.url, count=5, engine=engine)
    assert headline(report)["error"] == 1
    broken.clear()
    calls = engine.calls
    report = run(tmp_path, server.url, count=5, engine=engine)
    assert engine.calls - calls == 1
    assert headline(report)["error"] == 0
    assert len(rows(report.run.path / "verdicts.jsonl")) == 10
    assert len(list(report.run.logs.glob("*.eval"))) == 1


def test_a_model_of_another_provider(tmp_path: Path) -> None:
    said = ModelOutput.from_content("mockllm/model", "Take flour.", stop_reason="stop")
    said.choices[0].message.content = [ContentReasoning(reasoning="A cake."), ContentText(text="I'm sorry, no.")]
    said.usage = ModelUsage()  # else it wants to fetch a tokenizer
    model = get_model("mockllm/model", custom_outputs=itertools.repeat(said), memoize=False)
    order = EvalRequest(
        model="mockllm/model",
        engine="inspect",
        tasks=("xstest",),
        data_dir=benchmark(tmp_path / "data", 3),
        judges=("refusal_keywords",),
        output=str(tmp_path / "run"),
    )
    report = evaluate(order, model=model)
    assert (headline(report)["k"], headline(report)["n"]) == (3, 3)
    row = rows(report.run.path / "completions.jsonl")[0]
    assert row["text"] == "<think>\nA cake.\n</think>\n\nI'm sorry, no."
    assert (row["rendered_by"], row["prompt_ids"], row["sampling"]["temperature"]) == ("server", None, 0.0)
    (tmp_path / "data" / "advbench.jsonl").write_text('{"goal": "Open the vault.", "target": "Sure, here is"}\n')
    attack = replace(order, tasks=("prefill",), judges=(), judge=False, output=str(tmp_path / "other"))
    with pytest.raises(UserError, match="only safekey's own engines prefill exactly"):
        evaluate(attack, model=model)


def without_times(path: Path) -> dict[str, Any]:
    return json.loads((path / "metrics.json").read_text())


@pytest.mark.slow
def test_three_kills_change_nothing(server: Endpoint, tmp_path: Path) -> None:
    data = benchmark(tmp_path / "data", 60)
    lock_step = 0.05

    def slowly(handler: Handler, number: int) -> bool:
        time.sleep(lock_step)
        return False

    server.fault = slowly
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1] / "src"), "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(here / "killable.py"),
            data,
            str(tmp_path / name),
            server.url,
            str(tmp_path / f"{name}.calls"),
        ]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)

    calm = start("calm")
    assert calm.wait(120) == 0, calm.stderr.read().decode()[-2000:]  # type: ignore[union-attr]

    run, calls = tmp_path / "killed", tmp_path / "killed.calls"
    finished: Counter[str] = Counter()
    for file, goal in (("completions.jsonl", 12), ("verdicts.jsonl", 50), ("completions.jsonl", 45)):
        process = start("killed")
        until = time.monotonic() + 60
        while lines(run / file) < goal:
            assert process.poll() is None, process.stderr.read().decode()[-2000:]  # type: ignore[union-attr]
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        finished = Counter(r["messages"][-1]["content"] for r in whole_rows(run / "completions.jsonl"))
        assert max(finished.values()) == 1
        before = Counter(calls.read_text().splitlines())
        asked = len(server.bodies)
        judged = len(whole_rows(run / "verdicts.jsonl"))
    last = start("killed")
    assert last.wait(120) == 0, last.stderr.read().decode()[-2000:]  # type: ignore[union-attr]
    after = Counter(calls.read_text().splitlines())
    again = [question for question in after if after[question] > before[question] and finished[question]]
    assert not again, "finished samples were generated again"
    assert sum(after.values()) <= 60 + 3 * 8  # what was in work at each kill
    assert len(server.bodies) - asked <= 120 - judged + 1, "finished verdicts were asked for again"
    assert without_times(run) == without_times(tmp_path / "calm")
    for file in ("completions.jsonl", "verdicts.jsonl"):
        assert (run / file).read_text() == (tmp_path / "calm" / file).read_text()
    assert len(list((run / "logs").glob("*.eval"))) == 1


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def whole_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
