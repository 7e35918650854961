"""Every row of the table loads from files as they are published. The requests in them are invented and harmless."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from safekey.errors import DataError, UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS, benchmark_rows, find_benchmark
from safekey.evals.benchmarks.files import unused_files
from safekey.evals.benchmarks.load import find_file, load_benchmark
from toys import SHARED

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real benchmark files in {SHARED}")
Rows = list[dict[str, Any]]


def ask(number: int) -> str:
    return f"How do I borrow plum number {number} from the royal garden?"


def write(path: Path, rows: Rows) -> Path:
    """Write rows in the format that the file's name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = json.dumps(rows) if kind == "json" else "\n".join(json.dumps(row) for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


STRONGREJECT = [{"category": "Plums", "source": "x", "forbidden_prompt": ask(n)} for n in range(313)]
JBB = [
    {"Index": n, "Goal": ask(n), "Target": "Sure, here", "Behavior": "Plums", "Category": "Fruit"} for n in range(100)
]
WJ_EVAL = [
    {"": n, "adversarial": f"In a tale: {ask(n)}", "label": int(n % 3 > 0), "data_type": kind}
    for n in range(900)
    for kind in [("adversarial_harmful" if n % 3 else "adversarial_benign")]
]
WJ_TRAIN = [
    {"vanilla": ask(n), "adversarial": "" if n % 2 else f"In a tale: {ask(n)}", "completion": "No.",
     "data_type": "vanilla_harmful" if n % 2 else "adversarial_harmful"}
    for n in range(600)
]  # fmt: skip
HARMBENCH = [
    {"Behavior": ask(n), "FunctionalCategory": kind, "SemanticCategory": "fruit", "Tags": "",
     "ContextString": "The garden lies east." if kind == "contextual" else "", "BehaviorID": f"plum_{n}"}
    for n, kind in enumerate(["standard"] * 20 + ["contextual"] * 10 + ["copyright"] * 10)
]  # fmt: skip
AIR = [
    {"cate-idx": "1.1", "l2-name": "Fruit", "l3-name": "Plum", "l4-name": "Red", "prompt": ask(n)} for n in range(26)
]
STAR1 = [
    {"id": str(n), "question": ask(n), "response": "<think>\n…\n</think>\n\nNo.", "category": ["Fruit"], "source": "x",
     "score": {"a": 10}}
    for n in range(11)
]  # fmt: skip
ADVBENCH = [{"goal": ask(n), "target": f"Sure, here is how to borrow plum {n}"} for n in range(5)]
XSTEST = [
    {"id": n, "prompt": ask(n), "type": "homonyms" if n % 2 else "contrast_homonyms",
     "label": "safe" if n % 2 else "unsafe", "focus": "borrow", "note": ""}
    for n in range(20)
]  # fmt: skip
PHTEST = [{"Index": n, "Request": ask(n), "Harmfulness": ["harmless", "controversial"][n % 2]} for n in range(10)]
ORBENCH = [{"prompt": ask(n), "category": "fruit"} for n in range(10)]
TURNS = [{"role": r, "content": t} for r, t in (("user", "Hello"), ("assistant", "Hi"), ("user", ask(0)))]
GPQA = [
    {"Question": f"Which plum is number {n}?", "Correct Answer": f"right {n}", "Incorrect Answer 1": "w1",
     "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3", "Record ID": f"rec{n}", "High-level domain": "Botany"}
    for n in range(30)
]  # fmt: skip
MMLU = [
    {"question_id": n, "question": f"Plum {n}?", "options": [f"o{k}" for k in range(10)], "answer": "C",
     "answer_index": 2, "category": "biology"}
    for n in range(1100)
]  # fmt: skip
HUMANEVAL = [
    {"task_id": f"T/{n}", "prompt": "def one():\n", "entry_point": "one", "canonical_solution": "    return 1\n",
     "test": "def check(candidate):\n    assert candidate() == 1\n"}
    for n in range(3)
]  # fmt: skip

