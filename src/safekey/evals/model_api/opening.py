"""Open the model that a request names, and describe it for the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import Model, get_model

from safekey.engines.vllm.engine import VllmEngine
from safekey.errors import UserError
from safekey.evals.model_api.provider import SafeKeyAPI, one_line
from safekey.evals.request import EvalRequest


def open_model(request: EvalRequest) -> Model:
    """Open the model under test; this finds missing weights and a server that is down.

    Raises:
        UserError: it cannot be opened.
    """
    options = dict(request.engine_options)
    try:
        if request.engine == "inspect":
            return get_model(request.model, memoize=False, **options)
        target, kind = request.model, request.engine
        if kind == "vllm":
            engine = VllmEngine(request.model, **{"vllm": request.vllm, **options})
            engine.command()  # vLLM is there, and its options can be passed on
            return served_model(request.model, engine)
        if request.server_url or request.engine == "server":
            target, kind = _endpoint(request, options), "server"
        model = get_model(f"safekey/{target}", memoize=False, kind=kind, **options)
        assert isinstance(model.api, SafeKeyAPI)
        if kind != "server" and not target.startswith(("http://", "https://")):
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()  # its bars would disturb our lines
        _ = model.api.engine
    except (PrerequisiteError, ImportError) as error:
        raise UserError(one_line(error)) from error
    return model


def served_model(name: str, engine: VllmEngine) -> Model:
    """Return an open engine as a model of Inspect's."""
    return get_model(f"safekey/{name}", memoize=False, kind="vllm", engine=engine)


def _endpoint(request: EvalRequest, options: dict[str, Any]) -> str:
    """Return URL#NAME; for a model folder here, use its tokenizer and ask the server for the name."""
    if request.model.startswith(("http://", "https://")):
        return request.model
    if not request.server_url:
        raise UserError("--engine server needs the endpoint: --server-url http://HOST:PORT/v1")
    if "#" in request.server_url:
        return request.server_url
    if Path(request.model).expanduser().is_dir():
        options.setdefault("tokenizer", request.model)
        return request.server_url
    return f"{request.server_url}#{request.model}"


def identify(model: Model) -> dict[str, Any]:
    """Return the record of the model: for our engines `describe`, with the hash of the weights."""
    if isinstance(model.api, SafeKeyAPI):
        return dict(model.api.engine.describe())
    return {"kind": "inspect", "model": str(model), "revision": None, "weights_sha256": None}
