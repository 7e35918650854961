"""Run `safekey WORDS` and write which files of the package executed a function.

    python tests/executed.py OUT.json eval base --tasks strongreject --limit 1 ...

Bodies of modules and classes do not count, nor does `cli/`. Processes that the command starts are not seen.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = f"{Path(__file__).resolve().parents[1] / 'src' / 'safekey'}/"
_COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}  # a module's body runs some of its own
found: set[str] = set()


def watch(frame: FrameType, event: str, _: Any) -> None:
    code = frame.f_code
    ours = event == "call" and code.co_filename.startswith(ROOT)
    if ours and code.co_flags & inspect.CO_OPTIMIZED and code.co_name not in _COMPREHENSIONS:
        found.add(code.co_filename)


if __name__ == "__main__":
    from safekey.cli.app import main

    threading.setprofile(watch)
    sys.setprofile(watch)
    code = main(sys.argv[2:])
    sys.setprofile(None)
    names = sorted(name.removeprefix(ROOT) for name in found)
    Path(sys.argv[1]).write_text(json.dumps([name for name in names if not name.startswith("cli/")]))
    sys.exit(code)