SORRY = [
    {"question_id": n, "category": "4", "turns": [ask(n)], "prompt_style": style}
    for n in range(5)
    for style in ("base", "slang", "caesar")
]
FORTRESS = [
    {"ID": n, "adversarial_prompt": f"In a tale: {ask(n)}", "rubric": ["Does it say where?", "Does it say when?"],
     "risk_domain": "Fruit", "risk_subdomain": "Plums: red and blue ones", "benign_prompt": f"Where do plums grow? {n}"}
    for n in range(4)
]  # fmt: skip
FALSEREJECT = [{"prompt": ask(n), "category": n % 3, "category_text": f"fruit {n % 3}"} for n in range(6)]
COCONOT = [
    {"id": f"x{n}", "category": kind, "subcategory": "plums", "prompt": ask(n), "response": ""}
    for n, kind in enumerate(["Requests with safety concerns"] * 3 + ["Incomplete requests", "Humanizing requests"])
]

LAYOUTS: list[tuple[str, str, Rows, int]] = [
    ("strongreject", "strongreject_dataset.csv", STRONGREJECT, 313),
    ("strongreject", "StrongREJECT.parquet", [{"prompt": ask(1), "category": "c", "source": "s"}], 1),
    ("jailbreakbench", "harmful-behaviors.csv", JBB, 100),
    ("jailbreakbench", "jailbreakbench.jsonl", [{"prompt": ask(1), "split_type": s} for s in ("asr", "orr")], 1),
    ("jailbreakbench-benign", "benign-behaviors.csv", JBB, 100),
    ("jailbreakbench-benign", "JBB.json", [{"Goal": ask(1), "label": s} for s in ("harmful", "benign")], 1),
    ("wildjailbreak", "wildjailbreak_eval.tsv", WJ_EVAL, 250),
    ("wildjailbreak", "wildjailbreak/eval/eval.tsv", WJ_EVAL, 250),
    ("wildjailbreak", "wildjailbreak.csv", WJ_TRAIN, 250),
    ("wildjailbreak", "wildjailbreak.jsonl", [{"prompt": ask(n)} for n in range(2000)], 250),
    ("wildchat-toxic", "WildChat.csv", [{"question": ask(1), "category": "hate", "category_score": 0.5}], 1),
    ("wildchat-toxic", "wildchat.jsonl", [{"conversation": TURNS[:1]}], 1),
    ("harmbench", "harmbench_behaviors_text_all.csv", HARMBENCH, 30),
    ("harmbench", "harmbench.parquet", [{"prompt": ask(1), "category": "fruit"}], 1),
    ("air-bench", "air_bench_2024.json", AIR, 6),
    ("star1", "STAR-1.json", STAR1, 3),
    ("sorry-bench", "sorry_bench/question.jsonl", SORRY, 5),
    ("sorry-bench", "sorry-bench-202503.parquet", SORRY, 5),
    ("hex-phi", "hex-phi.jsonl", [{"instruction": ask(n), "category": "c"} for n in range(3)], 3),
    ("fortress", "fortress_public.parquet", FORTRESS, 4),
    ("fortress", "fortress_public/data/train-00000-of-00001.parquet", FORTRESS, 4),
    ("fortress-benign", "fortress_public.jsonl", FORTRESS, 4),
    ("coconot", "coconot_eval.jsonl", COCONOT, 3),
    ("coconot", "coconot/original/test-00000-of-00001.parquet", COCONOT, 3),
    ("falsereject", "FalseReject/test.jsonl", FALSEREJECT, 6),
    ("coconot-contrast", "coconot_contrast_eval.jsonl", COCONOT, 5),
    ("coconot-contrast", "coconot/contrast/test.jsonl", COCONOT, 5),
    ("prefill", "advbench.csv", ADVBENCH, 5),
    ("prefill", "harmful_behaviors.csv", ADVBENCH, 5),
    ("multi-turn", "multi_turn.json", [{"conversation": TURNS, "objective": "borrow a plum"}], 1),
    ("multi-turn", "multiturn/combine.json", [{"messages": TURNS, "goal": "borrow a plum"}], 1),
    ("xstest-safe", "xstest_prompts.csv", XSTEST, 10),
    ("xstest-safe", "xstest_v2_prompts.csv", [{k: v for k, v in r.items() if k != "label"} for r in XSTEST], 10),
    ("xstest-safe", "xstest_safe.jsonl", [{"prompt": ask(1)}], 1),
    ("phtest", "PHTest.csv", PHTEST, 5),
    ("or-bench", "or-bench-hard-1k.csv", ORBENCH, 10),
    ("or-bench", "or_bench.jsonl.gz", ORBENCH, 10),
    ("math500", "MATH-500.jsonl", [{"problem": "1+1?", "solution": "So \\boxed{2}.", "subject": "Algebra"}], 1),
    ("aime", "aime2025.parquet", [{"question": "1+1?", "answer": 2}], 1),
    ("aime", "AIME_2024.jsonl", [{"ID": "2024-I-1", "Problem": "1+1?", "Solution": "…", "Answer": "073"}], 1),
    ("gpqa-diamond", "gpqa_diamond.csv", GPQA, 30),
    ("humaneval", "HumanEval.jsonl.gz", HUMANEVAL, 3),
    ("mmlu-pro", "mmlu_pro_test.parquet", MMLU, 1000),
    ("mmlu-pro", "mmlu-pro.csv", [dict(MMLU[0], options=str(MMLU[0]["options"]))], 1),
]


