"""The stage `self`: the model that will be trained writes both parts, so that the rows stay in its own distribution.

After ThinkSafe (arXiv 2601.23143): a harmful request is put to it with a note that steers it to refuse; a benign one
is put to it as it is. The note is in no row. `thinking: opened` is for models that do not think by themselves: their
thinking is opened and closed for them, in two exact continuations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safekey.making.config import RULE
from safekey.making.journal import why_unusable
from safekey.making.models import sampling
from safekey.making.prompting import mark_of
from safekey.making.replies import finish, read_reply, refuses
from safekey.making.rows import Aside, Outcome, Row
from safekey.making.work import Work, aside
from safekey.schema import CLOSE_TAG, THINK_CLOSE, THINK_OPEN, Message, Prompt

Written = tuple[str, str] | Aside


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Let the model write thinking and answer of every request.

    Raises:
        UserError: the model cannot be opened, or its server cannot continue an opened thinking exactly.
    """
    unlabelled = [aside(row, "no label: put classify before self") for row in rows if not row.label]
    rows = [row for row in rows if row.label]
    prompts = [Prompt((Message("user", _asked(row, work)),)) for row in rows]
    written = _opened(rows, prompts, work) if work.config.thinking == "opened" else _own(rows, prompts, work)
    done = (_checked(row, read, work) for row, read in zip(rows, written, strict=True))
    return Outcome.split([*unlabelled, *done])


def _asked(row: Row, work: Work) -> str:
    """Return what the model is asked: the request, for a harmful one between marks and below the note."""
    if row.label == "benign":
        return row.question
    return "\n\n".join(turn.content for turn in work.messages("self_harmful", {"request": row.question}))


def _own(rows: Sequence[Row], prompts: Sequence[Prompt], work: Work) -> list[Written]:
    replies = work.ask("model", rows, prompts)
    return [read_reply(row, reply) for row, reply in zip(rows, replies, strict=True)]


def _opened(rows: Sequence[Row], prompts: Sequence[Prompt], work: Work) -> list[Written]:
    """Ask twice: for the thinking up to its end, and for the answer behind it."""
    how = sampling(work.config, "model")
    first = [replace(prompt, prefill=THINK_OPEN, prefill_answer=True) for prompt in prompts]
    short = replace(how, max_new_tokens=work.config.think_tokens, stop=(CLOSE_TAG,))
    written: list[Written] = []
    for row, reply in zip(rows, work.ask("model", rows, first, short, "-thinking"), strict=True):
        problem = why_unusable(replace(reply, started_inside=False, prefill="", text=reply.text or " "))
        thinking = reply.text.replace(CLOSE_TAG, "").strip()
        if problem and not problem.startswith("empty"):
            written.append(aside(row, problem))
        elif not thinking:
            written.append(aside(row, "no thinking: the model ends its thinking at once"))
        else:
            written.append((thinking, ""))
    open_rows = [(row, prompt, read[0]) for row, prompt, read in zip(rows, prompts, written, strict=True)
                 if not isinstance(read, Aside)]  # fmt: skip
    second = [replace(prompt, prefill=THINK_OPEN + thought + THINK_CLOSE, prefill_answer=True)
              for _, prompt, thought in open_rows]  # fmt: skip
    replies = work.ask("model", [row for row, _, _ in open_rows], second, how, "-answer")
    answers: dict[str, Written] = {}
    for (row, _, thought), reply in zip(open_rows, replies, strict=True):
        problem = why_unusable(replace(reply, started_inside=False, prefill=""))
        answers[row.id] = aside(row, problem) if problem else (thought, reply.text.strip())
    return [answers.get(row.id, read) for row, read in zip(rows, written, strict=True)]


def _checked(row: Row, read: Written, work: Work) -> Row | Aside:
    if isinstance(read, Aside):
        return read
    if row.label == "benign":
        return finish(row, *read, [])
    turns = work.messages("self_harmful", {"request": row.question})
    done = finish(row, *read, [turns[0].content], mark=mark_of({"request": row.question}))
    if isinstance(done, Row) and work.config.judge == RULE and not refuses(row.question, read[1]):
        return aside(row, "not refused: no refusing phrase in the answer to a harmful request")
    return done
