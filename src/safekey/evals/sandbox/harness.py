"""Test an untrusted function. A script that `run_python` runs in the sandbox; it is never imported.

There are two processes. This one holds the tests and the verdict; the other holds the function and runs one call after
another, sent over a pipe. Only plain data crosses (numbers, texts, lists …), so the verdict is safe from a function
that ends its process, replaces `print`, patches the interpreter, or returns objects that equal everything. The verdict
carries a secret that the other process never sees, and that process cannot trace or read this one.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import subprocess
import sys
import types
from typing import Any

LONGEST_REPLY = 10_000_000  # bytes
PR_SET_DUMPABLE = 4
Json = Any


def encode(value: Any) -> Json:
    """Write plain data as JSON that keeps Python's types; a subclass is sent as its base type."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return ["int", int.__repr__(value)]
    if isinstance(value, float):
        return ["float", float.__repr__(value)]
    if isinstance(value, complex):
        return ["complex", float.__repr__(value.real), float.__repr__(value.imag)]
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            return [kind.__name__, [encode(part) for part in kind.__iter__(value)]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(part)] for key, part in dict.items(value)]]
    raise TypeError(f"a value of type {type(value).__name__} cannot be compared")


def decode(data: Json) -> Any:
    """Read what `encode` wrote. Raises ValueError, TypeError or IndexError for anything else."""
    if data is None or data is True or data is False:
        return data
    kind = data[0]
    if kind in ("int", "float"):
        return int(data[1]) if kind == "int" else float(data[1])
    if kind == "complex":
        return complex(float(data[1]), float(data[2]))
    if kind == "str" and isinstance(data[1], str):
        return data[1]
    if kind == "bytes":
        return bytes.fromhex(data[1])
    if kind == "dict":
        return {decode(key): decode(part) for key, part in data[1]}
    kinds: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](decode(part) for part in data[1])


class Candidate:
    """The function in the other process, called like a local one."""

    def __init__(self, programs: list[str], entry_point: str) -> None:
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", "-X", "utf8", __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
        )
        self._exchange({"programs": programs, "entry_point": entry_point})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; Python's own exceptions are raised here as well."""
        return self._exchange({"args": encode(args), "kwargs": encode(kwargs)})

    def _exchange(self, message: Json) -> Any:
        pipe_in, pipe_out = self.process.stdin, self.process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        try:
            pipe_in.write(json.dumps(message).encode() + b"\n")
            pipe_in.flush()
            line = pipe_out.readline(LONGEST_REPLY)
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise SystemError("the program ended before its tests did" if not line else "a reply of more than 10 MB")
        reply = json.loads(line)
        if "error" in reply:
            kind = getattr(builtins, str(reply["error"]), None)
            if not isinstance(kind, type) or not issubclass(kind, Exception):
                kind = RuntimeError
            raise kind(str(reply.get("text", ""))[:500])
        return decode(reply["value"])


def serve() -> None:
    """Load the function and answer calls; the other process trusts nothing that comes from here."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    function: Any = None
    for line in calls:
        message = json.loads(line)
        try:
            if function is None:
                function, value = _load(message["programs"], message["entry_point"]), None
            else:
                value = function(*decode(message["args"]), **decode(message["kwargs"]))
            reply = {"value": encode(value)}
        except BaseException as error:  # SystemExit as well: sys.exit() in a function is a failure like another
            reply = {"error": type(error).__name__, "text": str(error)[:500]}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def _load(programs: list[str], entry_point: str) -> Any:
    """Run the first program that compiles, and return its function."""
    first: SyntaxError | None = None
    for program in programs:
        try:
            code = compile(program, "candidate.py", "exec")
        except (SyntaxError, ValueError) as error:
            first = first or SyntaxError(str(error))
            continue
        module = types.ModuleType("candidate")
        sys.modules["candidate"] = module
        exec(code, module.__dict__)  # noqa: S102 - this process is there for it
        return module.__dict__[entry_point]
    raise first or SyntaxError("no program")


def main() -> None:
    """Run the tests of the request on stdin, and write the verdict as the last line of stdout."""
    request = json.loads(sys.stdin.buffer.read())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no tracing, no reading of this process's memory
    verdict = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    passed, error = False, ""
    try:
        candidate = Candidate(request["programs"], request["entry_point"])
        names: dict[str, Any] = {"__name__": "tests"}
        exec(compile(request["prompt"], "prompt.py", "exec"), names)  # noqa: S102 - the benchmark's own text
        names[request["entry_point"]] = candidate
        exec(compile(request["test"], "test.py", "exec"), names)  # noqa: S102
        names["check"](candidate)
        passed = True
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"[:500]
    verdict.write("\n" + json.dumps({"secret": request["secret"], "passed": passed, "error": error}) + "\n")
    verdict.flush()
    os._exit(0)  # the other process ends with the cell


if __name__ == "__main__":
    sys.set_int_max_str_digits(0)
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