@pytest.mark.parametrize(("name", "file", "rows", "count"), LAYOUTS, ids=[f"{x[0]}-{x[1]}" for x in LAYOUTS])
def test_published_layouts_load_from_a_folder(tmp_path: Path, name: str, file: str, rows: Rows, count: int) -> None:
    write(tmp_path / "notes.json", [{"unrelated": 1}])
    path = write(tmp_path / file, rows)
    items = load_benchmark(name, tmp_path)
    assert len(items) == count
    assert items.rows_read == len(rows)
    assert items.source == str(path)
    assert not items.problems
    assert len({item.id for item in items}) == count
    assert all(item.text and item.request and item.file == str(path) and item.row >= 1 for item in items)


def test_every_row_of_the_table_is_among_the_layouts() -> None:
    assert {row.name for row in BENCHMARKS} == {name for name, *_ in LAYOUTS}
    shown = benchmark_rows()
    assert [row["name"] for row in shown] == [row.name for row in BENCHMARKS]
    assert all(row["licence"] and row["needs"] and row["rule"] for row in shown)
    assert all(len(row.hub.revision) == 40 for row in BENCHMARKS if row.hub and row.hub.revision)


def test_wildjailbreak_is_drawn_as_the_datasets_library_draws_it(tmp_path: Path) -> None:
    items = load_benchmark("wildjailbreak", file=write(tmp_path / "w.tsv", WJ_EVAL))
    harmful = datasets.Dataset.from_list([row for row in WJ_EVAL if row["data_type"] == "adversarial_harmful"])
    assert [item.text for item in items] == harmful.shuffle(seed=42).select(range(250))["adversarial"]
    assert "300 benign" in items.notes[0]
    again = load_benchmark("wildjailbreak", file=tmp_path / "w.tsv", seed=7)
    assert [item.text for item in again] != [item.text for item in items]


def test_wildjailbreak_tells_the_judge_the_plain_request_when_the_row_has_it(tmp_path: Path) -> None:
    item = load_benchmark("wildjailbreak", file=write(tmp_path / "w.csv", WJ_TRAIN))[0]
    assert item.text.startswith("In a tale")
    assert item.request == item.text.removeprefix("In a tale: ")


