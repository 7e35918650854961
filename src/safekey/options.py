"""Command-line options as dataclass fields (help, form, range and default in one place), and functions that they name.

@dataclass(frozen=True, kw_only=True)
class Request:
    limit: int | None = option("only the first N rows of each benchmark", int, metavar="N", low=1)

add_options(parser, Request)              # adds --limit N
request = Request(**given(args, Request)) # only what was given; the dataclass has the defaults
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from safekey.errors import UserError, did_you_mean
from safekey.terminal import has_login, without_login


def words(text: str | Sequence[Any], flag: str = "") -> tuple[str, ...]:
    """Return "a, b" as ("a", "b")."""
    found = (str(word).strip() for word in (text.split(",") if isinstance(text, str) else text))
    return tuple(word for word in found if word)


def numbers(text: str, flag: str) -> tuple[int, ...]:
    """Return "5,10" as (5, 10)."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise UserError(f"{flag} {text}: expected whole numbers, such as 5,10,20,50") from None


def repeated(given: Sequence[str], flag: str) -> tuple[str, ...]:
    """Return the values of an option that may be given several times."""
    return tuple(given)


def pairs(given: Sequence[str], flag: str, *, empty: bool = False) -> dict[str, str]:
    """Return ["a=1", "b=2"] as {"a": "1", "b": "2"}."""
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name or not (value or empty):
            raise UserError(f"{flag} {word}: expected NAME=VALUE")
        found[name] = value
    return found


