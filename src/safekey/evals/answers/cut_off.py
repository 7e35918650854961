"""Whether an answer that was cut off by the token limit has stated its result already.

    states_answer("code", "```python\ndef add(a, b):\n    return a + b\n```\nThis works bec")  -> True
    states_answer("math", "So the area is \\boxed{14}. We can also ch")                      -> True
    states_answer("math", "So the area is \\boxed{1")                                       -> False

Independent scorers read the result of such an output as that of any other: what follows a closed block or box is talk.
Without one it is not known whether the answer was finished ("the answer is 1" may have become "the answer is 14").
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"(?P<indent> {0,3})(?P<ticks>`{3,}|~{3,})(?P<info>[^\n]*)")
_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)


def states_answer(kind: str, answer: str | None) -> bool:
    """Return whether an answer states its result, whole, wherever it was cut off.

    Args:
        kind: the benchmark's scoring: "math", "integer", "choice" (a closed box) or "code" (a closed block of code).
        answer: the answer part; None or "" where there is none.
    """
    if not answer:
        return False
    return _closed_block(answer) if kind == "code" else _closed_box(answer)


def _closed_block(answer: str) -> bool:
    """Whether a fenced block with something in it is closed, by a line of at least as many of its signs alone."""
    fence, content = "", False
    for line in answer.splitlines():
        found = _FENCE.fullmatch(line.rstrip())
        if not fence:
            if found and not (found["ticks"][0] == "`" and "`" in found["info"]):
                fence, content = found["ticks"], False
        elif found and found["ticks"].startswith(fence) and not found["info"].strip():
            if content:
                return True
            fence = ""
        else:
            content = content or bool(line.strip())
    return False


def _closed_box(answer: str) -> bool:
    """Whether a box with something in it is closed; one pass, however many boxes are open."""
    begun: list[int] = []  # where the content of each open box begins; -1 for other braces
    for brace in _BRACE.finditer(answer):
        if brace["box"]:
            begun.append(brace.end())
        elif brace[0] == "{":
            begun.append(-1)
        elif brace[0] == "}" and begun:
            start = begun.pop()
            if start >= 0 and answer[start : brace.start()].strip():
                return True
    return False