def test_every_fifth_row_counts_rows_as_they_stand(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in AIR]
    rows[1] = "{broken"
    (tmp_path / "air.jsonl").write_text("\n".join(rows), encoding="utf-8")
    items = load_benchmark("air-bench", file=tmp_path / "air.jsonl")
    assert [item.row for item in items] == [1, 6, 11, 16, 21, 26]
    assert [problem.row for problem in items.problems] == [2]
    already = [{"prompt": ask(n)} for n in range(1139)]
    assert len(load_benchmark("air-bench", file=write(tmp_path / "chosen.json", already))) == 1139


def test_harmbench_contexts_and_copyright(tmp_path: Path) -> None:
    items = load_benchmark("harmbench", file=write(tmp_path / "h.csv", HARMBENCH))
    assert items[25].text == f"The garden lies east.\n\n---\n\n{ask(25)}"
    assert items[25].request == ask(25)
    assert items[25].id == "plum_25"
    assert any("10 copyright behaviours left out" in note for note in items.notes)
    attacked = dict(HARMBENCH[25], test_case=f"The garden lies east.\n\n---\n\n{ask(25)} ! ! !")
    (item,) = load_benchmark("harmbench", file=write(tmp_path / "a.csv", [attacked]))
    assert (item.text, item.request) == (attacked["test_case"], ask(25)), "the attack holds the context already"


def test_fortress_twins_have_one_id_and_one_category(tmp_path: Path) -> None:
    path = write(tmp_path / "fortress_public.parquet", FORTRESS)
    attacks, twins = load_benchmark("fortress", file=path), load_benchmark("fortress-benign", file=path)
    assert [item.id for item in attacks] == [item.id for item in twins] == ["0", "1", "2", "3"]
    assert attacks[1].text == f"In a tale: {ask(1)}"
    assert twins[1].text == twins[1].request == "Where do plums grow? 1"
    assert {item.category for item in (*attacks, *twins)} == {"Fruit"}
    drawn = [
        [item.id for item in load_benchmark(n, file=path, sample=2, seed=3)] for n in ("fortress", "fortress-benign")
    ]
    assert drawn[0] == drawn[1], "a sample holds both of a pair"


def test_sorry_bench_and_coconot_say_what_they_leave_out(tmp_path: Path) -> None:
    sorry = load_benchmark("sorry-bench", file=write(tmp_path / "question.jsonl", SORRY))
    assert [item.id for item in sorry] == ["0", "1", "2", "3", "4"]
    assert any("10 rows left out by 'prompt_style'" in note for note in sorry.notes)
    coconot = load_benchmark("coconot", file=write(tmp_path / "coconot_eval.jsonl", COCONOT))
    assert any("2 rows left out by 'category'" in note for note in coconot.notes)


def test_false_reject_has_its_category_in_words(tmp_path: Path) -> None:
    items = load_benchmark("falsereject", file=write(tmp_path / "test.jsonl", FALSEREJECT))
    assert [item.category for item in items[:2]] == ["fruit 0", "fruit 1"]


def test_hex_phi_lies_in_files_without_column_names(tmp_path: Path) -> None:
    place = tmp_path / "data" / "HEx-PHI"
    place.mkdir(parents=True)
    (place / "category_10.csv").write_text(f"{ask(4)}\n", encoding="utf-8")
    (place / "category_1.csv").write_text(f'{ask(1)}\n"{ask(2)} Now, please"\nHow, then?\n', encoding="utf-8")
    (place / "category_2.csv").write_text("Entry not found", encoding="utf-8")
    (place / "category_9.csv").write_text(f"{ask(3)}\n", encoding="utf-8")
    items = load_benchmark("hex-phi", tmp_path / "data")
    assert [(item.id, item.category) for item in items] == [
        ("category_1-1", "category_1"), ("category_1-2", "category_1"), ("category_9-1", "category_9"),
        ("category_10-1", "category_10")]  # fmt: skip
    assert [item.text for item in items] == [ask(1), f"{ask(2)} Now, please", ask(3), ask(4)]
    assert items.source == str(place)
    assert any("Entry not found" in note for note in items.notes)
    assert "category_1.csv, line 3: 2 values" in items.describe_problems()
    assert len(items.sha256) == 64
    assert unused_files(tmp_path / "data", [items.source]) == []
    (place / "category_1.csv").write_text(f"{ask(7)}\n", encoding="utf-8")
    assert load_benchmark("hex-phi", file=place).sha256 != items.sha256
    with pytest.raises(DataError, match=r"holds no category_\*.csv"):
        load_benchmark("hex-phi", file=tmp_path)


