"""Find a recipe's file, read YAML values (`1e-5` is a number), convert them to the types of the config classes."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from safekey.errors import UserError
from safekey.options import check_logins


class _Loader(yaml.SafeLoader):
    """Reads plain scalars as in YAML 1.2. YAML 1.1 (PyYAML) reads `1e-5` as text, `no` as false and `1:30` as 90."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+.0123456789"),
):
    # An int is tried before a float: the resolvers are asked in the order of their registration.
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(node.value).replace("_", ""))  # 010 is ten


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def find_file(name_or_path: str, folder: Path, packaged: Path) -> Path:
    """Return a recipe's file, given by path or by the name of a packaged one.

    Args:
        name_or_path: of the recipe.
        folder: what a path is relative to.
        packaged: the folder of the packaged recipes.

    Raises:
        UserError: there is none.
    """
    path, own = folder / name_or_path, packaged / f"{name_or_path}.yaml"
    if path.is_file():
        return path
    if own.is_file() and Path(name_or_path).name == name_or_path:
        return own
    names = ", ".join(sorted(entry.stem for entry in packaged.glob("*.yaml")))
    raise UserError(f"no recipe '{name_or_path}': looked for the file {path} and among the packaged ones: {names}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe file.

    Raises:
        UserError: it cannot be read, is not YAML, or is not a table of keys.
    """
    try:
        parsed = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise UserError(f"{path}: expected lines of 'key: value', found {type(parsed).__name__}")
    check_logins(parsed, str(path))
    return parsed


def parse_scalar(text: str) -> Any:
    """Read the right side of a `key=value` as YAML; text that is not YAML stays text."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError):
        return text


def set_dotted(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set `a.0.b` inside nested tables and lists.

    Raises:
        UserError: a part of the key does not exist; an index is out of range (the next one appends).
    """
    *path, last = key.split(".")
    node: Any = tree
    for depth, part in enumerate(path):
        following = path[depth + 1] if depth + 1 < len(path) else last
        node = _step(node, part, [] if following.isdecimal() else {}, f"{where}: key '{key}'")
    if isinstance(node, list):
        index = _index(node, last, f"{where}: key '{key}'", append=True)
        node[index:] = [value, *node[index + 1 :]]
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"{where}: key '{key}': '{'.'.join(path)}' holds {node!r:.60}, which has no '{last}'")


def _step(node: Any, part: str, empty: Any, where: str) -> Any:
    if isinstance(node, list):
        index = _index(node, part, where, append=True)
        if index == len(node):
            node.append(empty)
        if isinstance(node[index], str):  # a data source given as a plain path becomes a table when one sets its weight
            node[index] = {"path": node[index]}
        return node[index]
    if isinstance(node, dict):
        if node.get(part) is None:
            node[part] = empty
        if isinstance(node[part], str) and isinstance(empty, list):
            node[part] = [node[part]]
        return node[part]
    raise UserError(f"{where}: nothing lies under '{part}' in {node!r:.60}")


def _index(node: list[Any], part: str, where: str, *, append: bool) -> int:
    if not part.isdecimal() or int(part) > len(node) - (not append):
        raise UserError(f"{where}: '{part}' is no index into a list of {len(node)}; the first is 0")
    return int(part)


def convert(value: Any, kind: Any, where: str) -> Any:
    """Return `value` as the declared type.

    Accepted are: a whole number for a float; a float without a fraction for an int; a number for a text; one text for a
    list of texts. Nothing else is converted: neither `true` nor text is a number.

    Args:
        value: the value in the recipe.
        kind: a type hint.
        where: file and key, for the message.

    Raises:
        UserError: the value is of another type.
    """
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if any(isinstance(choice, type) and issubclass(choice, Enum) for choice in choices):
        choices = tuple(choice for choice in choices if choice is not str)  # the enum's own values, not any text
    for exact in (True, False):  # `int | str` keeps "3" a text and 3 a number
        for choice in choices:
            fits, converted = _fit(value, choice, exact)
            if fits:
                return converted
    wanted = " or ".join(dict.fromkeys(_name(choice) for choice in choices))
    raise UserError(f"{where}: expected {wanted}, found {value!r:.80}")


def _fit(value: Any, kind: Any, exact: bool) -> tuple[bool, Any]:
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return True, value
    if kind is type(None):
        return value is None, None
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(kind)), value
    if kind in (list, tuple) or origin in (list, tuple):
        inner = (get_args(kind) or (Any,))[0]
        if isinstance(value, str) and inner is str and not exact:
            return True, [value]
        return isinstance(value, list | tuple) and all(_fit(item, inner, exact)[0] for item in value), value
    if kind in (dict, Mapping) or origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return isinstance(value, Mapping), value
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in {member.value for member in kind}, value
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool, value
    if kind is float and isinstance(value, int | float):
        return isinstance(value, float) or not exact, float(value)
    if kind is int and isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        return isinstance(value, int) or (not exact and whole), int(value) if whole else value
    if kind is str:
        return isinstance(value, str) or (not exact and isinstance(value, int | float)), str(value)
    return isinstance(kind, type) and isinstance(value, kind), value


_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def _name(kind: Any) -> str:
    origin = get_origin(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin in (list, tuple) or kind in (list, tuple):
        return "a list"
    if origin is not None or kind in (dict, Mapping):
        return "a table"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return getattr(kind, "__name__", str(kind))
