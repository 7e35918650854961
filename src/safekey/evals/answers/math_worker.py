"""Compare two formulas with math-verify. A script: `math_check.py` runs it in a process that it can kill.

It reads lines of JSON, {"gold": …, "answer": …}, and answers each with a line, {"equal": …} or {"error": …}. Ten
characters (10^10^10) make SymPy run for ever or fill the memory, no signal interrupts one long multiplication, and
math-verify's time limits do not work in threads: hence a process with a memory limit, killed from outside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from typing import Any

MEMORY = 2 << 30  # bytes of address space


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for a reply
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = compare(request["gold"], request["answer"])
        except BaseException as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def compare(gold: str, answer: str) -> dict[str, object]:
    """Return whether the two are equal by math-verify; an error that begins with "gold:" is about the gold answer."""
    import importlib

    library = importlib.import_module("math_verify")  # it has no types
    # The caller limits the time and kills this process; math-verify's own limit uses signals.
    right = library.parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not right:
        return {"error": "gold: math-verify cannot read the gold answer"}
    configs = [library.LatexExtractionConfig(), library.ExprExtractionConfig()]
    found = library.parse(f"\\boxed{{{answer}}}", configs, parsing_timeout=None)
    if not library.verify(right, found, strict=True, timeout_seconds=None):
        return {"equal": False}
    return {"equal": not far_apart(right[0], found[0]) if found else False}


def far_apart(gold: Any, answer: Any) -> bool:
    """Return whether two numbers differ by more than a millionth of the larger one.

    math-verify rounds to six places, so that 1/2006! and 1/2004! are both 0.
    """
    try:
        first, second = (value.rhs if hasattr(value, "rhs") else value for value in (gold, answer))
        if not (first.is_number and second.is_number) or first == second:
            return False
        first, second = first.evalf(30), second.evalf(30)
        return bool(abs(first - second) > abs(first) * 1e-6 and abs(first - second) > abs(second) * 1e-6)
    except (AttributeError, TypeError, ValueError):
        return False  # sets, tuples, words: math-verify has compared them


if __name__ == "__main__":
    main()