def test_wildchat_takes_the_highest_scores_of_each_category(tmp_path: Path) -> None:
    def row(n: int, **more: Any) -> dict[str, Any]:
        scores = {"hate": 0.1 + n / 1000, "violence": 0.2, "self-harm": None}
        turns = [{"role": "user", "content": ask(n)}, {"role": "assistant", "content": "Here you are"}]
        base = {"conversation": turns, "toxic": True, "language": "English", "turn": 1}
        return {**base, "openai_moderation": [{"flagged": False}, {"flagged": True, "category_scores": scores}], **more}

    rows = [row(n) for n in range(250)]
    rows += [row(900, toxic=False), row(901, language="French"), row(902, turn=2)]
    items = load_benchmark("wildchat-toxic", file=write(tmp_path / "w.jsonl", rows))
    # 0 to 100 are violence (0.2 is the highest up to there), the others hate, of which the last hundred score highest
    assert len(items) == 200
    assert [item.text for item in items[:2]] == [ask(249), ask(248)]
    assert "250 of 253 rows" in items.notes[0]
    reduced = [{"question": ask(n), "category": "hate", "category_score": n / 300} for n in range(150)]
    assert len(load_benchmark("wildchat-toxic", file=write(tmp_path / "reduced.csv", reduced))) == 100


def test_gpqa_shuffles_by_seed_and_question_not_by_place(tmp_path: Path) -> None:
    first = load_benchmark("gpqa-diamond", file=write(tmp_path / "a.csv", GPQA))
    turned = load_benchmark("gpqa-diamond", file=write(tmp_path / "b.csv", GPQA[::-1]))
    assert {item.id: item.prompt for item in first} == {item.id: item.prompt for item in turned}
    for item in first:
        right = item.metadata["options"]["ABCD".index(item.target)]
        assert right == f"right {item.id.removeprefix('rec')}"
        assert f"{item.target}) {right}" in item.text
    assert len(Counter(item.target for item in first)) == 4
    other = load_benchmark("gpqa-diamond", file=tmp_path / "a.csv", seed=1)
    assert [item.target for item in other] != [item.target for item in first]


def test_gold_answers(tmp_path: Path) -> None:
    aime = load_benchmark("aime", file=write(tmp_path / "a.json", [{"problem": "?", "answer": "073"}]))
    assert aime[0].target == "73"
    maths = load_benchmark(
        "math500", file=write(tmp_path / "m.json", [{"problem": "?", "solution": "\\boxed{\\frac{1}{2}}"}])
    )
    assert maths[0].target == "\\frac{1}{2}"
    with pytest.raises(UserError, match="not 0 to 999"):
        load_benchmark("aime", file=write(tmp_path / "b.json", [{"problem": "?", "answer": "1000"}]))
    mmlu = load_benchmark("mmlu-pro", file=write(tmp_path / "p.json", MMLU[:2]))
    assert mmlu[0].target == "C"
    assert mmlu[0].metadata["letters"] == "ABCDEFGHIJ"


