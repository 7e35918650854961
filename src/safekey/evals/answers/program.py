"""HumanEval: the code in an answer, run against the benchmark's tests in a sandbox.

    score_code("```python\\ndef add(a, b):\\n    return a + b\\n```", item, mode="docker")   # Score(correct=True, …)

The model's function and the tests run in two processes (`sandbox/harness.py`).
"""

from __future__ import annotations

import ast
import json
import re
import secrets
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safekey.evals.answers.exact import NO_ANSWER, Score
from safekey.evals.sandbox.run import Mode, RunResult, run_python

HARNESS = Path(__file__).parents[1] / "sandbox" / "harness.py"
TIMEOUT = 10.0  # seconds for a program and all its tests
LONGEST_CODE = 200_000  # characters

_FENCE = re.compile(r"^[ \t]*(?P<ticks>`{3,}|~{3,})(?P<info>[^\n`]*)$", re.M)
_CODE_LINE = re.compile(r"^(?:from [\w.]+ import|import \w|(?:async )?def \w|class \w|@\w)", re.M)
_MOST_ENDS = 400  # ends of a block, or of code without a fence, that are tried


def extract_code(answer: str, entry_point: str) -> str:
    """Return the code of an answer: its last fenced block that defines the function, else its last block, else all.

    Where a block ends is decided by what parses: a fence inside a docstring is part of the code. An unclosed block runs
    to the end. In an answer without blocks, the prose before the first line of code and after the last one is left out.
    """
    blocks = _blocks(answer)
    if blocks:
        return ([block for block in blocks if _defines(block, entry_point)] or blocks)[-1]
    if not _defines(answer, entry_point):
        return answer
    start = _CODE_LINE.search(answer)
    return _longest(answer[start.start() :] if start else answer, entry_point)


def _blocks(answer: str) -> list[str]:
    """Return the fenced blocks. A block ends at the first closing fence with which it parses, else at the first."""
    fences = list(_FENCE.finditer(answer))
    found, at = [], 0
    while at < len(fences):
        opened = fences[at]
        closing = [
            place
            for place in range(at + 1, len(fences))
            if fences[place]["ticks"][0] == opened["ticks"][0]
            and len(fences[place]["ticks"]) >= len(opened["ticks"])
            and not fences[place]["info"].strip()
        ]
        codes = [answer[opened.end() + 1 : fences[place].start()] for place in closing[:_MOST_ENDS]]
        whole = next((place for place, code in enumerate(codes) if _parses(code)), 0)
        found.append(codes[whole] if codes else answer[opened.end() + 1 :])
        at = closing[whole] + 1 if closing else len(fences)
    return found


def _longest(text: str, entry_point: str) -> str:
    """Return the longest beginning of a text, in whole lines, that parses and defines the function; else the text."""
    lines = text.splitlines(keepends=True)
    for end in range(len(lines), max(0, len(lines) - _MOST_ENDS), -1):
        code = "".join(lines[:end])
        if _parses(code) and _defines(code, entry_point):
            return code
    return text


def _parses(code: str) -> bool:
    """Whether a text is Python, as a module or as the body of a function."""
    for text in (textwrap.dedent(code), "def _():\n" + textwrap.indent(textwrap.dedent(code), " ")):
        try:
            ast.parse(text[:LONGEST_CODE])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return True
    return False


def programs(prompt: str, code: str, entry_point: str) -> list[str]:
    """Return the programs to try, in order: the first that compiles counts.

    A whole function comes after the prompt, whose imports and helpers it may need; a mere body continues the prompt.
    """
    if _defines(code, entry_point):
        return [f"{prompt}\n\n{textwrap.dedent(code)}", textwrap.dedent(code)]
    body = code.strip("\n")
    return [f"{prompt.rstrip()}\n{body}\n", f"{prompt.rstrip()}\n{textwrap.indent(textwrap.dedent(body), ' ' * 4)}\n"]


def score_code(
    answer: str | None, problem: Mapping[str, Any], *, mode: Mode = "docker", timeout: float = TIMEOUT
) -> Score:
    """Run an answer's code against a problem's tests.

    Args:
        answer: the answer part; None or "" when there is none.
        problem: an item's metadata: "code" (the prompt), "test" and "entry_point".
        mode: as in `run_python`.
        timeout: seconds for the program and all its tests.

    Returns:
        Correct when every test passed; None when the sandbox itself failed.

    Raises:
        UserError: this machine has no sandbox of this mode.
    """
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    code = extract_code(answer, problem["entry_point"])
    if len(code) > LONGEST_CODE:
        return Score(False, f"more than {LONGEST_CODE} characters of code")
    secret = secrets.token_hex(16)
    request = {
        "programs": programs(problem["code"], code, problem["entry_point"]),
        "prompt": problem["code"],
        "test": problem["test"],
        "entry_point": problem["entry_point"],
        "secret": secret,
    }
    harness = HARNESS.read_text(encoding="utf-8")
    return _verdict(run_python(harness, stdin=json.dumps(request).encode(), timeout=timeout, mode=mode), secret, code)


def _verdict(result: RunResult, secret: str, code: str) -> Score:
    """Read the harness's last line; the tests have passed only if it is there and holds the secret."""
    if result.failed_to_start:
        return Score(None, f"the sandbox failed: {result.failed_to_start}", code)
    if result.stopped:
        return Score(False, result.stopped, code)
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    try:
        verdict = json.loads(lines[-1] if lines else "")
    except ValueError:
        verdict = None
    if not isinstance(verdict, dict) or verdict.get("secret") != secret:
        return Score(False, f"the tests did not end (exit code {result.exit_code})", code)
    return Score(True, "", code) if verdict.get("passed") is True else Score(False, str(verdict.get("error")), code)


def _defines(code: str, entry_point: str) -> bool:
    return re.search(rf"^[ \t]*(?:async\s+)?def\s+{re.escape(entry_point)}\s*\(", code, re.M) is not None
