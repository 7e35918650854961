"""Build an item from a benchmark's row: the prompt, the request as a judge is told it, and the gold answer.

Item("math500", "test/precalculus/807.json", Prompt((Message("user", "Convert … \\\\boxed{}."),)), request="Convert …",
     target="\\\\left( 3, \\\\frac{\\\\pi}{2} \\\\right)", category="Precalculus", file="math500.jsonl", row=1)
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safekey.data.formats import RowError
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import (
    COLUMNS,
    NEUTRAL,
    Row,
    column_of,
    columns_found,
    holds,
    plain,
    text_of,
    value_of,
)
from safekey.evals.benchmarks.conversations import parse_conversation
from safekey.evals.benchmarks.roles import NO_ROLES, Roles
from safekey.schema import Message, Prompt

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

ASK_MATH = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
ASK_INTEGER = (
    "{problem}\n\nPlease reason step by step, and put your final answer, an integer from 0 to 999, within \\boxed{{}}."
)
ASK_WHOLE = "{problem}\n\nPlease reason step by step, and put your final answer, an integer, within \\boxed{{}}."
ASK_CHOICE = (
    "{question}\n\n{options}\n\n"
    "Please reason step by step. End your reply with a line of the form 'Answer: X', where X is one option's letter."
)
ASK_CODE = (
    "Complete this Python function. Reply with the whole function in one ```python block.\n\n```python\n{code}\n```"
)

_PLAIN_OR_ATTACK = ("goal", "behavior", "forbidden_prompt", "adversarial_prompt", "jailbreak")  # some, for a message

Table = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a benchmark and what its scoring needs.

    Attributes:
        benchmark: the benchmark's name.
        id: unique within the loaded items of the benchmark; stable from run to run.
        prompt: what the engine gets.
        request: the request as a judge is told it: the plain objective where the row has one, else the prompt's text.
        category: the row's own category, "" for none.
        attack: "none", "prefill-20", "multi-turn", or the row's own word for it.
        target: the gold answer: LaTeX, an integer or a letter; "" where a judge or tests decide.
        behaviour: the behaviour, which several attacks may share; its items are one cluster in statistics. "" until
            `behaviours.behaviours` has seen all rows, where the file gives none.
        metadata: other values that scoring needs (tests, options, the full prefill target).
        file: the file or hub id it came from.
        row: 1-based row number there.
    """

    benchmark: str
    id: str
    prompt: Prompt
    request: str
    category: str = ""
    attack: str = "none"
    target: str = ""
    behaviour: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    file: str = ""
    row: int = 0

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.prompt.messages[-1].content


def build_item(
    benchmark: Benchmark, fields: Row, table: Table, file: str, row: int, seed: int, roles: Roles = NO_ROLES
) -> Item:
    """Build the item of one row, without attacks.

    Args:
        benchmark: the table's row.
        fields: the raw row.
        table: from `columns.named_columns`.
        file: where it comes from.
        row: its 1-based number there.
        seed: shuffles the choices of GPQA.
        roles: which column is asked and which the judge is told, for requests and conversations.

    Raises:
        RowError: the row cannot be used.
    """
    kinds = {"choice": _choice, "code": _code, "math": _math, "conversation": _conversation}
    build = kinds.get(benchmark.kind, _request)
    messages, request, target, metadata = build(fields, table, benchmark, seed, roles)
    texts = {plain(roles.asked), plain(roles.told)}
    category, attack = ([name for name in table[key] if plain(name) not in texts] for key in ("category", "attack"))
    own = text_of(fields, table["id"]) or f"row-{row}"
    return Item(
        benchmark=benchmark.name,
        id=own,
        prompt=Prompt(messages),
        request=request,
        category=text_of(fields, category),
        attack=text_of(fields, attack) or ("multi-turn" if benchmark.kind == "conversation" else "none"),
        target=target,
        behaviour=text_of(fields, table["behaviour"]),
        metadata=metadata,
        file=file,
        row=row,
    )


Built = tuple[tuple[Message, ...], str, str, dict[str, Any]]