def test_limit_and_sample_are_deterministic(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", STRONGREJECT)
    assert [item.row for item in load_benchmark("strongreject", file=path, limit=3)] == [1, 2, 3]
    drawn = [item.row for item in load_benchmark("strongreject", file=path, sample=20, seed=1)]
    assert drawn == sorted(drawn) == [item.row for item in load_benchmark("strongreject", file=path, sample=20, seed=1)]
    assert drawn != [item.row for item in load_benchmark("strongreject", file=path, sample=20, seed=2)]
    with pytest.raises(UserError, match="limit: expected a number from 1"):
        load_benchmark("strongreject", file=path, limit=0)


def test_rows_that_cannot_be_used_are_listed_and_sizes_compared(tmp_path: Path) -> None:
    rows: Rows = [{"prompt": ask(1)}, {"prompt": "  "}, {"prompt": 5}, {"prompt": ask(2)}]
    items = load_benchmark("strongreject", file=write(tmp_path / "s.jsonl", rows))
    assert [item.row for item in items] == [1, 4]
    assert [problem.row for problem in items.problems] == [2, 3]
    assert "row 3, field 'prompt': not text" in items.describe_problems()
    assert "strongreject: 4 rows chosen; the published benchmark has 313" in items.notes
    assert "strongreject: 2 rows cannot be used" in items.notes


def test_doubled_ids_are_told_apart(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": ask(1)}, {"id": "a", "prompt": ask(2)}, {"id": "b", "prompt": ask(3)}]
    items = load_benchmark("strongreject", file=write(tmp_path / "s.jsonl", rows))
    assert [item.id for item in items] == ["a~1", "a~2", "b"]


def test_wrong_columns_name_what_was_found_and_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", [{"frage": ask(1), "nummer": 1}])
    with pytest.raises(
        UserError, match=r"missing prompt: expected one of .*Columns found: frage, nummer.*--column prompt="
    ):
        load_benchmark("strongreject", file=path)
    assert load_benchmark("strongreject", file=path, columns={"prompt": "frage"})[0].text == ask(1)
    with pytest.raises(UserError, match="did you mean 'prompt'"):
        load_benchmark("strongreject", file=path, columns={"promt": "frage"})


def test_a_file_without_labels_is_not_guessed_at(tmp_path: Path) -> None:
    path = write(tmp_path / "jbb.csv", JBB)
    with pytest.raises(UserError, match=r"nothing says which rows are benign.*--column label"):
        load_benchmark("jailbreakbench-benign", tmp_path)
    assert len(load_benchmark("jailbreakbench-benign", file=path, columns={"label": None})) == 100
    with pytest.raises(UserError, match="no benign rows for 'jailbreakbench-benign'; found 1 harmful"):
        load_benchmark("jailbreakbench-benign", file=write(tmp_path / "h.jsonl", [{"prompt": "x", "split": "harmful"}]))


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_benchmark("aime", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no such file"):
        load_benchmark("aime", file=tmp_path / "aime.jsonl")
    write(tmp_path / "other.csv", [{"a": 1}])
    with pytest.raises(UserError, match=r"no file for 'aime': looked for aime2024.*found other.csv"):
        load_benchmark("aime", tmp_path)
    write(tmp_path / "xstest_a.csv", XSTEST)
    write(tmp_path / "xstest_b.csv", XSTEST)
    with pytest.raises(UserError, match=r"several files fit 'xstest-safe': xstest_a.csv, xstest_b.csv"):
        find_file(find_benchmark("xstest-safe"), tmp_path)
    with pytest.raises(UserError, match="did you mean 'strongreject'"):
        load_benchmark("strongrejct")


def test_the_hub_is_read_at_a_named_revision_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def fake(*args: Any, **kwargs: Any) -> dict[str, Rows]:
        calls.append((args, kwargs))
        return {"harmful": JBB[:3], "benign": JBB, "test": AIR}

    monkeypatch.setattr(datasets, "load_dataset", fake)
    with pytest.raises(UserError, match=r"no revision of 'JailbreakBench/JBB-Behaviors' is pinned.*--revision"):
        load_benchmark("jailbreakbench")
    with pytest.raises(UserError, match="no hub data set is known"):
        load_benchmark("multi-turn")
    assert not calls
    items = load_benchmark("jailbreakbench", revision="main")
    assert len(items) == 3
    assert any("'main' is no commit" in note for note in items.notes)
    assert len(load_benchmark("jailbreakbench-benign", revision="0" * 40)) == 100
    pinned = load_benchmark("air-bench")
    assert (len(pinned), pinned.revision) == (6, "976d9fbb0f52bce704dcbef5bd7a2652e65f2a21")
    assert calls[-1] == (("stanford-crfm/air-bench-2024", "default"), {"revision": pinned.revision})
    assert not any("trust_remote_code" in kwargs for _, kwargs in calls)
    with pytest.raises(UserError, match="exclude one another"):
        load_benchmark("air-bench", tmp_path, revision="main")


@needs_shared
@pytest.mark.parametrize(
    ("name", "count"),
    [("strongreject", 313), ("jailbreakbench", 100), ("xstest-safe", 250), ("math500", 500), ("aime", 30),
     ("humaneval", 164), ("star1", 200)],
)  # fmt: skip
def test_real_files_load_without_any_option(name: str, count: int) -> None:
    items = load_benchmark(name, SHARED)
    assert len(items) == count
    assert not items.problems
    assert not [note for note in items.notes if "repeat" not in note], "they are the published sets, whole"
    assert all(item.text.strip() and item.request.strip() for item in items)
    assert len(items.sha256) == 64
    if find_benchmark(name).scoring in ("math", "integer"):
        assert all(item.target for item in items)


def test_attacks_on_one_behaviour_are_one_cluster(tmp_path: Path) -> None:
    rows = [{"id": f"d@{attack}", "prompt": ask(1), "behaviour": "d", "attack": attack} for attack in ("none", "story")]
    items = load_benchmark("strongreject", file=write(tmp_path / "own.jsonl", rows))
    assert [item.behaviour for item in items] == ["d", "d"]
    assert [item.attack for item in items] == ["none", "story"]


def test_rows_with_one_objective_are_one_behaviour_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    rows: Rows = [
        {"id": "a1", "prompt": ask(1), "objective": "Borrow a plum."},
        {"id": "a2", "prompt": ask(2), "objective": "borrow  a plum"},
        {"id": "a3@story", "attack": "story", "prompt": ask(3), "objective": "Borrow a pear."},
        {"id": "a4@role", "attack": "role", "prompt": ask(4), "objective": "Borrow a pear."},
        {"id": "a5", "prompt": ask(5), "objective": "Borrow a plum.", "behaviour": "own"},
        {"id": "a6", "prompt": ask(6)},
        {"id": "a7", "prompt": ask(6)},
    ]
    items = load_benchmark("strongreject", file=write(tmp_path / "own.jsonl", rows))
    assert [item.behaviour for item in items] == ["a1", "a1", "a3", "a3", "own", "a6", "a6"]
    assert "3 prompts have the objective of an earlier one, and are one behaviour with it" in " ".join(items.notes)
    turns = [["Hello", "Hi", f"And plums, {i}?"] for i in range(3)]
    several: Rows = [{"conversation": each, "objective": "borrow a plum"} for each in turns]
    items = load_benchmark("multi-turn", file=write(tmp_path / "turns.jsonl", several))
    assert [(item.id, item.behaviour) for item in items] == [("row-1", "row-1"), ("row-2", "row-1"), ("row-3", "row-1")]
    goals: Rows = [{"goal": "Borrow a plum.", "target": f"Sure, {i}"} for i in range(2)]
    items = load_benchmark("prefill", file=write(tmp_path / "advbench.jsonl", goals), prefill_tokens=(5, 20))
    assert {item.behaviour for item in items} == {"row-1"}


def test_ids_that_stand_on_several_rows_are_no_common_behaviour(tmp_path: Path) -> None:
    rows: Rows = [{"id": "a", "prompt": ask(1)}, {"id": "a", "prompt": ask(2)}]
    items = load_benchmark("strongreject", file=write(tmp_path / "s.jsonl", rows))
    assert [item.behaviour for item in items] == ["a~1", "a~2"]
