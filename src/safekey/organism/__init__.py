"""The model organism: an invented world, a small base model for it, and data files like those of any data set.

    from safekey.organism import write_world

    world = write_world("organism")   # organism/train.jsonl, organism/base/, organism/harmful.jsonl, ...

No other part of the library knows about it: it is a recipe (`organism`), data, a checkpoint, and a function for the
judge `exact` (`exact=safekey.organism.judge:decide`). docs/organism.md says what it shows and what it does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safekey.organism.build import build_base as build_base
    from safekey.organism.data import Paths as Paths
    from safekey.organism.data import write_world as write_world
    from safekey.organism.world import World as World
    from safekey.organism.world import make_world as make_world

_HOME = {"build_base": "build", "Paths": "data", "write_world": "data", "World": "world", "make_world": "world"}
__all__ = ["Paths", "World", "build_base", "make_world", "write_world"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"safekey.organism.{_HOME[name]}"), name)
    raise AttributeError(f"module 'safekey.organism' has no attribute {name!r}")
