from __future__ import annotations

import json
import threading
import time

import pytest
from corrupt import corruptions

from safekey.evals.answers.exact import (
    NO_ANSWER,
    NOT_FOUND,
    WRONG,
    Score,
    final_formula,
    last_boxed,
    score_choice,
    score_integer,
    score_item,
    score_math,
)
from safekey.evals.answers.letters import stated_letter
from safekey.evals.answers.math_check import BROKEN, TOO_LONG, MathChecker
from safekey.evals.answers.program import extract_code, programs
from safekey.evals.benchmarks.load import load_benchmark
from toys import SHARED

needs_math500 = pytest.mark.skipif(not (SHARED / "math500.jsonl").is_file(), reason=f"no math500.jsonl in {SHARED}")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"first \boxed{3}, no: \boxed{4}", "4"),
        (r"$\boxed{1}$ and $\boxed{-2}$", "1, -2"),
        (r"\boxed{1}, \boxed{2}, or \boxed{3}", "1, 2, 3"),
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"\boxed{\boxed{7}}", r"\boxed{7}"),
        (r"\boxed{5} and then \boxed{6", "5"),
        (r"\fbox{8}", "8"),
        ("Of 12 plums 3 are left. The answer is $9$.", "9"),
        ("The final answer is: 1,024.", "1,024"),
        ("We get $x = 3$ and so $y = 4$.", "y = 4"),
        ("That makes -17 in all", "-17"),
        ("No number here", None),
        (r"\boxed{}", None),
    ],
)
def test_where_the_final_answer_is_found(answer: str, found: str | None) -> None:
    assert final_formula(answer) == found


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        (r"\boxed{\frac{14}{3}}", r"\dfrac{14}{3}", True),
        (r"\boxed{0.5}", r"\frac{1}{2}", True),
        (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", True),
        (r"\boxed{(3, 4]}", r"\left(3,4\right]", True),
        (r"\boxed{(3, 4)}", "(3,4]", False),
        (r"\boxed{-2, 1}", "1,-2", True),
        (r"\boxed{x = 5}", "5", True),
        (r"\boxed{y = 5}", "x=5", False),
        (r"\boxed{52_9}", "52_8", False),
        (r"\boxed{15 \text{ cm}^3}", r"15\mbox{ cm}^2", False),
        (r"\boxed{.0000673}", ".0000672", False),
        (r"\boxed{0.50}", "0.5", True),
        (r"\boxed{\text{Navin}}", r"\text{Evelyn}", False),
        (r"\boxed{90^\circ}", "90", True),
        ("The answer is 42", "42", True),
        ("The answer is 43", "42", False),
    ],
)
def test_formulas(answer: str, gold: str, correct: bool) -> None:
    score = score_math(answer, gold)
    assert score.correct is correct
    assert score.reason == ("" if correct else WRONG)


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_no_answer_is_incorrect_for_a_reason_of_its_own(answer: str | None) -> None:
    assert score_math(answer, "1") == score_integer(answer, "1") == Score(False, NO_ANSWER)
    assert score_choice(answer, "A", "ABCD") == Score(False, NO_ANSWER)
    assert score_math("I do not know", "1") == Score(False, NOT_FOUND)


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        (r"\boxed{073}", "73", True),
        (r"\boxed{73}", "073", True),
        (r"\boxed{000}", "0", True),
        (r"\boxed{\text{73}.}", "73", True),
        (r"$\boxed{73}$ and so on", "73", True),
        (r"\boxed{730}", "73", False),
        (r"\boxed{73.5}", "73", False),
        (r"\boxed{-73}", "73", False),
        (r"\boxed{73 or 74}", "73", False),
        (r"\boxed{73, 74}", "73", False),
        (r"\boxed{m+n = 73}", "73", True),
        (r"\boxed{70 + 3}", "73", True),
        ("The answer is 73.", "73", True),
    ],
)
def test_integers(answer: str, gold: str, correct: bool) -> None:
    assert score_integer(answer, gold).correct is correct


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("Because of this …\n\nAnswer: C", "C"),
        ("The answer is (B).", "B"),
        ("**Answer: D**", "D"),
        (r"So \boxed{A}", "A"),
        (r"So \boxed{\text{A}}", "A"),
        (r"\boxed{A} is what I thought. Final answer: B", "B"),
        (r"Answer: A. But no: \boxed{B}", "B"),
        ("Answer: A\nWait.\nAnswer: B", "B"),
        ("Some words\n\nC", "C"),
        ("Some words\n\n(C)", "C"),
        ("C) the third plum", "C"),
        ("The correct answer is C: the third plum", "C"),
        ("The answer is option C", "C"),
        ("The answer is C because plums are blue", "C"),
        ("Answer: A or B", None),
        ("Answer: A and C", None),
        ("Answer: A, B", None),
        ("Answer: (A) or (B)", None),
        ("A plum is a fruit", None),
        ("Answer: E", None),
        ("The answer is a plum", None),
        ("Answer: Because", None),
        ("A good question, but no letter", None),
        ("I'd say it is between A and B", None),
        ("Answer: none of them", None),
        ("", None),
    ],
)
def test_letters(answer: str, letter: str | None) -> None:
    assert stated_letter(answer, "ABCD") == letter


