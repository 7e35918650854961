"""Training: encoding, the packed step, losses, heads and the trainer. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safekey.training.encoding import Encoded as Encoded
    from safekey.training.encoding import encode as encode
    from safekey.training.encoding import encode_all as encode_all
    from safekey.training.loop.batches import SafeKeyCollator as SafeKeyCollator
    from safekey.training.loop.checkpoint import last_complete_checkpoint as last_complete_checkpoint
    from safekey.training.loop.config import SafeKeyConfig as SafeKeyConfig
    from safekey.training.loop.export import load_heads as load_heads
    from safekey.training.loop.trainer import SafeKeyTrainer as SafeKeyTrainer
    from safekey.training.objective.heads import SafetyHeads as SafetyHeads
    from safekey.training.objective.pack import Counts as Counts
    from safekey.training.objective.pack import count as count
    from safekey.training.objective.step import SafeKeyLoss as SafeKeyLoss
    from safekey.training.objective.step import attach as attach
    from safekey.training.objective.step import detach as detach
    from safekey.training.objective.step import safekey_loss as safekey_loss

_HOME = {
    "Encoded": "encoding",
    "encode": "encoding",
    "encode_all": "encoding",
    "SafetyHeads": "objective.heads",
    "SafeKeyCollator": "loop.batches",
    "SafeKeyConfig": "loop.config",
    "SafeKeyTrainer": "loop.trainer",
    "last_complete_checkpoint": "loop.checkpoint",
    "load_heads": "loop.export",
    "Counts": "objective.pack",
    "count": "objective.pack",
    "SafeKeyLoss": "objective.step",
    "attach": "objective.step",
    "detach": "objective.step",
    "safekey_loss": "objective.step",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"safekey.training.{_HOME[name]}"), name)
    raise AttributeError(f"module 'safekey.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
