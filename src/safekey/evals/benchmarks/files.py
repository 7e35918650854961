"""Find a benchmark's file in a folder, and say what else lies there.

benchmarks/strongreject_dataset.csv      by its name
benchmarks/MATH/test.jsonl               a file with a general name, in a folder with the benchmark's
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safekey.data.read import FILE_TYPES
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import plain

DEPTH = 3  # folders below the data folder that are searched
NAMED = 20  # files that a message names
ENDINGS = (*FILE_TYPES, *(f"{kind}.gz" for kind in FILE_TYPES))
GENERAL = (
    "test",
    "eval",
    "data",
    "dataset",
    "default",
    "all",
    "prompts",
    "questions",
    "combine",
    "train",
    "validation",
)
"""Names of files that say nothing about their content, the most likely one first."""
_PART = re.compile(r"(?P<name>[a-z_]*?)[-_.]?(?P<part>\d{4,5})(-of-(?P<parts>\d{4,5}))?")


@dataclass(frozen=True, slots=True)
class Found:
    """The file of a benchmark, and the other files of the folder that fit it, too."""

    path: Path
    others: tuple[Path, ...] = ()


def find_file(benchmark: Benchmark, data_dir: str | os.PathLike[str]) -> Path:
    """Return the file of a data folder that holds a benchmark; see `choose_file`."""
    return choose_file(benchmark, data_dir).path


def choose_file(benchmark: Benchmark, data_dir: str | os.PathLike[str]) -> Found:
    """Choose the file of a data folder that holds a benchmark: by its own name, else by that of its folder.

    Raises:
        UserError: the folder does not exist, or holds no such file, or several that fit equally well.
    """
    folder = Path(data_dir)
    files = data_files(folder)
    fitting: list[Path] = []
    for pattern in benchmark.files:
        found = [path for path in files if _fits(path, folder, pattern)]
        fitting += [path for path in found if path not in fitting]
    general = _general(benchmark, folder, files)
    others = tuple(fitting) or tuple(path for _, path in general)
    for pattern in benchmark.files:
        if found := [path for path in fitting if _fits(path, folder, pattern)]:
            best = _best_of([pair for pair in general if pair[1] in found])
            return _chosen(benchmark, folder, best if len(found) > 1 and best else found, others)
    if best := _best_of(general):
        return _chosen(benchmark, folder, best, others)
    raise UserError(
        f"{folder}: no file for '{benchmark.name}': looked for {', '.join(benchmark.files)} with one of the endings "
        f"{', '.join(FILE_TYPES)} (.gz), and for test, data or the like in a folder called {_spelled(benchmark)}; "
        f"found {listed(files, folder) or 'no data file'}. Name the file with --file {benchmark.name}=PATH"
    )


def data_files(folder: Path) -> list[Path]:
    """Return the data files of a folder, three levels deep.

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS) and len(path.relative_to(folder).parts) <= DEPTH and path.is_file()
    )


def unused_files(data_dir: str | os.PathLike[str], used: Iterable[str]) -> list[Path]:
    """Return the data files of a folder that are none of these."""
    read = {Path(path).resolve() for path in used}
    return [path for path in data_files(Path(data_dir)) if path.resolve() not in read]


def listed(files: Iterable[Path], folder: Path) -> str:
    """Return files as text, relative to their folder; "" for none."""
    names = [path.relative_to(folder).as_posix() for path in files]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _fits(path: Path, folder: Path, pattern: str) -> bool:
    names = (path.name.lower(), path.relative_to(folder).as_posix().lower())
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _general(benchmark: Benchmark, folder: Path, files: list[Path]) -> list[tuple[int, Path]]:
    """Return (place in GENERAL, file) of files with a general name in a folder with the benchmark's."""
    split = benchmark.hub.split if benchmark.hub and benchmark.hub.split not in (None, "train") else None
    order = list(dict.fromkeys([split, *GENERAL] if split else GENERAL))
    found = []
    for path in files:
        above = (folder.resolve().name, *path.relative_to(folder).parts[:-1])
        name = _stem(path)
        part = _PART.fullmatch(name)
        word = part["name"] if part else name
        if any(plain(each) in benchmark.folders for each in above) and (word in order or (part and not word)):
            found.append((order.index(word) if word in order else len(order), path))
    return sorted(found)


def _best_of(general: list[tuple[int, Path]]) -> list[Path]:
    return [path for place, path in general if place == general[0][0]]


def _chosen(benchmark: Benchmark, folder: Path, found: list[Path], others: Iterable[Path]) -> Found:
    part = _PART.fullmatch(_stem(found[0]))
    if part and int(part["parts"] or 1) > 1:
        raise UserError(
            f"{folder}: '{benchmark.name}' lies in {int(part['parts'])} parts ({listed(found, folder)}), of which one "
            f"would be read: put them into one file, and name it with --file {benchmark.name}=PATH"
        )
    if len(found) > 1:
        raise UserError(
            f"{folder}: several files fit '{benchmark.name}': {listed(found, folder)}; name one with "
            f"--file {benchmark.name}=PATH"
        )
    return Found(found[0], tuple(path for path in others if path != found[0]))


def _stem(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[0]


def _spelled(benchmark: Benchmark) -> str:
    return " or ".join(benchmark.folders)
