"""Open the judges that `--judge NAME=MODEL` names: a row of the table and a model that answers.

    judges = open_judges(parse_judges(["harm_1to5=openai/gpt-4.1"]), "harm")
    rows = await judge_completion(row, judges, ["answer"])

MODEL is one of

    openai/gpt-4.1, anthropic/…       any model name of Inspect's; the key comes from the environment
    http://127.0.0.1:8000/v1#NAME     an OpenAI-compatible endpoint
    runs/guard or local:owner/name    a model on this machine, through transformers
    role:NAME                         the model of an Inspect role (`--model-role NAME=…`)
    scripted:FILE.json                for tests: {"replies": {"words in the prompt": "reply", …}, "default": "reply"}

For the judge `exact`, which asks no model, it is module:function, a function of `JudgeInput`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safekey.errors import UserError
from safekey.evals.judges.structured import need_structured, structured
from safekey.evals.judges.table import Judge, exact, find_judge, template_missing, with_template
from safekey.evals.judges.verdicts import Ask, OpenJudge, Reply
from safekey.evals.request import JudgeSettings
from safekey.options import check_logins, function_of
from safekey.schema import Message

DEFAULTS: dict[str, str] = {"harm": "harm_1to5", "refusal": "refusal_3class"}
ROLE = "judge"
"""The Inspect role of the judging model, for tasks without named judges."""
ATTACKER = "attacker"
"""The Inspect role of the model that writes attacks, for tasks without a named attacker."""


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """One judge as the user named it.

    Attributes:
        name: of the table, or "exact".
        model: its model; "" without one.
        template: the file of its published prompt; "" for none.
        structured: its server is asked to hold the reply to the form.
    """

    name: str
    model: str = ""
    template: str = ""
    structured: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.model}" if self.model else self.name


def parse_judges(
    named: Sequence[str],
    url: str | None = None,
    model: str | None = None,
    templates: Mapping[str, str] | None = None,
    *,
    structured: bool = False,
) -> tuple[JudgeSpec, ...]:
    """Read judges as users type them; nothing is opened.

    Args:
        named: "NAME=MODEL", or "NAME" for judges without a model and those whose model is `url` or `model`.
        url: an endpoint for every judge without a model of its own; without any names, for the two default judges.
        model: the model's name there, or a model name of Inspect's.
        templates: judge → file with its published prompt template.
        structured: the judges that reply with a JSON object demand it from their server.

    Raises:
        UserError: a judge does not exist, lacks a model or a template, has one too many, or is named twice.
    """
    check_logins([*named, url, model], "--judge")
    common = f"{url}#{model}" if url and model else url or model or ""
    words = list(named) or (list(DEFAULTS.values()) if common else [])
    specs = [replace(_spec(word, common, dict(templates or {})), structured=structured) for word in words]
    if structured:
        need_structured([spec.name for spec in specs])
    twice = [str(spec) for place, spec in enumerate(specs) if spec in specs[:place]]
    if twice:
        raise UserError(f"--judge {twice[0]}: named twice")
    unused = sorted(set(templates or {}) - {spec.name for spec in specs})
    if unused:
        raise UserError(f"--judge-template {unused[0]}=…: that judge is not among the judges")
    return tuple(specs)


def _spec(word: str, common: str, templates: dict[str, str]) -> JudgeSpec:
    name, _, model = (part.strip() for part in word.partition("="))
    if name == "exact":
        if not model or ":" not in model:
            raise UserError("judge 'exact' needs a function of the sample: --judge exact=module:function")
        return JudgeSpec(name, model)
    judge = find_judge(name)
    if judge.decide is not None:
        if model:
            raise UserError(f"judge '{name}' asks no model: write --judge {name}")
        return JudgeSpec(name)
    template = templates.get(name, "")
    if judge.template_fields or template:
        if not template:
            raise template_missing(judge)
        with_template(judge, template)
    model = model or common
    if not model:
        raise UserError(
            f"judge '{name}' needs a model: --judge {name}=openai/MODEL, --judge {name}=http://HOST:PORT/v1#MODEL, or "
            "--judge-url and --judge-model for all judges"
        )
    if judge.as_text and not model.startswith(("http://", "https://")):
        raise UserError(
            f"judge '{name}' is asked in plain text, which only an endpoint can: --judge {name}=http://…#MODEL"
        )
    return JudgeSpec(name, model, template)


def judges_for(specs: Sequence[JudgeSpec], kind: str) -> tuple[JudgeSpec, ...]:
    """Return the judges of "harm" or "refusal"; `exact` judges both; () for anything else."""
    return tuple(
        spec for spec in specs if kind in DEFAULTS and (spec.name == "exact" or find_judge(spec.name).judges == kind)
    )


def judge_of(spec: JudgeSpec, kind: str) -> Judge:
    """Return the judge behind a name; `exact` takes the kind of what it judges.

    Raises:
        UserError: the function of `exact` cannot be imported, or the template cannot be read.
    """
    if spec.name == "exact":
        decide = function_of("--judge exact", spec.model)
        assert decide is not None
        return exact(decide, judges="refusal" if kind == "refusal" else "harm")
    judge = find_judge(spec.name)
    if spec.template:
        return with_template(judge, spec.template)
    return structured(judge) if spec.structured else judge


def open_judges(
    specs: Sequence[JudgeSpec], kind: str, settings: JudgeSettings | None = None, *, probe: bool = False
) -> tuple[OpenJudge, ...]:
    """Open the judges of one kind.

    Args:
        specs: all judges that were named.
        kind: "harm" or "refusal".
        settings: how they are asked.
        probe: ask each judging model one short question now, to check that it answers.

    Raises:
        UserError: a judge cannot be opened: no key, no server, no such model.
    """
    settings = settings or JudgeSettings()
    opened = []
    for spec in judges_for(specs, kind):
        judge = judge_of(spec, kind)
        try:
            opened.append(_open(judge, spec.model, settings, probe))
        except UserError as error:
            raise UserError(f"judge '{spec.name}': {error}") from error
    return tuple(opened)


def _open(judge: Judge, model: str, settings: JudgeSettings, probe: bool) -> OpenJudge:
    if judge.decide is not None:
        return OpenJudge(judge, model, None)
    if model.startswith("scripted:"):
        return OpenJudge(judge, *scripted(model.removeprefix("scripted:")), settings.cut_long)
    from safekey.evals.judges.models import open_judge_model, open_text_model

    if judge.as_text:
        name, ask, close = open_text_model(model, settings, probe)
    else:
        name, ask, close = open_judge_model(model, settings, probe, judge.schema)
    return OpenJudge(judge, name, ask, settings.cut_long, close)


def scripted(file: str) -> tuple[str, Ask]:
    """Return the name and the function of a model that a JSON file plays: see the module.

    Raises:
        UserError: the file cannot be read, or holds no script.
    """
    try:
        raw = Path(file).read_bytes()
        script = json.loads(raw)
        replies, default = dict(script.get("replies", {})), str(script.get("default", ""))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"scripted:{file}: expected a JSON file with 'replies' and 'default': {error}") from error

    async def ask(messages: Sequence[Message]) -> Reply:
        text = "\n".join(message.content for message in messages)
        return str(next((reply for words, reply in replies.items() if words in text), default))

    return f"scripted:{Path(file).name}@{hashlib.sha256(raw).hexdigest()[:12]}", ask