def files_by_kind(given: Sequence[str], flag: str) -> dict[str, str]:
    """Return ["a=harmful:x.jsonl"] as {"a": "harmful:x.jsonl"}; a name that is given twice is an error.

    Only the first "=" divides: the rest of a word is the kind and path as they are.
    """
    names = [word.partition("=")[0] for word in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{flag} {twice}=…: is given twice; give each name once")
    if wrong := next((word for word in given if not all(word.partition("="))), None):
        raise UserError(f"{flag} {wrong}: expected NAME=KIND:PATH")
    return pairs(given, flag)


def columns(given: Sequence[str], flag: str) -> dict[str, str | None]:
    """Return ["prompt=text", "category="] as {"prompt": "text", "category": None}."""
    return {key: value or None for key, value in pairs(given, flag, empty=True).items()}


def values(given: Sequence[str], flag: str) -> dict[str, Any]:
    """Return ["batch_size=8", "dtype=bfloat16"] as {"batch_size": 8, "dtype": "bfloat16"}."""
    return {key: _json_or_text(value) for key, value in pairs(given, flag).items()}


def unknown(key: str, known: Iterable[str], where: str) -> UserError:
    """Return the error for a key that does not exist, with the nearest ones that do."""
    word = key.replace("dpsh", "head")  # the loss's name; its keys are called after the heads
    return UserError(f"{where}: unknown key '{key}'{did_you_mean(word, known)}")


def function_of(option: str, name: str | None) -> Callable[..., Any] | None:
    """Return the function that an option names as MODULE:FUNCTION.

    Raises:
        UserError: it cannot be imported, or is not a function.
    """
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{option} {name}: cannot be imported: {error}") from error
    if not callable(found):
        raise UserError(f"{option} {name}: is no function")
    return found  # type: ignore[no-any-return]


def check_logins(value: Any, where: str) -> None:
    """Check that no URL in a value, or in a table or list of values, holds a user's name or password.

    URLs are printed and recorded. The message shows neither.

    Raises:
        UserError: one does.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_logins(item, f"{where[:-1]}.{key}'" if where.endswith("'") else f"{where}: key '{key}'")
    elif isinstance(value, list | tuple):
        for item in value:
            check_logins(item, where)
    elif isinstance(value, str):
        url = f"http://{value}" if where.endswith("-url") and "://" not in value else value
        if has_login(url):
            host = re.search(r"://(?:\*\*\*@)?([^/#?\s]*)", without_login(url))
            raise UserError(
                f"{where}: the URL of {host.group(1) if host else 'this endpoint'} holds a name, a password or a key: "
                "put the key into the environment, not into the URL: URLs are recorded"
            )


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


SEVERAL = (repeated, pairs, files_by_kind, columns, values)
"""Forms of options that may be given several times."""


@dataclass(frozen=True)
class Option:
    """How the command line shows a field.

    Attributes:
        help: the help text.
        form: `str`, `int` or `float`; `bool` (a flag); or one of this module's functions from the text and the flag.
        flag: such as "--judge-url"; "" for the field's name with hyphens.
        metavar: how the value is called in the help.
        choices: the values that there are.
        group: the heading in the help.
        low: the smallest number that is accepted.
        high: the largest.
        alone: the value of the option given without one; None: a value is needed.
    """

    help: str
    form: Callable[..., Any]
    flag: str
    metavar: str | None
    choices: tuple[str, ...] | None
    group: str
    low: float | None
    high: float | None
    alone: Any


def option(
    help: str, form: Callable[..., Any] = str, *, default: Any = None, flag: str = "", metavar: str | None = None,
    choices: tuple[str, ...] | None = None, group: str = "", low: float | None = None, high: float | None = None,
    alone: Any = None,
) -> Any:  # fmt: skip
    """Return a dataclass field that is an option of the command line; see `Option`."""
    about: dict[str, Any] = {
        "metadata": {"option": Option(help, form, flag, metavar, choices, group, low, high, alone)}
    }
    return field(default_factory=default, **about) if callable(default) else field(default=default, **about)


def nested(made: type) -> Any:
    """Return a dataclass field that holds another dataclass with options; they are options of the same command."""
    return field(default_factory=made, metadata={"nested": made})


def options_of(request: type) -> Iterator[tuple[Field[Any], Option, str]]:
    """Yield (field, option, flag) of a dataclass, nested ones excluded."""
    for each in fields(request):
        if "option" in each.metadata:
            made: Option = each.metadata["option"]
            yield each, made, made.flag or f"--{each.name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser, request: type, *, groups: Sequence[str] | None = None) -> None:
    """Add a dataclass's options to a parser, those of nested dataclasses included.

    Args:
        parser: of a verb.
        request: the dataclass.
        groups: only the options under these headings; None: all.
    """
    headings = {group.title: group for group in parser._action_groups}
    for _, made, flag in _all_options(request):
        if groups is not None and made.group not in groups:
            continue
        if made.group and made.group not in headings:
            headings[made.group] = parser.add_argument_group(made.group)
        place = headings[made.group] if made.group else parser
        if made.form is bool:
            place.add_argument(flag, action="store_true", default=None, help=made.help)
            continue
        how: dict[str, Any] = {"action": "append"} if made.form in SEVERAL else {}
        if made.form in (int, float):
            how["type"] = made.form
        if made.alone is not None:
            how |= {"nargs": "?", "const": made.alone}
        if made.form is str:
            how["choices"] = made.choices
        place.add_argument(flag, help=made.help, metavar=made.metavar, **how)


def given(args: argparse.Namespace, request: type) -> dict[str, Any]:
    """Return the fields that the command line gives, as the dataclass takes them.

    Raises:
        UserError: a value has another form than its option takes.
    """
    found: dict[str, Any] = {}
    for each, made, flag in options_of(request):
        value = getattr(args, flag.removeprefix("--").replace("-", "_"), None)
        if value is not None:
            found[each.name] = value if made.form in (str, int, float, bool) else made.form(value, flag)
    for each in fields(request):
        if "nested" in each.metadata:
            inner = each.metadata["nested"]
            found[each.name] = inner(**given(args, inner))
    return found


def check_ranges(request: Any) -> None:
    """Check every number of a dataclass with options against its range, every choice, and every URL for a password.

    Raises:
        UserError: the first that is outside.
    """
    for each, made, flag in options_of(type(request)):
        value = getattr(request, each.name)
        check_logins(list(value.values()) if isinstance(value, Mapping) else value, flag)
        for one in value if isinstance(value, tuple | list) else (value,):
            if made.choices and one is not None and one not in made.choices:
                raise UserError(f"{flag} {one}: choose from {', '.join(made.choices)}")
            if isinstance(one, bool) or not isinstance(one, int | float):
                continue
            if one < (made.low if made.low is not None else one) or one > (made.high if made.high is not None else one):
                upper = "" if made.high is None else f" and at most {made.high:g}"
                raise UserError(f"{flag} {one:g}: expected at least {made.low or 0:g}{upper}")


def _all_options(request: type) -> Iterator[tuple[Field[Any], Option, str]]:
    yield from options_of(request)
    for each in fields(request):
        if "nested" in each.metadata:
            yield from _all_options(each.metadata["nested"])