def _request(fields: Row, table: Table, benchmark: Benchmark, seed: int, roles: Roles) -> Built:
    if not roles.asked:
        names = table["prompt"] if table["prompt"] != COLUMNS["prompt"] else (*NEUTRAL, *_PLAIN_OR_ATTACK)
        raise _missing("prompt", fields, (*names, *table["conversation"]))
    column = _filled(fields, roles.asked, "prompt")
    if roles.conversation:  # WildChat and SORRY-Bench keep the request in a conversation of one turn
        turns = [turn.content for turn in parse_conversation(fields[column], column) if turn.role == "user"]
        if len(turns) > 1:
            raise RowError(column, f"{len(turns)} user turns: this benchmark asks one; use the benchmark 'multi-turn'")
        prompt = next(iter(turns), "")
        if not prompt:
            raise RowError(column, "no user turn: the model would have nothing to answer")
    else:
        prompt = _words(fields, column)
    metadata: dict[str, Any] = {}
    if benchmark.kind == "prefill":
        metadata["prefill"] = _words(fields, _present(fields, "target", table["target"])).strip()
    request = (text_of(fields, (roles.told,)) if roles.told else "") or prompt
    context = text_of(fields, table["context"]) if benchmark.pick == "harmbench" else ""
    # HarmBench's own layout of a contextual behaviour.
    asked = f"{context}\n\n---\n\n{prompt}" if context and context.strip() not in prompt else prompt
    return (Message("user", asked),), request, "", metadata


def _conversation(fields: Row, table: Table, benchmark: Benchmark, seed: int, roles: Roles) -> Built:
    if not roles.asked:
        raise _missing("conversation", fields, table["conversation"])
    column = _filled(fields, roles.asked, "conversation")
    turns = parse_conversation(fields[column], column)
    metadata: dict[str, Any] = {}
    if turns and turns[-1].role == "assistant":  # a whole record: the model under test shall give its last reply
        turns, metadata["dropped_reply"] = turns[:-1], turns[-1].content
    if not turns or turns[-1].role != "user":
        raise RowError(column, "no user turn at the end: the model would have nothing to answer")
    request = text_of(fields, (roles.told,)) if roles.told else ""
    if not request:
        raise RowError("objective", "no objective: a judge has to be told what the whole conversation asks for")
    return turns, request, "", metadata


def _math(fields: Row, table: Table, benchmark: Benchmark, seed: int, roles: Roles) -> Built:
    from safekey.evals.answers.exact import last_boxed

    problem = _words(fields, _present(fields, "problem", table["problem"]))
    gold = text_of(fields, table["answer"]) or last_boxed(text_of(fields, table["solution"])) or ""
    if not gold:
        raise _missing("answer", fields, (*table["answer"], *table["solution"]))
    ask = ASK_MATH
    if benchmark.scoring == "integer":
        ask = ASK_WHOLE if benchmark.own else ASK_INTEGER
        gold = _whole(gold, column_of(fields, table["answer"]) or "answer", any_size=bool(benchmark.own))
    metadata = {name: fields[name] for name in ("level", "year", "url") if name in fields}
    return (Message("user", ask.format(problem=problem.strip())),), problem, gold, metadata


def _whole(gold: str, column: str, *, any_size: bool) -> str:
    """Return a gold integer as digits: of AIME 0 to 999; of any size also from "-1,200" and "so … #### 72"."""
    said = gold.strip().strip("$").removesuffix(".0")
    if any_size:
        said = said.rpartition("####")[2].strip().replace("−", "-")
        if re.fullmatch(r"-?\d{1,3}(,\d{3})+", said):
            said = said.replace(",", "")
        if not re.fullmatch(r"-?\d{1,300}", said):
            raise RowError(column, f"no integer: found {gold!r:.60}; decimals and formulas are of the kind 'math'")
    elif not re.fullmatch(r"\d{1,3}", said):
        raise RowError(column, f"no AIME answer: {said!r:.60} is not 0 to 999")
    return str(int(said))


def _choice(fields: Row, table: Table, benchmark: Benchmark, seed: int, roles: Roles) -> Built:
    question = _words(fields, _present(fields, "question", question_names(table)))
    options, gold = _options(fields, table, question, seed)
    lines = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    metadata = {"options": options, "letters": LETTERS[: len(options)]}
    ask = ASK_CHOICE.format(question=question.strip(), options=lines)
    return (Message("user", ask),), question, LETTERS[gold], metadata


