"""One file of a user's own choice (`--output FILE`), by the rules of ownership; written at the end"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.run_folder.ownership import Ledger, check_apart

_ADVICE = "give another --output, or move it away"


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, or nowhere."""

    path: Path | None

    @classmethod
    def at(cls, path: str | None, inputs: Mapping[str, str]) -> Output:
        """Check that the file may be written, before any work.

        Raises:
            UserError: it is an input, another's, or in a folder that is not there.
        """
        if path is None:
            return cls(None)
        target = Path(path).expanduser()
        check_apart(inputs, [target], "give another --output", "--output")
        if not target.parent.is_dir():
            raise UserError(f"--output {path}: there is no folder {target.parent}")
        Ledger.of_file(target).check([target], "--output", _ADVICE)
        return cls(target)

    def write_json(self, value: Mapping[str, Any]) -> None:
        """Write one JSON document."""
        self._write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write JSONL."""
        self._write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def _write(self, text: str) -> None:
        if self.path is None:
            return
        try:
            Ledger.of_file(self.path).write(self.path, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise UserError(f"--output {self.path}: cannot be written: {error.strerror}") from error
