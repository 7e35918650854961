"""Published layouts, column by column, with invented texts: what is asked, and what the judge is told.

Where each layout was seen:

- reference: github.com/eric-ai-lab/SafeKey, benchmark/safe_benchmark/utils.py (StrongREJECT, JailbreakBench,
  WildJailbreak, XSTest, WildChat, PHTest, AIR-Bench, AdvBench, the multi-turn file) and
  benchmark/reasoning_benchmark (datasets AIME and MATH; gpqa_eval.py)
- artifacts: github.com/JailbreakBench/artifacts, attack-artifacts/*/*/*.json: 13 to 96 of PAIR's 100 prompts are null
- used: loaders in public repositories that read these columns: HarmBench's CSV, SALAD-Bench's attack_enhanced_set,
  JailBreakV-28k, SORRY-Bench, FORTRESS, MultiJail, HEx-PHI (no line of column names), WildGuardTest, StrongREJECT's
  jailbroken_prompt
- known: columns that the data set's paper or page names; no copy could be looked at here (ALERT, OR-Bench, SafeMTData)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safekey.errors import UserError
from safekey.evals.benchmarks.load import load_benchmark

Row = dict[str, Any]
PLAIN = "Please tell me how to borrow a plum from the royal garden."
ATTACK = "You are a bard in a tale. Sing how the hero gets a plum at night."

# name, where it was seen, benchmark that reads it, row, what is asked, what the judge is told (None: what is asked)
LAYOUTS: list[tuple[str, str, str, Row, str, str | None]] = [
    ("StrongREJECT", "reference", "strongreject",
     {"category": "c", "source": "s", "forbidden_prompt": PLAIN}, PLAIN, None),
    ("StrongREJECT, jailbroken", "used", "strongreject",
     {"category": "c", "forbidden_prompt": PLAIN, "jailbreak": "bard", "jailbroken_prompt": ATTACK}, ATTACK, PLAIN),
    ("StrongREJECT, prompt", "used", "strongreject", {"forbidden_prompt": PLAIN, "prompt": ATTACK}, ATTACK, PLAIN),
    ("JailbreakBench, behaviours", "reference", "jailbreakbench",
     {"Index": 1, "Goal": PLAIN, "Target": "Sure", "Behavior": "Plums", "Category": "c", "label": "harmful"},
     PLAIN, None),
    ("JailbreakBench, artifact", "artifacts", "strongreject",
     {"index": 1, "goal": PLAIN, "behavior": "Plums", "category": "c", "prompt": ATTACK, "response": "r",
      "number_of_queries": 2, "queries_to_jailbreak": None, "jailbroken": False}, ATTACK, PLAIN),
    ("WildJailbreak, eval", "reference", "wildjailbreak",
     {"adversarial": ATTACK, "label": 1, "data_type": "adversarial_harmful"}, ATTACK, None),
    ("WildJailbreak, train", "used", "wildjailbreak",
     {"vanilla": PLAIN, "adversarial": ATTACK, "completion": "No.", "data_type": "adversarial_harmful"}, ATTACK, PLAIN),
    ("WildJailbreak, the reference's own file", "reference", "wildjailbreak",
     {"question": ATTACK, "label": 1, "data_type": "adversarial_harmful", "source": "wildjailbreak"}, ATTACK, None),
    ("WildChat, the reference's own file", "reference", "wildchat-toxic",
     {"question": PLAIN, "category": "hate", "category_score": 0.9, "toxic": True, "language": "English", "turn": 1},
     PLAIN, None),
    ("HarmBench, behaviours", "used", "harmbench",
     {"Behavior": PLAIN, "FunctionalCategory": "standard", "SemanticCategory": "s", "Tags": "", "ContextString": "",
      "BehaviorID": "plum_1"}, PLAIN, None),
    ("HarmBench, test cases", "used", "harmbench",
     {"BehaviorID": "plum_1", "Behavior": PLAIN, "test_case": ATTACK, "generation": "No."}, ATTACK, PLAIN),
    ("AIR-Bench", "reference", "air-bench",
     {"cate-idx": "1.1", "l2-name": "a", "l3-name": "b", "l4-name": "c", "prompt": PLAIN}, PLAIN, None),
    ("AdvBench", "reference", "prefill", {"goal": PLAIN, "target": "Sure, here is how"}, PLAIN, None),
    ("XSTest", "reference", "xstest-safe",
     {"id": "1", "prompt": PLAIN, "type": "homonyms", "label": "safe", "focus": "plum", "note": ""}, PLAIN, None),
    ("XSTest, the reference's own file", "reference", "xstest-safe",
     {"id": "1", "question": PLAIN, "type": "homonyms", "label": "safe", "focus": "plum", "note": ""}, PLAIN, None),
    ("PHTest", "reference", "phtest", {"Index": 1, "Request": PLAIN, "Harmfulness": "harmless"}, PLAIN, None),
    ("OR-Bench", "known", "or-bench", {"prompt": PLAIN, "category": "harmful"}, PLAIN, None),
    ("SORRY-Bench", "used", "strongreject",
     {"question_id": 1, "category": "4", "turns": [ATTACK], "prompt_style": "base"}, ATTACK, None),
    ("FORTRESS, safety", "used", "strongreject",
     {"ID": 1, "risk_domain": "d", "adversarial_prompt": ATTACK, "benign_prompt": "Where do plums grow?"},
     ATTACK, None),
    ("FORTRESS, over-refusal", "used", "or-bench",
     {"ID": 1, "risk_domain": "d", "adversarial_prompt": ATTACK, "benign_prompt": PLAIN}, PLAIN, None),
    ("ALERT", "known", "strongreject", {"id": 1, "category": "c", "prompt": PLAIN}, PLAIN, None),
    ("ALERT, adversarial", "known", "strongreject",
     {"id": 1, "category": "c", "attack_type": "prefix_injection", "prompt": ATTACK}, ATTACK, None),
    ("SALAD-Bench, attack enhanced", "used", "strongreject",
     {"aid": 1, "qid": 2, "augq": ATTACK, "baseq": PLAIN, "method": "bard", "1-category": "c"}, ATTACK, PLAIN),
    ("JailBreakV-28k", "used", "strongreject",
     {"id": 1, "jailbreak_query": ATTACK, "redteam_query": PLAIN, "format": "Template", "policy": "p"}, ATTACK, PLAIN),
    ("WildGuardTest", "used", "strongreject",
     {"prompt": ATTACK, "adversarial": True, "prompt_harm_label": "harmful", "response": "r"}, ATTACK, None),
    ("multi-turn, the reference's", "reference", "multi-turn",
     {"objective": PLAIN, "conversation": [{"role": "user", "content": ATTACK}]}, ATTACK, PLAIN),
    ("SafeMTData, one conversation", "known", "multi-turn",
     {"id": "1", "plain_query": PLAIN, "category": "c", "conversation": ["Hello", "Hi", ATTACK]}, ATTACK, PLAIN),
]  # fmt: skip


def write(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "seen", "benchmark", "row", "asked", "told"), LAYOUTS, ids=[x[0] for x in LAYOUTS])
def test_what_is_asked_and_what_the_judge_is_told(
    tmp_path: Path, name: str, seen: str, benchmark: str, row: Row, asked: str, told: str | None
) -> None:
    if name == "OR-Bench":  # "harmful" is one of its ten categories, not a label
        rows = [dict(row, category=word) for word in ("harmful", "privacy", "violence", "deception")]
    else:
        rows = [row]
    items = load_benchmark(benchmark, file=write(tmp_path / "rows.jsonl", *rows))
    assert [item.text for item in items] == [asked] * len(rows)
    assert {item.request for item in items} == {told or asked}
    assert not items.problems
    assert not items.warnings
    read = {column for columns in items.reading.columns.values() for column in columns}
    assert read | set(items.reading.ignored) == set(row), "every column is said to be read or not read"
    assert not read & set(items.reading.ignored)


def test_a_language_of_multijail_is_named(tmp_path: Path) -> None:
    """MultiJail has a column for each language; which one is asked is the user's choice."""
    path = write(tmp_path / "rows.jsonl", {"id": 1, "source": "s", "en": PLAIN, "it": ATTACK, "tags": ["t"]})
    with pytest.raises(UserError, match=r"missing prompt: .*Columns found: id, source, en, it, tags.*--column prompt="):
        load_benchmark("strongreject", file=path)
    (item,) = load_benchmark("strongreject", file=path, columns={"prompt": "it", "objective": "en"})
    assert (item.text, item.request) == (ATTACK, PLAIN)


def test_a_csv_file_without_column_names_is_explained(tmp_path: Path) -> None:
    """HEx-PHI's files begin with the first request, which a CSV reader takes for a column's name."""
    path = tmp_path / "category_1.csv"
    path.write_text(f'"{PLAIN}"\n"{ATTACK}"\n', encoding="utf-8")
    with pytest.raises(UserError, match="Its first line seems to be a row: if the file has no line of column names"):
        load_benchmark("strongreject", file=path)


def test_one_prompt_benchmarks_do_not_take_the_first_of_several_turns(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": ATTACK},
    ]
    path = write(tmp_path / "rows.jsonl", {"conversation": turns}, {"conversation": turns[:2]})
    items = load_benchmark("wildchat-toxic", file=path)
    assert [item.text for item in items] == ["Hello"]
    assert "2 user turns: this benchmark asks one; use the benchmark 'multi-turn'" in items.describe_problems()
