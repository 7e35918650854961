"""What a stage works with: the recipe's keys, the policies, and the models that it may ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.engines.base import SamplingParams
from safekey.evals.judges.parsers import read_object
from safekey.evals.judges.structured import Fields, reply_schema
from safekey.making import prompting
from safekey.making.config import MakeConfig
from safekey.making.journal import Asker, Job, Progress, why_unusable
from safekey.making.models import Role, sampling
from safekey.making.policies import Policies
from safekey.making.rows import Aside, Row
from safekey.schema import NO_ANSWER, Completion, Message, Prompt


@dataclass
class Work:
    """One stage's surroundings.

    Attributes:
        config: the recipe's keys.
        policies: category → policy.
        asker: asks the models.
        folder: the run's folder.
        stage: "4-deliberate", for journals and reports.
        prompts: prompt file → its sha256, of those that were used.
        progress: called with (stage, done, of).
    """

    config: MakeConfig
    policies: Policies
    asker: Asker
    folder: Path
    progress: Progress
    stage: str = ""
    prompts: dict[str, str] = field(default_factory=dict)

    def messages(self, name: str, untrusted: Mapping[str, str], **trusted: str) -> tuple[Message, ...]:
        """Build messages from a prompt file, and note that it was used; see `prompting.messages`."""
        self.prompts[name] = prompting.load(name).sha256
        return prompting.messages(name, untrusted, **trusted)

    def ask(
        self, role: Role, rows: Sequence[Row], prompts: Sequence[Prompt], params: SamplingParams | None = None,
        part: str = "", schema: Mapping[str, Any] | None = None,
    ) -> list[Completion]:  # fmt: skip
        """Ask a model about each row; replies come in the order of the rows.

        Args:
            role: which model.
            rows: what the questions are about.
            prompts: one for each row.
            params: None: those of the role.
            part: names the journal of a stage that asks more than once.
            schema: the form that the model's server must hold every reply to.
        """
        how = params or sampling(self.config, role)
        jobs = [Job(row.id, prompt, how) for row, prompt in zip(rows, prompts, strict=True)]
        return self.asker.ask(self.stage + part, role, jobs, schema)

    def ask_objects(
        self, rows: Sequence[Row], questions: Sequence[tuple[Message, ...]], fields: Fields, *,
        role: Role = "judge", part: str = "",
    ) -> list[Mapping[str, Any] | Aside]:  # fmt: skip
        """Ask for a JSON object about each row; a reply that is none sets the row aside.

        Args:
            rows: what the questions are about.
            questions: one for each row.
            fields: of the object, with the values that they may have.
            role: which model.
            part: as for `ask`.
        """
        schema = reply_schema(fields) if self.config.structured else None
        replies = self.ask(role, rows, [Prompt(turns) for turns in questions], part=part, schema=schema)
        found: list[Mapping[str, Any] | Aside] = []
        for row, reply in zip(rows, replies, strict=True):
            problem = why_unusable(reply)
            if problem:
                found.append(aside(row, problem if problem.startswith(NO_ANSWER) else f"{role}'s reply {problem}"))
                continue
            read = read_object(reply.text, fields)
            found.append(aside(row, f"{role}'s reply unusable: {read}") if isinstance(read, str) else read)
        return found


def aside(row: Row, reason: str) -> Aside:
    """Set a row aside; one that got no answer is asked about again by the same command."""
    return Aside(row.id, reason, final=not reason.startswith(NO_ANSWER))
