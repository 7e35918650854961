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
    return {"equal": bool(library.verify(right, found, strict=True, timeout_seconds=None))}


if __name__ == "__main__":
    main()