def _options(fields: Row, table: Table, question: str, seed: int) -> tuple[list[str], int]:
    """Return the options in the order shown, and the right one's place."""
    column = column_of(fields, table["options"])
    wrong = [text_of(fields, (name,)).strip() for name in table["incorrect"]]
    right = text_of(fields, table["answer"]).strip()
    if column is None:
        if not right or not all(wrong):
            raise _missing("options", fields, (*table["options"], "Correct Answer with Incorrect Answer 1 to 3"))
        options = [right, *wrong]
        # Seeded by the question, too, so that its order does not depend on its place in the file.
        random.Random(f"{seed}:{text_of(fields, table['id']) or question}").shuffle(options)  # noqa: S311
        return options, options.index(right)
    options = [str(option).strip() for option in _list(fields[column], column)]
    if not 2 <= len(options) <= len(LETTERS):
        raise RowError(column, f"no choice: {len(options)} options")
    index = text_of(fields, table["answer_index"]).removesuffix(".0")
    if len(right) == 1 and right in LETTERS[: len(options)]:
        place = LETTERS.index(right)
    elif index.isdecimal() and int(index) < len(options):
        place = int(index)
    elif options.count(right) == 1:
        place = options.index(right)
    else:
        raise RowError(
            column_of(fields, table["answer"]) or "answer", f"no right option: {right!r:.60} is none of them"
        )
    return options, place


def _code(fields: Row, table: Table, benchmark: Benchmark, seed: int, roles: Roles) -> Built:
    found = {what: text_of(fields, table[what]) for what in ("code", "test", "entry_point")}
    for what, value in found.items():
        if not value:
            raise _missing("prompt" if what == "code" else what, fields, table[what])
    if not found["entry_point"].isidentifier():
        raise RowError("entry_point", f"not a function's name: {found['entry_point']!r:.60}")
    metadata = {"code": found["code"], "test": found["test"], "entry_point": found["entry_point"]}
    if canonical := text_of(fields, table["canonical"]):
        metadata["canonical_solution"] = canonical
    return (Message("user", ASK_CODE.format(code=found["code"].strip("\n"))),), found["code"], "", metadata


def _list(value: Any, column: str) -> list[Any]:
    """Return a list; CSV files hold it as JSON or as a Python literal."""
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if not isinstance(value, list | tuple):
        raise RowError(column, f"not a list of options: found {value!r:.60}")
    return list(value)


def question_names(table: Table) -> tuple[str, ...]:
    """Return the columns that may hold a multiple-choice question: "question" first, unless the user names another."""
    named = table["prompt"] != COLUMNS["prompt"]
    return (*table["prompt"], "question") if named else ("question", *NEUTRAL)


def _present(fields: Row, what: str, names: tuple[str, ...]) -> str:
    """Return the first of these columns that the row has; where it is empty, no other column takes its place."""
    own = {plain(str(name)): str(name) for name in fields}
    column = next((own[plain(name)] for name in names if plain(name) in own), None)
    if column is None:
        raise _missing(what, fields, names)
    return _filled(fields, column, what)


def _filled(fields: Row, column: str, what: str) -> str:
    """Return the column, which must hold a value: another column never takes its place."""
    if column not in fields:
        raise RowError(
            column, f"missing {what}: other rows have it in '{column}'; the row has {columns_found([fields])}"
        )
    if not holds(fields[column]):
        found = "null" if fields[column] is None else repr(fields[column])
        raise RowError(
            column, f"no {what}: expected text in '{column}', found {found:.60}; no other column is asked instead"
        )
    return column


def _words(fields: Row, column: str) -> str:
    value = value_of(fields, (column,))
    if not isinstance(value, str):
        raise RowError(column, f"not text: expected a string, found {type(value).__name__}")
    return value


def _missing(what: str, fields: Row, names: tuple[str, ...]) -> RowError:
    return RowError(what, f"missing {what}: expected one of {', '.join(names)}; the row has {columns_found([fields])}")
