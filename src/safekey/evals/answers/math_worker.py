"""Compare two formulas with math-verify. A script: `mathcheck.py` runs it in a process that it can kill.

One line of JSON in, {"gold": …, "answer": …, "boxed": …}; one line out, {"equal": …} or {"error": …}. Ten characters
(10^10^10) make SymPy work for ever or fill the memory, signals do not reach it inside one long multiplication, and
math-verify's time limits do not work in threads: hence a process with a limit on memory, killed from outside.
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
    os.dup2(2, 1)  # a library that prints must not speak in a reply's place
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = compare(request["gold"], request["answer"], boxed=request["boxed"])
        except BaseException as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def compare(gold: str, answer: str, *, boxed: bool) -> dict[str, object]:
    """Return whether math-verify holds the two for equal; "gold": it cannot read the gold answer."""
    import importlib

    library = importlib.import_module("math_verify")  # it has no types
    # The caller's clock limits us: math-verify's own uses signals, which the caller's kill makes needless.
    right = library.parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not right:
        return {"error": "gold: math-verify cannot read the gold answer"}
    text = f"\\boxed{{{answer}}}" if boxed else answer
    configs = [library.LatexExtractionConfig(), library.ExprExtractionConfig()]
    found = library.parse(text, configs, parsing_timeout=None)
    return {"equal": bool(library.verify(right, found, strict=True, timeout_seconds=None))}


if __name__ == "__main__":
    main()
