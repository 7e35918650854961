"""Answers as models write them: markup around keyword and letter, mentions, formulas, code with prose around it.

All replies are our own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from safekey.evals.answers.exact import final_formula, score_choice, score_integer, score_item, score_math
from safekey.evals.answers.letters import stated_letter
from safekey.evals.answers.program import extract_code


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("**Answer**: B", "B"),
        ("Answer: **C**", "C"),
        ("Answer: $\\text{D}$", "D"),
        ("Answer: \\(C\\)", "C"),
        ("\\[ \\boxed{\\text{B}} \\]", "B"),
        ("answer: c", "C"),
        ("Answer: C 4.5 m/s", "C"),
        ("Answer: A 4.5 m/s", "A"),
        ("Answer: C\n\nStudents often think the answer is B.", "C"),
        ("The answer is (B).", "B"),
        ("A or C", None),
        ("Answer: A or C", None),
        ("Answer: A and C", None),
        ("Answer: A, C", None),
        ("Answer: A/C", None),
        ("So the answer is B, since A and C fail.", "B"),
        ("The correct answer is option D.", "D"),
        ("### Final Answer\n\nB", "B"),
        ("**Answer:**\n\n(C) The river", "C"),
        ("Final answer: `D`", "D"),
        ("Some would say the answer is A, but it is not.\nAnswer: D", "D"),
        ("Is the answer A?\nNo. Therefore, the answer is C.", "C"),
        ("If the answer were A, x would be 3. The answer is B.", "B"),
        ("Answer: A\n\nWait, I made an error. Answer: C", "C"),
        ("Answer: B\n\nIt might seem that the answer is C.", "B"),
        ("答案：C", "C"),
        ("因此答案是 (B)。", "B"),
        ("Die Antwort: D", "D"),
        ("Réponse : A", "A"),
        ("Answer: a big dog", None),
        ("(D)", "D"),
        ("Therefore D.", "D"),
        ("B) 4.5 m/s", "B"),
        ("Long text.\nB", "B"),
        ("I think the answer is C.", "C"),
        ("We conclude that the answer is A.", "A"),
        ("The answer is not B.", None),
        ("The answer is C, not B", "C"),
        ("Option C is correct.", "C"),
        ("**Option (B)** is the correct answer.", "B"),
        ("Many students think that option A is correct.\n\n**Answer: D**", "D"),
        ("The answer is: **A**.", "A"),
        ("Answer: [B]", "B"),
        ("Answer:B", "B"),
        ("answer is b.", "B"),
        ("The best choice is D: none of the above", "D"),
        ("Answer: C (4.5 m/s)", "C"),
        ("Answer: (A) or (B)", None),
        ("Answer: both A and B", None),
        ("Answer: Z", None),
        ("Answer: I don't know", None),
        ("Answer: Because of that", None),
        ("\\boxed{C}\n\nA common mistake is to say the answer is A.", "C"),
        ("Answer: C, because A is wrong", "C"),
        ("Answer = D", "D"),
        ("So, the answer must be A", "A"),
        ("The answer is $\\boxed{D}$.", "D"),
        ("Answer: C\nAnswer: C", "C"),
        ("- Answer: B", "B"),
        ("> **Answer:** B", "B"),
        ("Answer: the letter C", "C"),
        ("The final answer is <b>B</b>", "B"),
        ("Hence, the correct choice is (d).", "D"),
        ("Answer: A: a big dog", "A"),
        ("Answer: A big dog", None),
        ("A", "A"),
        ("The answer is A car", None),
        ("The answer should be C, although many say the answer is D.", "C"),
        ("Answer: B is the only one that fits", "B"),
    ],
)
def test_letters_in_many_styles(reply: str, letter: str | None) -> None:
    assert stated_letter(reply, "ABCD") == letter


def test_an_option_s_text_tells_a_letter_from_an_article() -> None:
    metadata = {"letters": "ABC", "options": ["a big dog", "4.5 m/s", "The river"]}
    assert score_item("choice", "Answer: A big dog", "A", metadata).correct
    assert score_item("choice", "answer: c the river", "C", metadata).correct
    assert score_item("choice", "Answer: B 4.5 m/s", "B", metadata).correct
    assert not score_item("choice", "Answer: A small dog", "A", metadata).correct
    assert score_choice("**Answer**: B", "B", "ABC").correct


@pytest.mark.parametrize(
    ("reply", "gold", "correct"),
    [
        ("**Answer**: 73", "73", True),
        ("Answer: 204, found in 3 steps", "204", True),
        ("Answer: 73 (since 70 + 3 = 73)", "73", True),
        ("Answer: $73$\n\nStudents often think the answer is $72$.", "73", True),
        ("Answer: $73$\n\nStudents often think the answer is $72$.", "72", False),
        ("**Final Answer:**\n\n$073$", "73", True),
        ("So $m + n = 34$, since $m=3$.\n\nThe answer is $m+n = 34$, since $m=3$ and $n=31$.", "34", True),
        ("Answer: 5 or 6", "5", False),
        ("Answer: 5 or 6", "6", False),
        ("### Answer\n\n\\(204\\)", "204", True),
        ("答案：42", "42", True),
        ("The answer is **73**.", "73", True),
        ("If the answer were 12, x would be 3. The answer is 15.", "15", True),
    ],
)
def test_integers_in_many_styles(reply: str, gold: str, correct: bool) -> None:
    assert score_integer(reply, gold).correct is correct


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Answer: \\frac{1}{2}", r"\frac{1}{2}"),
        ("The answer is $3$ or $4$", "3, 4"),
        ("the answer is 3 + 4 = 7.", "7"),
        ("Answer: 12 apples and 3 pears", "12"),
        ("Final answer: \\(x = 5\\)", "x = 5"),
    ],
)
def test_where_a_stated_formula_is(reply: str, found: str) -> None:
    assert final_formula(reply) == found


@pytest.mark.parametrize(
    ("reply", "gold", "correct"),
    [
        ("\\boxed{\\frac{1}{2006!}}", "\\frac{1}{2004!}", False),
        ("\\boxed{\\frac{1}{2004!}}", "\\frac{1}{2004!}", True),
        ("\\boxed{\\le 33}", "33", False),
        ("\\boxed{x \\le 33}", "33", False),
        ("\\boxed{\\{1,2\\}}", "(1,2)", False),
        ("\\boxed{(1,2)}", "\\{1,2\\}", False),
        ("\\boxed{1,3,5,\\ldots}", "1,3,5", False),
        ("\\boxed{1,3,5}", "1,3,5,\\dots", False),
        ("\\boxed{\\pm 5}", "5", False),
        ("\\boxed{5!}", "5", False),
        ("\\boxed{10^{-10}}", "0", False),
        ("\\boxed{-10^{-9}}", "10^{-9}", False),
        ("\\boxed{x=5}", "5", True),
        ("\\boxed{5 \\text{ km}}", "5\\text{ m}", False),
        ("\\boxed{5 \\text{ meters}}", "5\\text{ m}", True),
        ("\\boxed{\\text{odd}}", "\\text{even}", False),
        ("\\boxed{\\text{ab}}", "\\text{ba}", False),
        ("\\boxed{\\text{Even}}", "\\text{even}", True),
        ("\\boxed{even}", "\\text{even}", True),
        ("\\boxed{x < 5}", "x<5", True),
        ("\\boxed{x>5}", "x<5", False),
        ("\\boxed{\\{2,1\\}}", "\\{1,2\\}", True),
        ("\\boxed{1,2}", "\\{1,2\\}", True),
        ("\\boxed{(-\\infty,1)\\cup(2,\\infty)}", "(-\\infty,1)\\cup(2,\\infty)", True),
        ("\\boxed{(-\\infty,1)\\cap(2,\\infty)}", "(-\\infty,1)\\cup(2,\\infty)", False),
        ("\\boxed{0.333}", "\\frac13", False),
        ("\\boxed{3.0000001}", "3", False),
        ("\\boxed{2\\cdot 10^{-7}}", "2\\times 10^{-7}", True),
        ("\\boxed{x \\neq 3}", "3", False),
        ("\\boxed{[1,2]}", "\\{1,2\\}", False),
        ("\\boxed{x \\in [1,2]}", "[1,2]", True),
        ("\\boxed{\\frac{\\pi}{4}}", "\\frac{\\pi}{4}", True),
        ("\\boxed{\\text{(C)}}", "\\text{(C)}", True),
        ("\\boxed{C}", "\\text{(C)}", True),
        ("\\boxed{2n!}", "2n!", True),
        ("\\boxed{p - q}", "p-q", True),
        ("\\boxed{\\text{June 20}}", "\\text{June 20}", True),
        ("\\boxed{1 \\pm \\sqrt{19}}", "1 \\pm \\sqrt{19}", True),
        ("\\boxed{1+\\sqrt{19}, 1-\\sqrt{19}}", "1 \\pm \\sqrt{19}", True),
    ],
)
def test_formulas_that_a_parser_confuses(reply: str, gold: str, correct: bool) -> None:
    assert score_math(reply, gold).correct is correct


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("def f(x):\n    return x\n\nThis function returns x, as asked.\n", "def f(x):\n    return x\n\n"),
        ("Here it is:\n\ndef f(x):\n    return x\n\nNote: it's fast.", "def f(x):\n    return x\n\n"),
        (
            '```python\ndef f(x):\n    """Doc.\n\n    ```\n    f(1)\n    ```\n    """\n    return x\n```\nDone.',
            'def f(x):\n    """Doc.\n\n    ```\n    f(1)\n    ```\n    """\n    return x\n',
        ),
        ("```python\ndef f(x):\n    return x\n```\nUsage:\n```python\nprint(f(1))\n```", "def f(x):\n    return x\n"),
        ("~~~py\ndef f(x):\n    return x\n~~~\n", "def f(x):\n    return x\n"),
        ('````python\ndef f(x):\n    """```"""\n    return x\n````', 'def f(x):\n    """```"""\n    return x\n'),
        ("```python\ndef f(x):\n    return x", "def f(x):\n    return x"),
        ("```\n    return x\n```", "    return x\n"),
        ("def f(x):\n    return x\n\nf(2) gives 2. That's all", "def f(x):\n    return x\n\n"),
    ],
)
def test_code_ends_where_it_parses(reply: str, code: str) -> None:
    assert extract_code(reply, "f") == code


@pytest.mark.parametrize(
    "reply",
    [
        *("Another option is B.", "The second option is A.", "The least likely option is B.", "The worst choice is A."),
        *("Let me check whether it is B.", "Suppose it is A.", "Some think it is B.", "Only A and B are metals."),
        *("The wrong one is B.", "It matches option A in mass but not in charge.", "What if it is C?"),
        *(
            "I would not choose A.",
            "We take A as the origin.",
            "If the mass doubled, it would be B.",
            "So A, B and C fail.",
        ),
        *("A is wrong because the mass doubles.", "The answer is B if the gas is ideal, else C."),
    ],
)
def test_sentences_that_name_a_letter_and_give_none(reply: str) -> None:
    assert stated_letter(f"{reply}\nLet us see.", "ABCD") is None


REPLIES = Path(__file__).parent / "replies"
KNOWN = {
    "letters-197": "a transcript 'Q: … A: B': the A could be the letter",
    "letters-276": "'Statement B holds': others may hold, too",
    "letters-279": "'Everything but A can be ruled out'",
    "formulas-179": "an unfinished reply whose last formula is right counts as it does for lm-eval",
    "formulas-186": "numbers in words are not read",
    "formulas-203": "numbers in words are not read",
    "formulas-246": "words for the empty set are not read",
    "formulas-253": "math-verify does not evaluate powers of e",
    "formulas-288": "numbers in words are not read",
    "formulas-295": "an unfinished reply whose last number is right",
}
"""Replies that we score otherwise than a reader would; docs/benchmarks.md names the kinds."""


def saved(name: str) -> list[Any]:
    lines = (REPLIES / name).read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("row", saved("letters.jsonl"))
def test_the_letter_of_a_saved_reply(row: dict[str, Any]) -> None:
    metadata = {"letters": row["letters"], "options": row.get("options", ())}
    score = score_item("choice", row["reply"], "", metadata)
    assert ((score.extracted or None) == row["states"]) is (row["id"] not in KNOWN)


@pytest.mark.parametrize("row", saved("formulas.jsonl"))
def test_the_formula_of_a_saved_reply(row: dict[str, Any]) -> None:
    score = score_item(row["kind"], row["reply"], row["gold"], {})
    assert ((score.correct is True) == row["right"]) is (row["id"] not in KNOWN)


@pytest.mark.parametrize("text", ["the answer is " * 2000, "so " * 20_000, "answer i " * 5_000, "$x=1$ and " * 3_000])
def test_long_lines_are_read_in_time(text: str) -> None:
    begun = time.monotonic()
    stated_letter(text, "ABCD")
    final_formula(text)
    assert time.monotonic() - begun < 20
