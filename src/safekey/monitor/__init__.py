"""The heads as an alarm: `Monitor` scores a response at the end of U. The name is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safekey.monitor.monitor import Monitor as Monitor
    from safekey.monitor.monitor import Score as Score
    from safekey.monitor.streaming import Watch as Watch

_HOME = {"Monitor": "monitor", "Score": "monitor", "Watch": "streaming"}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"safekey.monitor.{_HOME[name]}"), name)
    raise AttributeError(f"module 'safekey.monitor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
