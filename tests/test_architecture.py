"""The order of the rooms, and no circle between files, read off the imports."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "safekey"
# A room may import the rooms to its right, never one to its left or beside it.
ORDER: tuple[str | tuple[str, ...], ...] = (
    *("cli", "organism", "grid", "sharing", "report", "analysis", "tamper", "monitor", "making"),
    *("comparison", "evals", "training"),
    *("engines", "data", ("text", "stats", "run_folder")),
    ("schema", "errors", "terminal", "hub", "options", "retry"),
)
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in ([rooms] if isinstance(rooms, str) else rooms)}
STRANGERS = (
    {"evals", "training"},
    {"making", "monitor"},
    {"text", "stats"},
    {"text", "run_folder"},
    {"stats", "run_folder"},
)


def modules() -> dict[str, Path]:
    """Every module, without the leading "safekey."."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The modules of safekey that a file imports: at the top, inside functions, under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "safekey":
            module = node.module.removeprefix("safekey").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                found.add(inner if inner in MODULES else module)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "safekey"]
            found |= {name.removeprefix("safekey").removeprefix(".") for name in names}
    return found & MODULES.keys()


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def test_every_room_has_its_place() -> None:
    rooms = {name.split(".")[0] for name in MODULES} - {"", "recipes"}
    assert rooms <= FLOOR.keys(), f"give {rooms - FLOOR.keys()} a place in ORDER"


def test_no_circle_between_files() -> None:
    """No file imports, directly or through others, a file that imports it; late and type-only imports count.

    There is no exception for packages: `__init__` of a package that offers names counts as a file that imports their
    homes. So a module imports its neighbours by their own names, never through a package that offers it, and nothing
    below imports `safekey` itself (its version is `importlib.metadata.version("safekey")`).
    """
    try:
        graphlib.TopologicalSorter(IMPORTS).prepare()
    except graphlib.CycleError as error:
        circle = " is imported by ".join(name or "safekey" for name in error.args[1])
        pytest.fail(f"a circle of imports: {circle}")


def test_imports_run_downwards() -> None:
    wrong = []
    for name, seen in IMPORTS.items():
        room = name.split(".")[0]
        for other in sorted(seen - {""}):
            below = other.split(".")[0]
            if not name or room == below:
                continue
            if FLOOR[below] < FLOOR[room] or {room, below} in STRANGERS:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "statement", ["import safekey", "import safekey.cli.app", "from safekey import Example, Spans"]
)
def test_importing_loads_no_torch(statement: str) -> None:
    code = f"{statement}; import sys; assert not {{'torch', 'transformers'}} & set(sys.modules), 'heavy import'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist_whatever_is_imported_first() -> None:
    """A submodule must never shadow a public function of its package."""
    code = (
        "import pkgutil, importlib, safekey.training as t, safekey.data as d, types\n"
        "for p in (t, d):\n"
        "    for m in pkgutil.iter_modules(p.__path__): importlib.import_module(f'{p.__name__}.{m.name}')\n"
        "    for n in p.__all__: assert not isinstance(getattr(p, n), types.ModuleType), n\n"
        "import safekey\n"
        "for n in safekey.__all__: assert not isinstance(getattr(safekey, n), types.ModuleType), n\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_map_names_every_module_once() -> None:
    named = re.findall(r"^- `([\w/]+\.py)` – \S", (SRC.parents[1] / "docs" / "map.md").read_text("utf-8"), re.M)
    there = [path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py")]
    wanted = sorted(name for name in there if not name.endswith("/__init__.py"))
    assert sorted(named) == wanted


def test_no_folder_is_crowded() -> None:
    counts: dict[Path, int] = {}
    for path in SRC.rglob("*.py"):
        counts[path.parent] = counts.get(path.parent, 0) + 1
    assert max(counts.values()) <= 16
    assert counts[SRC] <= 8
    assert counts[SRC / "evals"] <= 5


def test_no_two_test_files_have_one_name() -> None:
    """Without packages pytest imports a test file by its name alone, and refuses the second one."""
    names = Counter(path.name for path in (SRC.parents[1] / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
