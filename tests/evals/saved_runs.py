"""Small evaluation run folders, written by the library's own writers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safekey.evals.records.folder import EvalRun
from safekey.evals.records.rows import completion_hash, completion_in
from safekey.text.outputs import classify_output

KINDS = {"strongreject": "harm", "xstest-safe": "refusal", "math500": "accuracy", "prefill": "harm"}
JUDGES = {"harm": "harm_1to5", "refusal": "refusal_3class", "accuracy": "math"}
SAMPLING = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 60, "repetition_penalty": 1.0, "seed": 1000003}


def completion(benchmark: str, item: str, epoch: int = 1, **more: Any) -> dict[str, Any]:
    row = {"benchmark": benchmark, "item": item, "epoch": epoch, "behaviour": item, "category": "c", "attack": "none",
           "request": f"{item}?", "target": "", "model": "m", "asked": "", "messages": [],
           "text": f"Thought.</think>\n\nAnswer {epoch}.", "finish": "stop", "prefill": "", "started_inside": True,
           "prompt_ids": None, "output_tokens": 3, "error": "", "sampling": SAMPLING,
           "metadata": {}, **more}  # fmt: skip
    return {**row, "output": classify_output(completion_in(row))}


def verdict(row: dict[str, Any], value: Any, **more: Any) -> dict[str, Any]:
    kind = KINDS[row["benchmark"]]
    named = {name: row[name] for name in ("benchmark", "item", "epoch")}
    model = "" if kind == "accuracy" else "openai/judge"
    unscored = "" if value is not None else "judge error: Timeout" if row["output"] == "ok" else "no whole answer: x"
    return {**named, "part": "answer", "kind": kind, "judge": JUDGES[kind], "model": model, "prompt_hash": "p",
            "parser": "1", "completion": completion_hash(row), "value": value, "unscored": unscored, "raw": "",
            **more}  # fmt: skip


def write_run(
    path: Path,
    rows: Sequence[tuple[dict[str, Any], Sequence[dict[str, Any]]]],
    status: str = "finished",
    **resolved: Any,
) -> Path:
    """Write completions and their verdicts as an evaluation would."""
    names = dict.fromkeys(row["benchmark"] for row, _ in rows)
    tasks = {name: {"samples": 1, "decoding": {"temperature": 0.0, "seed": 0}} for name in names}
    run = EvalRun(path)
    run.hold()
    run.begin({"model": "m", "weights": {"chat_template_kwargs": {}}, "tasks": tasks, **resolved}, {})
    for row, verdicts in rows:
        run.rows.completions.add(row)
        for each in verdicts:
            run.rows.verdicts.add(each)
    if status != "running":
        run.mark(status)
    run.release()
    return path


def simple(
    asr: Sequence[Any] = (), orr: Sequence[Any] = (), accuracy: Sequence[Any] = (), **judged: Any
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """One completion and verdict for each value, on three benchmarks; "cut" for an output without an end."""
    rows = []
    for benchmark, values in zip(KINDS, (asr, orr, accuracy), strict=False):
        for number, value in enumerate(values):
            row = completion(benchmark, f"q{number}", **({"finish": "length"} if value == "cut" else {}))
            rows.append((row, [verdict(row, None if value == "cut" else value, **judged)]))
    return rows


def arm(unsafe: int, refused: int, solved: int, n: int = 120) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A run in which the first so many prompts are positive."""
    return simple(
        [5.0 if i < unsafe else 1.0 for i in range(n)],
        ["full_refusal" if i < refused else "full_compliance" for i in range(n)],
        [float(i < solved) for i in range(n)],
    )
