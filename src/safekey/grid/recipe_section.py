"""The `grid:` table of a recipe: which arms and seeds, and how they are evaluated, where the command does not say.

    grid:
      arms: [base, sft, safekey, qsm]
      seeds: 3
      suite: all
      data_dir: organism
      judge: [exact=safekey.organism.judge:decide]

Its keys are the options of `safekey grid`, with underscores. `safekey train` passes it over.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.training.command.recipe import find_recipe
from safekey.training.command.yaml_values import read_yaml, unknown

_MOST_ANCESTORS = 20
_NOT_HERE = ("recipe", "overrides", "run", "json", "dry_run", "output", "arm")


def read_section(name_or_path: str) -> tuple[dict[str, Any], str]:
    """Return the `grid:` table of a recipe, or of the nearest recipe that it extends, and the file that holds it.

    Raises:
        UserError: no such recipe, or the section is no table.
    """
    path = find_recipe(name_or_path, Path.cwd())
    for _ in range(_MOST_ANCESTORS):
        own = read_yaml(path)
        if "grid" in own:
            if not isinstance(own["grid"], dict):
                raise UserError(f"{path}: key 'grid': expected a table, found {own['grid']!r:.60}")
            return own["grid"], str(path)
        if not own.get("extends"):
            break
        path = find_recipe(str(own["extends"]), path.parent)
    return {}, str(path)


def fill_in(args: argparse.Namespace, parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """Set the options that the command line does not give, to what the recipe's section says or to their defaults.

    Args:
        args: the parsed words; what they do not give is None.
        parser: of these options.
        defaults: by the options' names.

    Raises:
        UserError: an unknown key, or a value of another form than the option takes.
    """
    section, where = read_section(args.recipe)
    options = {action.dest: action for action in parser._actions if action.dest not in (*_NOT_HERE, "help")}
    for key, value in section.items():
        name = str(key).replace("-", "_")
        if name not in options:
            raise unknown(str(key), options, f"{where}: section 'grid'")
        fitting = _fitting(options[name], value, f"{where}: key 'grid.{key}'")
        if getattr(args, name) is None:
            setattr(args, name, fitting)
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def _fitting(action: argparse.Action, value: Any, where: str) -> Any:
    """Return a value as argparse would have read it from the command line."""
    several = isinstance(action, argparse._AppendAction)
    if several:
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false, found {value!r:.60}")
        return value
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        found = action.type(text) if callable(action.type) else text
    except (ValueError, argparse.ArgumentTypeError):
        raise UserError(f"{where}: {value!r:.60} is no value for this option") from None
    if action.choices is not None and found not in action.choices:
        raise UserError(f"{where}: expected one of {', '.join(map(str, action.choices))}, found {value!r:.60}")
    return found
