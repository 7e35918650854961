"""Check that records are about the judges of a run, before anything is generated or judged: else one clear line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.evals.judge_error.correct import VerdictsOf
from safekey.evals.judge_error.record import JudgeRecord, differs, same_model
from safekey.evals.judges.open import JudgeSpec, judge_of, judges_for
from safekey.schema import Part


def check_fit(
    records: Sequence[JudgeRecord],
    specs: Sequence[JudgeSpec],
    parts: Sequence[Part],
    there: Iterable[VerdictsOf] = (),
) -> None:
    """Check that every record is about a judge that is named, or about verdicts that are there.

    The weights of a judging model on this machine, and the version of the parser, are known only once it has judged:
    they are compared then, and a rate that they do not fit is not corrected.

    Args:
        records: those that the user gives.
        specs: the judges that will judge.
        parts: the parts that they see.
        there: the verdicts of a run.

    Raises:
        UserError: a record is about another judge; the message says what differs.
    """
    verdicts = list(there)
    for record in records:
        reasons = [_against_spec(record, spec, parts) for spec in specs]
        reasons += [_against(record, own) for own in verdicts]
        if "" not in reasons:
            # One about the same judge says more than that other judges are other ones.
            why = min(reasons, key=_is_other_judge, default="nothing is judged here")
            raise UserError(
                f"--judge-record {record.name}: cannot correct this run: {why}. `safekey judges validate` measures the "
                "judge of this run"
            )


def _is_other_judge(reason: str) -> bool:
    return reason.startswith("it is of the judge")


def verdicts_there(rows: Iterable[Mapping[str, Any]]) -> list[VerdictsOf]:
    """Return whose verdicts the rows of `verdicts.jsonl` are; the rule is left open."""
    found: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        key = tuple(str(row[name]) for name in ("judge", "model", "prompt_hash", "kind", "part"))
        found.setdefault(key, set()).update([str(row["parser"])] if row["value"] is not None else [])
    return [
        VerdictsOf(judge, model, prompt, frozenset(parsers), kind, part, "")  # type: ignore[arg-type]
        for (judge, model, prompt, kind, part), parsers in found.items()
        if kind != "accuracy"
    ]


def _against(record: JudgeRecord, own: VerdictsOf) -> str:
    return differs(
        record.key, judge=own.judge, model=own.model, prompt_hash=own.prompt_hash, parsers=own.parsers, part=own.part
    )


def _against_spec(record: JudgeRecord, spec: JudgeSpec, parts: Sequence[Part]) -> str:
    key = record.key
    if not judges_for([spec], key.kind) or spec.name != key.judge:
        return f"it is of the judge {key.judge}, this run is judged by {spec.name}"
    if not _may_be(key.model, spec):
        return f"it is of the model {key.model or 'none'}, this run's judge asks {spec.model or 'none'}"
    judge = judge_of(spec, key.kind)
    if judge.rules[0].name != key.rule:
        return f"it is by the rule '{key.rule}', this judge's is '{judge.rules[0].name}'"
    if key.part not in parts:
        return f"it is about the part '{key.part}', this run judges {', '.join(parts)}"
    return differs(key, judge=spec.name, model=key.model, prompt_hash=judge.prompt_hash(), parsers=(), part=key.part)


def _may_be(model: str, spec: JudgeSpec) -> bool:
    """Whether a judge as the user names it may turn out to be this model: its weights are not known yet."""
    if same_model(model, spec.model):
        return True
    if spec.model.startswith("scripted:"):
        return model.startswith(f"scripted:{Path(spec.model.removeprefix('scripted:')).name}@")
    return model.startswith(f"{spec.model.removeprefix('local:')}@")
