"""The house's rules, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "safekey"
# From the top of the house to its ground: a room may import rooms to its right, never one to its left or beside it.
ORDER = (
    *(
        "cli",
        "organism",
        "grid",
        "report",
        "analysis",
        "monitor",
        "making",
        "comparison",
        "evals",
        "training",
        "engines",
    ),
    *(
        "data",
        ("text", "stats", "run_folder"),
        ("schema", "errors", "retry", "terminal", "hub", "function_option", "lock"),
    ),
)
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in ([rooms] if isinstance(rooms, str) else rooms)}
STRANGERS = (
    {"evals", "training"},
    {"making", "monitor"},
    {"text", "stats"},
    {"text", "run_folder"},
    {"stats", "run_folder"},
)
KNOWN = {("organism.demo", "cli.grid")}  # to go


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
            found |= {alias.name.removeprefix("safekey.") for alias in node.names if alias.name.startswith("safekey.")}
    return found & MODULES.keys()


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def test_every_room_has_its_place() -> None:
    rooms = {name.split(".")[0] for name in MODULES} - {"", "recipes"}
    assert rooms <= FLOOR.keys(), f"give {rooms - FLOOR.keys()} a place in ORDER"


def test_imports_run_downwards() -> None:
    wrong = []
    for name, seen in IMPORTS.items():
        room = name.split(".")[0]
        for other in sorted(seen - {""}):
            below = other.split(".")[0]
            if not name or room == below or (name, other) in KNOWN:
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
