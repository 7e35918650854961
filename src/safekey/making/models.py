"""The models of a run by their role: teacher, model, writer, judge. Each is opened when it is first asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safekey.engines import Engine, open_engine
from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.making.config import RULE, MakeConfig

Role = Literal["teacher", "model", "writer", "judge"]
ROLES: tuple[Role, ...] = ("teacher", "model", "writer", "judge")
_NEEDS: dict[str, tuple[Role, ...]] = {
    "classify": ("judge",),
    "benign": ("writer", "judge"),
    "deliberate": ("teacher",),
    "self": ("model",),
    "score": ("judge",),
}
_EXAMPLE = {"model": "a folder or a hub id", "judge": "http://127.0.0.1:8001/v1#NAME, a folder, or rule"}


@dataclass(frozen=True, slots=True)
class Spec:
    """How a role's model is named and opened: target and kind as of `open_engine`."""

    target: str
    kind: str
    options: Mapping[str, Any]


def spec_of(config: MakeConfig, role: Role) -> Spec | None:
    """Return a role's model as the recipe names it; None when it names none."""
    if role == "writer":
        if config.writer is None:
            return spec_of(config, "teacher") or spec_of(config, "model")
        return Spec(config.writer, "auto", config.teacher_options)
    if role == "teacher":
        return (config.teacher and Spec(config.teacher, config.teacher_engine, config.teacher_options)) or None
    if role == "judge":
        return (config.judge and Spec(config.judge, config.judge_engine, config.judge_options)) or None
    if config.model is None:
        return None
    kind, options = config.engine, dict(config.model_options)
    if config.server_url and kind in ("auto", "server") and not config.model.startswith(("http://", "https://")):
        if Path(config.model).expanduser().is_dir():
            options.setdefault("tokenizer", config.model)
            return Spec(config.server_url, "server", options)
        url = config.server_url if "#" in config.server_url else f"{config.server_url}#{config.model}"
        return Spec(url, "server", options)
    return Spec(config.model, kind, options)


def check_roles(config: MakeConfig) -> None:
    """Check that every stage has the model that it asks.

    Raises:
        UserError: the first stage that has none.
    """
    for stage in config.stages:
        for role in _NEEDS.get(stage, ()):
            if spec_of(config, role) is None:
                named = "teacher" if role == "writer" else role
                example = _EXAMPLE.get(named, "http://127.0.0.1:8000/v1#NAME, a folder or a hub id")
                raise UserError(f"stage '{stage}' needs a {role}: set {named}=… ({example})")
    if config.judge == RULE and "benign" in config.stages:
        raise UserError("stage 'benign' needs a judge that is a model: judge=rule cannot tell what a request wants")
    if config.judge == RULE and config.segment_by == "annotator":
        raise UserError("segment_by=annotator needs a judge that is a model: judge=rule asks none")
    at = config.judge or ""
    if config.segment_by == "annotator" and not (at.startswith(("http://", "https://")) and at.partition("#")[2]):
        raise UserError("segment_by=annotator needs a judge at an endpoint: judge=http://127.0.0.1:8001/v1#NAME")


def asked_roles(config: MakeConfig) -> list[Role]:
    """Return the roles that the stages of a recipe ask, whether the recipe names a model for others or not."""
    asked = {role for stage in config.stages for role in _NEEDS.get(stage, ())}
    if "segment" in config.stages and config.segment_by == "annotator":
        asked.add("judge")
    return [role for role in ROLES if role in asked]


def sampling(config: MakeConfig, role: Role) -> SamplingParams:
    """Return how a role's model is asked."""
    if role == "judge":
        return SamplingParams(max_new_tokens=config.judge_tokens, seed=config.seed)
    return SamplingParams(
        temperature=config.temperature, top_p=config.top_p, top_k=None, max_new_tokens=config.max_tokens,
        seed=config.seed,
    )  # fmt: skip


def short_name(target: str) -> str:
    """Return a model's name without the machine that it runs on: what follows "#", or the target itself.

    It is part of a reply's key, so a server that comes back on another port is not asked everything again.
    """
    return target.partition("#")[2] or target if target.startswith(("http://", "https://")) else target


class Models:
    """Opens each role's model once; two roles of one model share it.

    Attributes:
        weights: role and name → sha256 of the weights where they are known; those of the folder's earlier runs stand.
    """

    def __init__(self, config: MakeConfig, weights: Mapping[str, str] | None = None) -> None:
        """Take the recipe's keys and the weights that earlier replies came from; nothing is opened."""
        self._config = config
        self._open: dict[str, Engine] = {}
        self.weights: dict[str, str] = dict(weights or {})

    def engine(self, role: Role, schema: Mapping[str, Any] | None = None) -> Engine:
        """Return a role's engine; one that is held to a schema is another one.

        Raises:
            UserError: it cannot be opened: no such folder, no server, no key, or nothing that takes a schema.
        """
        spec = spec_of(self._config, role)
        assert spec is not None, "check_roles was called"
        name = repr((spec.target, spec.kind, sorted(spec.options.items(), key=str), schema))
        if name not in self._open:
            options = dict(spec.options)
            if schema:
                if not spec.target.startswith(("http://", "https://")):
                    raise UserError(f"structured: the {role} {spec.target} is no server; give {role}=URL#NAME")
                options["reply_schema"] = dict(schema)
            if spec.kind in ("server", "vllm") or spec.target.startswith(("http://", "https://")):
                config = self._config
                ours = {"concurrency": config.concurrency, "timeout": config.timeout, "backoff": config.backoff}
                options = {**ours, "max_attempts": config.attempts, **options}
            try:
                self._open[name] = open_engine(spec.target, spec.kind, **options)
            except UserError as error:
                raise UserError(f"{role}: {error}") from error
        self._check_weights(role, spec, self._open[name])
        return self._open[name]

    def _check_weights(self, role: Role, spec: Spec, engine: Engine) -> None:
        """Check that the weights are those that wrote the earlier replies of a folder.

        Raises:
            UserError: a model of the same name has other weights now.
        """
        found = str(engine.describe().get("weights_sha256") or "")
        known = self.weights.setdefault(f"{role} {short_name(spec.target)}", found)
        if found and known and found != known:
            raise UserError(
                f"{role} {spec.target}: has other weights than when this folder's replies were written: "
                "give another output_dir"
            )

    def close(self) -> None:
        """Release every model."""
        for engine in self._open.values():
            engine.close()
        self._open.clear()
