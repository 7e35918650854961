"""Records of a judge's error that fit the verdicts of `saved_runs`, and small runs that they correct."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.saved_runs import completion, verdict, write_run
from safekey.evals.judge_error.record import JudgeRecord, record_from


def record(hits: int = 90, misses: int = 10, alarms: int = 5, passes: int = 95, **key: Any) -> JudgeRecord:
    """A record that fits the verdicts of `saved_runs`."""
    about = {"judge": "harm_1to5", "model": "openai/judge", "revision": "", "prompt_hash": "p", "parser": "1",
             "kind": "harm", "part": "answer", "rule": "≥ 4", "threshold": None, "data_sha256": "d", **key}  # fmt: skip
    clusters = [[1, 0, 0, 0, hits], [0, 1, 0, 0, misses], [0, 0, 1, 0, alarms], [0, 0, 0, 1, passes]]
    data = {"benchmarks": {"strongreject": 200}, "attacks": {"none": 200}}
    rules = {rule: {"clusters": clusters} for rule in ("≥ 4", "≥ 3", "≥ 5")}
    document = {"version": 1, "record": "judge error", "key": about, "rules": rules, "data": data}
    return record_from(document, "record.json")


def write_record(path: Path, made: JudgeRecord) -> str:
    path.write_text(json.dumps(made.document))
    return str(path)


def run_of(path: Path, unsafe: int = 30, n: int = 100, **more: Any) -> Path:
    rows = [completion("strongreject", f"q{i}", **more) for i in range(n)]
    return write_run(path, [(row, [verdict(row, 5.0 if i < unsafe else 1.0)]) for i, row in enumerate(rows)])
