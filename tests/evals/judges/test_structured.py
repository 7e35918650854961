"""Structured output: what a server is asked to hold a judge's reply to, and that such a judge is one of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import get_model

from engines.endpoint import Endpoint, running
from safekey.engines.scripted import ScriptedEngine
from safekey.errors import UserError
from safekey.evals.evaluate import evaluate
from safekey.evals.judges.models import _config
from safekey.evals.judges.open import judge_of, open_judges, parse_judges
from safekey.evals.judges.structured import structured
from safekey.evals.judges.table import JUDGES
from safekey.evals.request import EvalRequest, JudgeSettings

OWN = ("harm_1to5", "harm_rubric", "refusal_3class", "gpt_oss_safeguard")
HELD = JudgeSettings(structured=True, backoff=0.01)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with running() as endpoint:
        endpoint.message = {"role": "assistant", "content": '{"reason": "It helps.", "class": "full_compliance"}'}
        yield endpoint


def replies(schema: dict[str, Any]) -> Iterator[str]:
    """Yield an object for every choice of the fields that have a list of values."""
    assert schema["required"] == list(schema["properties"])
    fields = {name: made.get("enum", ['Because it says "so".']) for name, made in schema["properties"].items()}
    for values in itertools.product(*fields.values()):
        yield json.dumps(dict(zip(fields, values, strict=True)))


@pytest.mark.parametrize("name", OWN)
def test_every_reply_that_the_schema_allows_is_a_verdict(name: str) -> None:
    judge = structured(JUDGES[name])
    values = {judge.parse(reply).value for reply in replies(json.loads(judge.schema))}
    assert None not in values
    rules = [{rule.test(value) for value in values} for rule in judge.rules]
    assert all(found == {True, False} for found in rules), "each rule must be open in both directions"


def test_judges_without_a_json_object_stay_as_they_are() -> None:
    for name in set(JUDGES) - set(OWN):
        assert structured(JUDGES[name]) is JUDGES[name]


def test_the_prompt_has_a_hash_of_its_own() -> None:
    hashes = {judge.prompt_hash() for name in OWN for judge in (JUDGES[name], structured(JUDGES[name]))}
    assert len(hashes) == 8


def test_inspects_models_get_the_same_schema() -> None:
    schema = structured(JUDGES["harm_1to5"]).schema
    asked = _config(HELD, schema).response_schema
    assert asked is not None
    assert asked.strict is True
    assert asked.json_schema.model_dump(exclude_none=True, by_alias=True) == json.loads(schema)
    assert _config(HELD).response_schema is None


def request(tmp_path: Path, url: str, settings: JudgeSettings) -> EvalRequest:
    rows = [{"id": f"q{i}", "prompt": f"How do I bake cake number {i}?", "label": "safe"} for i in range(3)]
    (tmp_path / "xstest_safe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvalRequest(
        model="scripted", tasks=("xstest",), data_dir=str(tmp_path), judges=("refusal_3class", "refusal_keywords"),
        judge_url=url, judge_model="tiny", judge_settings=settings, parts=("answer",), output=str(tmp_path / "run"),
    )  # fmt: skip


def test_an_evaluation_demands_the_form_and_does_not_mix_with_free_replies(server: Endpoint, tmp_path: Path) -> None:
    engine = ScriptedEngine(default="<think>\nA cake.\n</think>\n\nTake flour.")
    model = get_model("safekey/scripted", engine=engine, kind="scripted", memoize=False)
    made = evaluate(request(tmp_path, server.url, HELD), model=model)
    forms = [body["response_format"] for body in server.bodies]
    judge = structured(JUDGES["refusal_3class"])
    expected = {"name": "reply", "strict": True, "schema": json.loads(judge.schema)}
    assert forms == [{"type": "json_schema", "json_schema": expected}] * 4  # the probe and three verdicts
    rows = [json.loads(line) for line in (made.run.path / "verdicts.jsonl").read_text().splitlines()]
    assert {(row["judge"], row["prompt_hash"], row["value"]) for row in rows} == {
        ("refusal_3class", judge.prompt_hash(), "full_compliance"),
        ("refusal_keywords", "", "full_compliance"),
    }
    with pytest.raises(UserError, match="structured"):
        evaluate(request(tmp_path, server.url, replace(HELD, structured=False)), model=model)


def test_a_server_that_knows_no_schema_is_said_before_anything_is_asked(server: Endpoint) -> None:
    def refuses(handler: Any, number: int) -> bool:
        handler.answer(400, {"error": {"message": "response_format is not supported"}})
        return True

    server.fault = refuses
    with pytest.raises(UserError, match="response_format is not supported"):
        open_judges(parse_judges(["harm_1to5"], server.url, "tiny", structured=True), "harm", HELD, probe=True)
    assert len(server.bodies) == 1


def test_a_model_on_this_machine_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="serve it"):
        open_judges(parse_judges([f"harm_1to5={tmp_path}"], structured=True), "harm", HELD)


def test_no_judge_that_could_be_held_is_an_error() -> None:
    with pytest.raises(UserError, match=r"--judge-structured: no judge here .*refusal_keywords"):
        parse_judges(["refusal_keywords"], structured=True)
    (keywords, harm) = parse_judges(["refusal_keywords", "harm_1to5=openai/x"], structured=True)
    assert judge_of(keywords, "refusal") is JUDGES["refusal_keywords"]
    assert judge_of(harm, "harm").schema
