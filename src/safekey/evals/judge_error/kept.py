"""What a run folder keeps of its judges' errors: copies of records, and labels of its answers by the hash alone.

judge-error/harm_1to5-5d1f3c2a9b7e.json    a record, as `safekey judges validate` wrote it
judge-error/labels.jsonl                   {"completion": "77ab…", "kind": "harm", "part": "answer", "label": true,
                                            "stratum": ""}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from safekey.errors import UserError
from safekey.evals.judge_error.correct import ByCompletion, KnownErrors, Label
from safekey.evals.judge_error.record import JudgeRecord, read_record, same_judge
from safekey.evals.records.folder import JUDGE_ERROR
from safekey.run_folder import write, write_json

LABELS = "labels.jsonl"

Kept = Mapping[tuple[str, str], ByCompletion]


def kept_errors(folder: Path) -> KnownErrors:
    """Return what a run folder keeps; nothing for a run without it.

    Raises:
        UserError: a file there is damaged.
    """
    home = folder / JUDGE_ERROR
    records = tuple(read_record(file) for file in sorted(home.glob("*.json")))
    return KnownErrors(records, _labels(home / LABELS))


def keep_errors(folder: Path, known: KnownErrors) -> None:
    """Add records and labels to a run folder: a later record of a judge, or label of an answer, replaces the earlier.

    Raises:
        UserError: the folder cannot be written.
    """
    if not known:
        return
    home, before = folder / JUDGE_ERROR, kept_errors(folder)
    try:
        home.mkdir(exist_ok=True)
        for record in known.records:
            place = home / _name(record)
            write_json(place, record.document)
            for other in before.records:
                if same_judge(other.key, record.key) and Path(other.name) != place:
                    Path(other.name).unlink(missing_ok=True)
        if known.labels:
            _write_labels(home / LABELS, joined(before, known).labels)
    except OSError as error:
        raise UserError(f"{home}: cannot be written: {error.strerror}") from error


def _name(record: JudgeRecord) -> str:
    digest = hashlib.sha256(json.dumps(asdict(record.key), sort_keys=True).encode()).hexdigest()
    return f"{record.key.judge}-{digest[:12]}.json"


def _write_labels(path: Path, labels: Kept) -> None:
    rows = (
        {"completion": completion, "kind": kind, "part": part, "label": label.positive, "stratum": label.stratum}
        for (kind, part), found in sorted(labels.items())
        for completion, label in sorted(found.items())
    )
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _labels(path: Path) -> dict[tuple[str, str], dict[str, Label]]:
    found: dict[tuple[str, str], dict[str, Label]] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            label = Label(bool(row["label"]), str(row.get("stratum", "")))
            found.setdefault((str(row["kind"]), str(row["part"])), {})[str(row["completion"])] = label
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: is no label ({type(error).__name__}): delete the file") from error
    return found


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__})") from error


def joined(one: KnownErrors, other: KnownErrors) -> KnownErrors:
    """Return both together; what `other` knows of a judge or an answer goes before."""
    own = [record for record in one.records if not any(same_judge(record.key, new.key) for new in other.records)]
    keys = {*one.labels, *other.labels}
    labels = {key: {**one.labels.get(key, {}), **other.labels.get(key, {})} for key in keys}
    return KnownErrors((*own, *other.records), labels)
