"""Engines continue prompts. All take the same prompts; an engine that cannot continue a prefill exactly refuses it.

engine = open_engine("runs/r1-7b")                        # a run's or a model's folder, or a hub id: transformers
engine = open_engine("http://127.0.0.1:8000/v1#r1-7b")    # any OpenAI-compatible endpoint
engine = open_engine("runs/r1-7b", "vllm")                # a vLLM that safekey starts
for index, completion in engine.generate(prompts, SamplingParams(temperature=0.0, max_new_tokens=512)):
    ...
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safekey.engines.base import Engine, SamplingParams
from safekey.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from safekey.engines.local import LocalEngine as LocalEngine
    from safekey.engines.scripted import ScriptedEngine as ScriptedEngine
    from safekey.engines.server import ServerEngine as ServerEngine
    from safekey.engines.vllm.engine import VllmEngine as VllmEngine

_HOME = {"LocalEngine": "local", "ScriptedEngine": "scripted", "ServerEngine": "server", "VllmEngine": "vllm.engine"}
_KINDS = {"local": "LocalEngine", "server": "ServerEngine", "vllm": "VllmEngine", "scripted": "ScriptedEngine"}
__all__ = [
    "Engine",
    "LocalEngine",
    "SamplingParams",
    "ScriptedEngine",
    "ServerEngine",
    "VllmEngine",
    "check_options",
    "open_engine",
]


def open_engine(model: str, kind: str = "auto", **options: Any) -> Engine:
    """Open an engine for a model.

    Args:
        model: a model's, run's or LoRA adapter's folder, a hub id, or an endpoint's URL, optionally ``URL#model-name``.
        kind: "local", "server", "vllm", "scripted", or "auto": an URL is a server, anything else is local.
        options: those of `LocalEngine`, `ServerEngine`, `VllmEngine` or `ScriptedEngine`.

    Raises:
        UserError: the model cannot be found or loaded, or the server does not answer; nothing has been generated.
    """
    engine: Engine = check_options(model, kind, options)(model, **options)
    return engine


def check_options(model: str, kind: str, options: Mapping[str, Any]) -> Any:
    """Return the class of an engine after checking the names of its options; nothing is loaded or reached.

    Raises:
        UserError: no such engine, or it has no such option; the message lists the options that it has.
    """
    if kind == "auto":
        kind = "server" if model.startswith(("http://", "https://")) else "local"
    if kind not in _KINDS:
        raise UserError(f"engine '{kind}' does not exist: choose {', '.join(_KINDS)} or auto")
    made = __getattr__(_KINDS[kind])
    known = list(inspect.signature(made).parameters)[1:]  # the first is the model
    if kind == "vllm":
        made.check({name: value for name, value in options.items() if name not in known})
        return made
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"the {kind} engine has no option '{name}'{hint} (it has {', '.join(known)})")
    return made


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"safekey.engines.{_HOME[name]}"), name)
    raise AttributeError(f"module 'safekey.engines' has no attribute {name!r}")
