"""`safekey judges validate`: ask a judge about labelled answers, and write the record of its error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safekey.data.write import check_output, check_records, write_text
from safekey.errors import UserError
from safekey.evals.judge_error.ask import Progress, ask_about
from safekey.evals.judge_error.labels import Labels, read_labels
from safekey.evals.judge_error.measure import Measured, measure
from safekey.evals.judges.open import JudgeSpec, judge_of, judges_for, open_judges
from safekey.evals.request import JudgeSettings
from safekey.run_folder import make_private
from safekey.schema import JUDGED_KINDS, Part

VERDICTS = ".verdicts.jsonl"


@dataclass(frozen=True)
class Validated:
    """A judge measured: the numbers, what people said, the record's file, and the file of the verdicts."""

    measured: Measured
    labels: Labels
    path: Path
    verdicts: Path


def validate(
    files: Sequence[str],
    spec: JudgeSpec,
    settings: JudgeSettings | None = None,
    *,
    kind: str | None = None,
    part: Part = "answer",
    columns: Mapping[str, str | None] | None = None,
    threshold: float | None = None,
    benchmark: str = "",
    output: str | None = None,
    progress: Progress | None = None,
) -> Validated:
    """Measure a judge against people's labels; go on where an earlier call with the same output stopped.

    Args:
        files: labelled answers.
        spec: the judge.
        settings: how it is asked.
        kind: what the judge `exact` judges: "harm" or "refusal"; every other judge says it itself.
        part: the part of the answers that the texts are.
        columns: field → column, as in `read_labels`.
        threshold: the least grade that counts as positive.
        benchmark: where the requests come from, for labels that do not say it.
        output: the record's file; None: named after judge and file, under runs/.
        progress: called with (verdicts known, verdicts wanted).

    Raises:
        UserError: labels or judge cannot be used, or a file cannot be written.
    """
    settings = settings or JudgeSettings()
    fitting = [name for name in JUDGED_KINDS if kind in (None, name) and judges_for([spec], name)]
    if len(fitting) > 1:
        raise UserError("judge 'exact' may judge harm or refusal: say which with --kind")
    if not fitting:
        raise UserError(f"judge '{spec.name}' does not judge {kind}: leave out --kind, or name another judge")
    path = Path(output).expanduser() if output else _named(files, spec)
    store = path.with_suffix(VERDICTS)
    inputs = {f"file of labels {number}": file for number, file in enumerate(files, 1)}
    if spec.template:
        inputs["template"] = spec.template
    judge_of(spec, fitting[0])  # a template or a function that cannot be used is said before the labels are read
    labels = read_labels(files, fitting[0], part=part, columns=columns, threshold=threshold, benchmark=benchmark)
    check_output(path, "--output", inputs)
    check_records(store, {**inputs, "record": path})
    (judge,) = open_judges([spec], fitting[0], settings, probe=True)
    try:
        make_private(path.parent)
        verdicts = ask_about(
            labels.answers, judge, part, store=store, concurrency=settings.concurrency, progress=progress
        )
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written: {error.strerror}") from None
    finally:
        judge.close()
    measured = measure(labels, judge, verdicts)
    write_text(path, [json.dumps(measured.record.document, indent=1, ensure_ascii=False)])
    return Validated(measured, labels, path, store)


def _named(files: Sequence[str], spec: JudgeSpec) -> Path:
    stems = "-".join(Path(file).name.partition(".")[0] for file in files[:2])
    return Path("runs") / (re.sub(r"[^\w.+-]+", "-", f"judge-{spec.name}-{stems}") + ".json")
