"""SafeKey: fine-tune reasoning models to stay safe and helpful, and measure honestly whether it worked.

The public names are loaded when they are first used, so `import safekey` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safekey.comparison.compare import compare as compare
    from safekey.data import load_examples as load_examples
    from safekey.data import segment as segment
    from safekey.engines.base import Engine as Engine
    from safekey.engines.base import SamplingParams as SamplingParams
    from safekey.evals.evaluate import evaluate as evaluate
    from safekey.schema import Example as Example
    from safekey.schema import Message as Message
    from safekey.schema import Spans as Spans
    from safekey.training import SafeKeyCollator as SafeKeyCollator
    from safekey.training import SafeKeyConfig as SafeKeyConfig
    from safekey.training import SafeKeyTrainer as SafeKeyTrainer
    from safekey.training import SafetyHeads as SafetyHeads

__version__ = "0.1.0"

_HOME = {
    "Engine": "safekey.engines.base",
    "SamplingParams": "safekey.engines.base",
    "compare": "safekey.comparison.compare",
    "evaluate": "safekey.evals.evaluate",
    "Example": "safekey.schema",
    "Message": "safekey.schema",
    "Spans": "safekey.schema",
    "load_examples": "safekey.data",
    "segment": "safekey.data",
    "SafeKeyCollator": "safekey.training",
    "SafeKeyConfig": "safekey.training",
    "SafeKeyTrainer": "safekey.training",
    "SafetyHeads": "safekey.training",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'safekey' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
