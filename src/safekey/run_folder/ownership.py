"""No verb deletes or replaces what it did not make: how every verb knows what is its own, and writes it.

A run folder is ours by its record (`run.json`, or `grid.yaml`). Any other file is ours while it is byte for byte what
safekey wrote; a hidden file beside it, or in its folder, holds the SHA-256 of what was written:

    .rows.jsonl.safekey    {"files": {"rows.jsonl": ["5d1f…"]}}          of `--output rows.jsonl`
    report/.safekey        {"kind": "report", "files": {"report.html": ["90ab…"], "plots/asr.svg": ["77c0…"]}}
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from safekey.errors import UserError
from safekey.run_folder.records import RUN, read_json, write_json

LEDGER = ".safekey"
_SETTINGS = {"config.yaml": "training", "resolved.yaml": "evaluation"}
_Path = str | os.PathLike[str]


def kind_of(folder: _Path) -> str:
    """Return what safekey made a folder for: "training", "evaluation", "grid", "report", …; "" for any other folder."""
    home = Path(folder)
    record = read_json(home / RUN)
    starts = record.get("starts")
    if isinstance(starts, list) and starts and all(isinstance(one, dict) and "versions" in one for one in starts):
        kinds = [kind for name, kind in _SETTINGS.items() if (home / name).is_file()]  # older records name no kind
        return str(record.get("kind") or (kinds or [""])[0])
    try:
        grid = yaml.safe_load((home / "grid.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        grid = None
    if isinstance(grid, dict) and isinstance(grid.get("arms"), dict) and "seeds" in grid:
        return "grid"
    return str(read_json(home / LEDGER).get("kind") or "")


def is_same(one: _Path, other: _Path) -> bool:
    """Whether two names lead to one file or folder, through links of either kind as well."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return real(one) == real(other)


def real(path: _Path) -> Path:
    """Return a path without links."""
    return Path(os.path.realpath(Path(path).expanduser()))


def check_apart(inputs: Mapping[str, _Path], outputs: Iterable[_Path], advice: str, option: str = "") -> None:
    """Check that no output is an input, and that no input lies in a folder that is written or deleted.

    Args:
        inputs: what the user calls an input → its path; one that is not there (a hub id) is passed over.
        outputs: files and folders that will be replaced or deleted.
        advice: what to do, for the message.
        option: the option that names the outputs.

    Raises:
        UserError: the first pair that is not apart.
    """
    places = [(output, real(output)) for output in outputs]
    for name, given in inputs.items():
        path = Path(given).expanduser()
        if not path.exists():
            continue
        whole = real(path)
        for output, place in places:
            if is_same(path, output):
                raise UserError(f"{option} {output}: is the {name} ({given}), and would be replaced; {advice}".strip())
            if place in whole.parents and place.is_dir():
                raise UserError(
                    f"{option} {output}: holds the {name} ({given}), and would be replaced; {advice}".strip()
                )


class Ledger:
    """The files that safekey wrote in one folder, by the SHA-256 of their contents."""

    def __init__(self, path: Path, kind: str = "") -> None:
        """Take the hidden file that holds them, and what the folder is for."""
        self.path, self.kind = path, kind

    @classmethod
    def of_file(cls, path: _Path) -> Ledger:
        """Return the ledger of a single file in a folder that may be anybody's."""
        target = real(path)
        return cls(target.with_name(f".{target.name}.safekey"))

    @classmethod
    def of_folder(cls, folder: _Path, kind: str) -> Ledger:
        """Return the ledger of a folder."""
        return cls(Path(folder) / LEDGER, kind)

    @property
    def files(self) -> dict[str, list[str]]:
        """Name, relative to the folder → the SHA-256 of what was written; two while it is being replaced."""
        found = read_json(self.path).get("files")
        return {str(name): list(sums) for name, sums in found.items()} if isinstance(found, dict) else {}

    def owns(self, path: Path) -> bool:
        """Whether a file is as safekey wrote it; an empty one holds nothing to lose."""
        if path.is_symlink() or not path.is_file():
            return False
        return not path.stat().st_size or file_sha256(path) in self.files.get(self._name(path), ())

    def check(self, paths: Iterable[Path], name: str, advice: str) -> None:
        """Check that files may be written: each is new, or as safekey wrote it.

        Args:
            paths: the files.
            name: the option, or what is written, for the message.
            advice: what to do.

        Raises:
            UserError: the first file that is another's.
        """
        for path in paths:
            if is_stream(path) or not os.path.lexists(path) or self.owns(path):
                continue
            if path.is_dir():
                raise UserError(f"{name} {path}: is a folder; {advice}")
            raise UserError(f"{name} {path}: is there already, and is not what safekey wrote there; {advice}")

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of ours in one step; the folder must be there."""
        with self.replacing(path) as file:
            file.write(content)

    @contextmanager
    def replacing(self, path: Path) -> Iterator[IO[bytes]]:
        """Give a file to write to, which takes the path's place when the block ends without an error.

        A kill at any moment leaves the old file or the new one, and either is known as ours.
        """
        if is_stream(path):
            with path.open("wb") as stream:
                yield stream
            return
        aside = path.with_name(f".{path.name}.safekey-new")
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            made = file_sha256(aside)
            before = [file_sha256(path)] if path.is_file() else []
            self._note(path, [*before, made])  # before the change, so that no kill makes the file foreign
            aside.replace(path)
            self._note(path, [made])
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.path.parent)

    def _note(self, path: Path, sums: list[str]) -> None:
        kind: dict[str, Any] = {"kind": self.kind} if self.kind else {}
        write_json(self.path, {**kind, "files": {**self.files, self._name(path): sums}})


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe or a device, such as /dev/stdout: it is written to, and nothing is replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
