"""Import the function that an option names as MODULE:FUNCTION."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from safekey.errors import UserError


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