def test_letters_are_scored_and_only_those_on_offer() -> None:
    assert score_choice("Answer: J", "J", "ABCDEFGHIJ").correct
    assert score_choice("Answer: J", "J", "ABCD") == Score(False, NOT_FOUND)
    assert score_choice("Answer: A", "B", "ABCD") == Score(False, WRONG, "A")
    assert score_item("choice", "Answer: A", "A", {"letters": "ABCD"}).correct
    with pytest.raises(ValueError, match="no exact scoring"):
        score_item("harm", "x", "", {})


@pytest.mark.parametrize(
    "hostile",
    ["10^{10^{10}}", r"9999999999^{9999999999}", r"\sum_{i=1}^{10^{12}} i^{i}", "(" * 500 + "1", "100000000!"],
)
def test_hostile_formulas_cost_a_limited_time_and_nothing_else(hostile: str) -> None:
    checker = MathChecker(timeout=1.0)
    try:
        assert score_math("\\boxed{1+1}", "2", checker).correct
        start = time.monotonic()
        score = score_math(f"\\boxed{{{hostile}}}", "5", checker)
        assert time.monotonic() - start < 60
        assert score.correct is False
        assert score.reason in (TOO_LONG, BROKEN, WRONG) or "Error" in score.reason
        assert score_math("\\boxed{1+1}", "2", checker).correct, "the next one is compared again"
    finally:
        checker.close()


def test_very_long_and_unreadable_answers() -> None:
    assert score_math("\\boxed{" + "1+" * 3000 + "1}", "5").reason.startswith("an answer of more than")
    assert score_math("\\boxed{" * 50_000, "5") == Score(False, NOT_FOUND)
    assert score_math("\x00\ud800 \\boxed{\x00}", "5").correct is False
    assert score_math("$" * 100_000, "5") == Score(False, NOT_FOUND)
    assert last_boxed("{" * 1000) is None


def test_scores_from_many_threads() -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        if not score_math(f"\\boxed{{{number} + 1}}", str(number + 1)).correct:
            wrong.append(f"{number} + 1")
        if score_math(f"\\boxed{{{number} + 2}}", str(number + 1)).correct:
            wrong.append(f"{number} + 2")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_math500
def test_math500_reference_solutions_are_all_correct() -> None:
    with (SHARED / "math500.jsonl").open(encoding="utf-8") as file:
        solutions = [json.loads(line)["solution"] for line in file]
    items = load_benchmark("math500", SHARED)
    wrong = [item.id for item, text in zip(items, solutions, strict=True) if not score_math(text, item.target).correct]
    assert wrong == []


@needs_math500
@pytest.mark.slow
def test_math500_corrupted_answers_are_all_wrong() -> None:
    tried = 0
    for item in load_benchmark("math500", SHARED):
        for kind, corrupted in corruptions(item.target):
            tried += 1
            score = score_math(f"Therefore it is $\\boxed{{{corrupted}}}$.", item.target)
            assert score.correct is False, f"{kind}: {corrupted} for {item.target}"
    assert tried > 1500


@needs_math500
def test_math500_one_corruption_of_each_is_wrong() -> None:
    items = load_benchmark("math500", SHARED)
    for place, item in enumerate(items):
        if found := list(corruptions(item.target)):
            _, corrupted = found[place % len(found)]
            score = score_math(f"Therefore it is $\\boxed{{{corrupted}}}$.", item.target)
            assert score.correct is False, f"{corrupted} for {item.target}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x\n"),
        (
            "First\n```\nprint(1)\n```\nthen\n```python\ndef f(x):\n    return 2\n```\nand\n```\nf(1)\n```",
            "def f(x):\n    return 2\n",
        ),
        ("```python\ndef f(x):\n    return 3", "def f(x):\n    return 3"),
        ("    return x\n", "    return x\n"),
        ("Here it is:\nimport math\ndef f(x):\n    return 4", "import math\ndef f(x):\n    return 4"),
        ("```python\n    return 5\n```", "    return 5\n"),
        ("~~~python\ndef f(x):\n    return '```'\n~~~", "def f(x):\n    return '```'\n"),
    ],
)
def test_code_is_found_in_answers(answer: str, code: str) -> None:
    assert extract_code(answer, "f") == code


def test_programs_hold_the_prompt_and_take_a_body_or_a_function() -> None:
    prompt = 'import math\n\n\ndef f(x):\n    """Doc."""\n'
    for code in ("def f(x):\n    return math.pi * x", "    return math.pi * x", "return math.pi * x"):
        names: dict[str, object] = {}
        for program in programs(prompt, code, "f"):
            try:
                exec(program, names)
                break
            except SyntaxError:
                continue
        assert names["f"](1) == pytest.approx(3.14159, abs=1e-4)  # type: ignore[operator]
