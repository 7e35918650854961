"""Ask a model for many rows: each reply is appended to a journal as it comes, so that a kill costs no reply.

One line of `journal/4-deliberate.jsonl`; the key is a hash of the model's name, the messages and the settings::

    {"key": "5f2c…", "id": "requests:7", "text": "<think>\\n…", "finish": "stop", "prefill": "", "inside": false,
     "error": "", "tokens_in": 512, "tokens_out": 803, "counted": true}

A reply that did not come (the server was busy or away) is not written, and is asked for again by the same command.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safekey.data.write import append_record, open_for_append, read_records
from safekey.engines import Engine
from safekey.engines.base import SamplingParams
from safekey.making.models import Models, Role
from safekey.run_folder.records import write
from safekey.schema import NO_ANSWER, Completion, Prompt
from safekey.text.outputs import classify_output

Progress = Callable[[str, int, int], None]
_SURROGATE = re.compile("[\ud800-\udfff]")
LETTERS_A_TOKEN = 4
"""Letters in a token, for what no server counts."""


@dataclass(frozen=True, slots=True)
class Job:
    """One question to a model, and the row that it is about."""

    id: str
    prompt: Prompt
    params: SamplingParams


@dataclass
class Spent:
    """What the replies of one role cost.

    Attributes:
        calls: replies; one that was asked for again after a failure counts once.
        tokens_in, tokens_out: their tokens.
        counted: whether a tokenizer or the server counted all of them; False: some are letters divided by four.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    counted: bool = True


class Asker:
    """Asks the models of a run, and keeps every reply.

    Attributes:
        spent: role → what its replies cost.
    """

    def __init__(self, folder: Path, models: Models, names: Mapping[Role, str], progress: Progress) -> None:
        """Make it; nothing is opened or read.

        Args:
            folder: for the journals.
            models: opened when there is something to ask.
            names: role → the model's name, part of a reply's key.
            progress: called with (stage, replies there, replies wanted).
        """
        self._folder, self._models, self._names, self._progress = folder, models, names, progress
        self.spent: dict[Role, Spent] = {}

    def ask(
        self, journal: str, role: Role, jobs: Sequence[Job], schema: Mapping[str, Any] | None = None
    ) -> list[Completion]:
        """Ask about every row that the journal has no reply for; return the replies in the order of the jobs.

        Two jobs with the same question get one reply. After the last one the journal is written anew in the order of
        the jobs, so that it does not depend on which reply came first. With a schema the model's server holds it to
        that form; it is part of the question.

        Raises:
            UserError: the model cannot be opened, or the journal cannot be written.
        """
        path = self._folder / f"{journal}.jsonl"
        records = read_records(path)
        keys = [self._key(role, job, schema) for job in jobs]
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if key not in records}
        passing: dict[str, Completion] = {}
        if missing:
            self._generate(path, self._models.engine(role, schema), missing, records, passing, journal, len(set(keys)))
        self._settle(path, records, keys)
        self._count(role, [records[key] for key in dict.fromkeys(keys) if key in records])
        return [_completion(records[key]) if key in records else passing[key] for key in keys]

    def _generate(
        self, path: Path, engine: Engine, missing: Mapping[str, Job], records: dict[str, Any],
        passing: dict[str, Completion], stage: str, wanted: int,
    ) -> None:  # fmt: skip
        keys, jobs = list(missing), list(missing.values())
        done = wanted - len(missing)
        self._progress(stage, done, wanted)
        with open_for_append(path) as file:
            replies = engine.generate([job.prompt for job in jobs], [job.params for job in jobs])
            for index, completion in replies:
                if completion.finish == "error" and completion.error.startswith(NO_ANSWER):
                    passing[keys[index]] = completion
                else:
                    record = _record(keys[index], jobs[index], completion)
                    append_record(file, record)
                    records[keys[index]] = record
                done += 1
                self._progress(stage, done, wanted)

    def _key(self, role: Role, job: Job, schema: Mapping[str, Any] | None) -> str:
        turns = [[turn.role, turn.content] for turn in job.prompt.messages]
        prefill = [job.prompt.prefill, job.prompt.prefill_answer]
        asked = [self._names.get(role, ""), turns, prefill, job.params.to_dict()]
        parts = json.dumps([*asked, schema] if schema else asked)
        return hashlib.sha256(parts.encode()).hexdigest()

    def _settle(self, path: Path, records: Mapping[str, Any], keys: Sequence[str]) -> None:
        """Write the journal in the order of the jobs; replies to other questions (of other settings) follow."""
        used = [key for key in dict.fromkeys(keys) if key in records]
        order = [*used, *sorted(records.keys() - set(used))]
        text = "".join(json.dumps(records[key], ensure_ascii=False) + "\n" for key in order)
        if text:
            write(path, text)

    def _count(self, role: Role, records: Sequence[Mapping[str, Any]]) -> None:
        spent = self.spent.setdefault(role, Spent())
        for record in records:
            spent.calls += 1
            spent.tokens_in += int(record["tokens_in"])
            spent.tokens_out += int(record["tokens_out"])
            spent.counted = spent.counted and bool(record["counted"])


def why_unusable(completion: Completion) -> str:
    """Return why a reply cannot be used, "" for one that can; counts take the words before the first colon."""
    state = classify_output(completion)
    if state == "error":
        error = completion.error
        return error if error.startswith(NO_ANSWER) else f"refused by the server: {error}"
    return {
        "filtered": "withheld: the provider withheld the reply",
        "truncated": "cut off: the reply reached the token limit",
        "degenerate": "loop: the reply repeats itself to its end",
        "unclosed": "cut off: the reply ends inside its thinking",
        "empty": "empty: the reply has no answer",
    }.get(state, "")


def _record(key: str, job: Job, completion: Completion) -> dict[str, Any]:
    text = completion.text
    if _SURROGATE.search(text):  # half a character: no file of text can hold it
        broken = "the reply holds characters that are no text"
        completion = replace(completion, text="", finish="error", error=broken)
    ids, out = completion.prompt_ids, completion.output_tokens
    letters = sum(len(turn.content) for turn in job.prompt.messages) + len(job.prompt.prefill)
    return {
        "key": key, "id": job.id, "text": completion.text, "finish": completion.finish, "prefill": completion.prefill,
        "inside": completion.started_inside, "error": _SURROGATE.sub("\ufffd", completion.error),
        "tokens_in": letters // LETTERS_A_TOKEN if ids is None else len(ids),
        "tokens_out": len(text) // LETTERS_A_TOKEN if out is None else out,
        "counted": ids is not None and out is not None,
    }  # fmt: skip


def _completion(record: Mapping[str, Any]) -> Completion:
    return Completion(
        str(record["text"]), record["finish"], str(record["prefill"]), bool(record["inside"]),
        error=str(record["error"]), output_tokens=int(record["tokens_out"]),
    )  # fmt: skip
