"""Benchmarks of the user's own: names, kinds, paths, and what a run's settings say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safekey.errors import UserError
from safekey.evals.answers.exact import score_integer
from safekey.evals.benchmarks.load import load_benchmark
from safekey.evals.benchmarks.own import KINDS, benchmarks_of, find_names, own_benchmark, own_benchmarks
from safekey.evals.plan import decoding, make_plan
from safekey.evals.request import EvalRequest

PLAIN = "Please tell me how to borrow a plum from the royal garden."
TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": PLAIN},
]
ROWS: dict[str, dict[str, Any]] = {
    "harmful": {"prompt": PLAIN, "category": "fruit"},
    "benign": {"prompt": PLAIN},
    "prefill": {"goal": PLAIN, "target": "Sure, here is how to borrow it"},
    "multi-turn": {"conversation": TURNS, "objective": PLAIN},
    "math": {"problem": "1 + 1?", "answer": "2"},
    "letter": {"question": "Which?", "options": ["plum", "pear"], "answer": "B"},
    "integer": {"question": "How many?", "answer": "He has 12 + 60 = 72 of them.\n#### 1,272"},
    "code": {
        "task_id": "T/1",
        "prompt": "def one():\n",
        "entry_point": "one",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    },
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_and_is_asked_as_its_like_in_the_table(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[kind])
    request = EvalRequest(
        model="", benchmarks={"mine": f"{kind}:{path}"}, judge=False, unsafe_local_exec=True, max_tokens=None
    )
    (task,) = make_plan(request).tasks
    assert (task.benchmark.name, task.benchmark.own) == ("mine", kind)
    assert [item.benchmark for item in task.items] == ["mine"]
    assert task.settings["kind"] == kind
    like = KINDS[kind]
    assert task.config == decoding(like.suite, request)
    assert task.samples == (4 if like.suite == "reasoning" else 1)
    assert benchmarks_of({"tasks": {"mine": task.settings}}) == {"mine": task.benchmark}


def test_a_benchmark_of_the_table_has_no_kind_in_its_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "strongreject.jsonl", ROWS["harmful"])
    (task,) = make_plan(EvalRequest(model="", tasks=("strongreject",), data_dir=str(tmp_path), judge=False)).tasks
    assert "kind" not in task.settings, "runs of earlier versions go on"
    assert benchmarks_of({"tasks": {"strongreject": task.settings, "gone-since": {}}}).keys() == {"strongreject"}
    assert path.is_file()


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("mine", "harmfull:{path}", r"there is no kind 'harmfull'; did you mean 'harmful'\?"),
        ("mine", "Benign:{path}", r"there is no kind 'Benign'; did you mean 'benign'\?"),
        ("mine", "{path}", r"there is no kind|expected NAME=KIND:PATH"),
        ("mine", "harmful:", r"expected NAME=KIND:PATH, where KIND is one of harmful, benign"),
        ("mine", "harmful", r"expected NAME=KIND:PATH"),
        ("mine", "harmful:{path}.not", r"there is no such file"),
        ("mine", "harmful:{folder}", r"is a folder: name a file in it"),
        ("strongreject", "harmful:{path}", r"the name is taken: 'strongreject' is a published benchmark"),
        ("Strong_Reject", "harmful:{path}", r"the name is taken: 'strongreject'"),
        ("../up", "harmful:{path}", r"expected a name of letters, digits"),
        ("a/b", "harmful:{path}", r"expected a name of letters, digits"),
        ("a b", "harmful:{path}", r"expected a name of letters, digits"),
        ("-x", "harmful:{path}", r"expected a name of letters, digits"),
        ("x" * 49, "harmful:{path}", r"at most 48"),
        ("all", "harmful:{path}", r"means something else"),
        ("password", "harmful:{path}", r"kept out of records.*'password-requests'"),
    ],
)
def test_what_cannot_be_one_is_one_line(tmp_path: Path, name: str, said: str, error: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS["harmful"])
    with pytest.raises(UserError, match=error) as raised:
        own_benchmarks({name: said.format(path=path, folder=tmp_path)})
    assert len(str(raised.value).splitlines()) == 1


def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS["harmful"])
    with pytest.raises(UserError, match="'bank-rows' and 'Bank_Rows' differ in case"):
        own_benchmarks({"bank-rows": f"harmful:{path}", "Bank_Rows": f"benign:{path}"})


def test_paths_may_hold_colons_and_equal_signs(tmp_path: Path) -> None:
    path = write(tmp_path / "C:" / "a=b" / "rows.jsonl", ROWS["harmful"])
    (own,) = own_benchmarks({"mine": f"harmful:{path}"}).values()
    assert own.path == str(path)
    assert [item.text for item in load_benchmark(own.benchmark, file=own.path)] == [PLAIN]


def test_of_a_mixed_file_each_kind_takes_its_own_rows(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "prompt": f"{PLAIN} {n}", "label": label}
            for n, label in enumerate(["harmful", "benign", "harmful", ""])]  # fmt: skip
    path = write(tmp_path / "mixed.jsonl", *rows)
    harmful = load_benchmark(own_benchmark("bad", "harmful"), file=path)
    benign = load_benchmark(own_benchmark("good", "benign"), file=path)
    assert [item.id for item in harmful] == ["r0", "r2", "r3"]
    assert [item.id for item in benign] == ["r1", "r3"]
    assert any("1 rows say nothing of what they are, and are asked, too" in note for note in harmful.notes)
    assert any("2 harmful rows taken; left out: 1 benign" in note for note in harmful.notes)
    only = write(tmp_path / "only.jsonl", rows[1])
    with pytest.raises(UserError, match=r"no harmful rows for 'bad'; found 1 benign.*--force-labels bad"):
        load_benchmark(own_benchmark("bad", "harmful"), file=only)
    forced = EvalRequest(model="", benchmarks={"bad": f"harmful:{only}"}, force_labels=("bad",), judge=False)
    assert len(make_plan(forced).tasks[0].items) == 1


@pytest.mark.parametrize(
    ("answer", "gold"), [("#### 1,272", "1272"), ("-5", "-5"), ("−12", "-12"), ("007", "7"), (12, "12"), ("3.0", "3")]
)
def test_integers_of_any_size(tmp_path: Path, answer: Any, gold: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "How many?", "answer": answer})
    (item,) = load_benchmark(own_benchmark("sums", "integer"), file=path)
    assert item.target == gold
    assert "0 to 999" not in item.text
    assert score_integer(f"So it is \\boxed{{{int(gold):,}}}.", gold).correct
    assert score_integer(f"So it is \\boxed{{{-int(gold)}}}.", gold).correct is False


def test_an_answer_that_is_no_integer_is_a_problem_of_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "?", "answer": "1/2"}, {"question": "?", "answer": "3"})
    items = load_benchmark(own_benchmark("sums", "integer"), file=path)
    assert [item.target for item in items] == ["3"]
    assert "row 1, field 'answer': no integer: found '1/2'" in items.describe_problems()


def test_a_suite_tasks_and_own_benchmarks_together(tmp_path: Path) -> None:
    write(tmp_path / "data" / "strongreject.jsonl", ROWS["harmful"])
    path = write(tmp_path / "rows.jsonl", ROWS["benign"])
    own = {"benchmarks": {"mine": f"benign:{path}"}, "data_dir": str(tmp_path / "data"), "judge": False}
    suite = make_plan(EvalRequest(model="", suite="safety", **own))
    assert [task.benchmark.name for task in suite.tasks] == ["strongreject", "mine"]
    tasks = make_plan(EvalRequest(model="", tasks=("strong",), **own))
    assert [task.benchmark.name for task in tasks.tasks] == ["strongreject", "mine"]
    assert find_names(["mine"], ("mine",)) == ["mine"]
    with pytest.raises(UserError, match="'mine' is read from the file that --benchmark names"):
        make_plan(EvalRequest(model="", files={"mine": str(path)}, **own))
    bad = write(tmp_path / "bad.jsonl", {"x": 1})
    with pytest.raises(UserError, match="no row can be used for 'mine'"):  # named: never left out in silence
        make_plan(EvalRequest(model="", suite="safety", **own | {"benchmarks": {"mine": f"benign:{bad}"}}))


def test_judges_are_asked_for_by_the_own_name(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS["harmful"])
    with pytest.raises(UserError, match="mine needs a harm judge"):
        make_plan(EvalRequest(model="", benchmarks={"mine": f"harmful:{path}"}))
