"""`safekey data inspect`: print rows with X, U, K, R and the answer in different colours, and count their tokens.

Everything printed comes from data or a tokenizer and is untrusted: it goes through `printable`, and into rich's `Text`,
which reads no markup.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from safekey.data import segment
from safekey.errors import UserError
from safekey.hub import hub_reachable, local_note
from safekey.schema import CLOSE_TAG, THINK_CLOSE, THINK_OPEN, Example
from safekey.terminal import printable

# tag → what it is, and its style
PARTS = {
    "X": ("query", "cyan"),
    "U": ("understanding", "green"),
    "K": ("key sentence", "bold yellow"),
    "R": ("rest of the thinking", "blue"),
    "A": ("answer", "magenta"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a row: its tag (a key of `PARTS`), its text, and its tokens, if they are known."""

    tag: str
    text: str
    tokens: int | None = None


def print_rows(
    console: Console, examples: Sequence[Example], tokenizer: Any = None, max_length: int = 0
) -> list[dict[str, Any]]:
    """Print rows, and return them as JSON values.

    Args:
        console: where to.
        examples: the rows; U and K are found by the rule where a row does not give them.
        tokenizer: counts tokens; None: parts are cut by characters.
        max_length: tokens, as in training.

    Raises:
        UserError: the tokenizer's chat template cannot be used.
    """
    from safekey.training.encoding import EncodeError, check_chat_template

    if tokenizer:
        check_chat_template(tokenizer)
    console.print(_legend(console), soft_wrap=True)
    rows = []
    for example in map(segment, examples):
        about = {"row": example.row, "id": example.id, "harmful": example.harmful, "spans_by": example.span_source}
        try:
            parts, notes = _token_parts(example, tokenizer, max_length) if tokenizer else (character_parts(example), [])
        except EncodeError as error:
            console.print(Text(f"\n{printable(str(error))}", style="red"), soft_wrap=True)
            rows.append({**about, "error": str(error)})
            continue
        _print_row(console, example, parts, notes)
        rows.append({**about, "parts": [asdict(part) for part in parts], "notes": notes})
    return rows


def character_parts(example: Example) -> list[Part]:
    """Split a segmented row by its character offsets; the opening `<think>` belongs to X."""
    response = example.response
    turns = "\n".join(f"{turn.role}: {turn.content}" for turn in example.prompt)
    start = len(THINK_OPEN)
    understanding_end = example.understanding_end or start
    key_end = max(example.key_sentence_end or 0, understanding_end)
    close = response.find(CLOSE_TAG)
    answer = max(key_end, len(response) if close < 0 else close + len(THINK_CLOSE.strip()))
    pieces = [
        Part("X", f"{turns}\n{THINK_OPEN}"),
        Part("U", response[start:understanding_end]),
        Part("K", response[understanding_end:key_end]),
        Part("R", response[key_end:answer]),
        Part("A", response[answer:]),
    ]
    return [part for part in pieces if part.text]


def load_tokenizer(model: str) -> Any:
    """Load a model's tokenizer.

    Raises:
        UserError: it cannot be loaded.
    """
    if not Path(model).is_dir():
        hub_reachable()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model)
    except Exception as error:  # whatever a broken file makes the library raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        note = "" if Path(model).is_dir() else local_note()
        raise UserError(f"--model {model}: its tokenizer cannot be loaded: {note}{first_line}") from error


def _token_parts(example: Example, tokenizer: Any, max_length: int) -> tuple[list[Part], list[str]]:
    """Split an encoded row by its token spans, and note where a token reaches over a border."""
    from safekey.training.encoding import encode

    encoded = encode(example, tokenizer, max_length)
    ids, spans = list(encoded.input_ids), encoded.spans
    tags = ["R"] * len(ids)
    for tag, span in (("X", spans.query), ("U", spans.understanding), ("K", spans.key_sentence)):
        tags[span] = [tag] * len(ids[span])
    after = max(spans.query.stop, spans.understanding.stop, spans.key_sentence.stop)
    first_answer = _answer_start(example, ids, after, tokenizer)
    tags[first_answer:] = ["A"] * (len(ids) - first_answer)
    parts = []
    start = 0
    for tag, group in groupby(tags):
        count = len(list(group))
        parts.append(Part(tag, _decode(tokenizer, ids[start : start + count]), count))
        start += count
    notes = [
        note
        for name, span, text in (
            ("U", spans.understanding, example.understanding),
            ("K", spans.key_sentence, example.key_sentence),
        )
        if (note := _straddle_note(name, ids[span], text, tokenizer))
    ]
    return parts, notes


def _answer_start(example: Example, ids: list[int], after: int, tokenizer: Any) -> int:
    """Return the index of the first token after the end of the thinking, by its marker or else by the answer's text."""
    rest = _decode(tokenizer, ids[after:])
    close = rest.find(CLOSE_TAG)
    answer = example.response.partition(CLOSE_TAG)[2].strip()
    length = close + len(CLOSE_TAG) if close >= 0 else max(rest.rfind(answer), 0)
    if (example.key_sentence_end or 0) > example.response.find(CLOSE_TAG):
        return after  # K lies in the answer: what follows is answer too
    if close < 0 and length == 0:
        return len(ids)  # cut off before the answer
    # Decoding is not additive over tokens, but a longer prefix never gets shorter, so the place can be bisected.
    return after + bisect_left(
        range(len(ids) - after), length, key=lambda n: len(_decode(tokenizer, ids[after : after + n]))
    )


def _straddle_note(name: str, ids: list[int], text: str, tokenizer: Any) -> str:
    """Say which tokens of a span hold characters beyond it; "" when the tokens are exactly the span."""
    decoded = _decode(tokenizer, ids).strip()
    if not ids or decoded == text:
        return ""
    return f"a token straddles a border of {name}: in tokens it reads {_ends(decoded)}, its text is {_ends(text)}"


def _ends(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:25]} … {text[-30:]}")


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _tagged(console: Console) -> bool:
    """Whether parts need text tags, because there are no colours: a pipe, NO_COLOR, or a dumb terminal."""
    return console.no_color or console.color_system is None


def _legend(console: Console) -> Text:
    legend = Text()
    for tag, (name, style) in PARTS.items():
        legend.append(f"[{tag}] {name}  " if _tagged(console) else f" {tag} {name} ", style=style)
    return legend


def _print_row(console: Console, example: Example, parts: list[Part], notes: list[str]) -> None:
    label = {True: "harmful", False: "benign", None: "unlabelled"}[example.harmful]
    title = f"\nrow {example.row} (id {example.id}) · {label} · U and K: {example.span_source}"
    counts: Counter[str] = Counter()
    for part in parts:
        counts[part.tag] += part.tokens or 0
    if counts.total():
        title += f" · {counts.total()} tokens: " + ", ".join(f"{tag} {counts[tag]}" for tag in PARTS)
    console.print(Text(printable(title), style="bold"), soft_wrap=True)
    body = Text()
    for part in parts:
        text = printable(part.text)
        if _tagged(console):
            if not text.strip():
                continue
            text = f"[{part.tag}] {text.strip()}\n"
        body.append(text, style=PARTS[part.tag][1])
    body.rstrip()
    console.print(body, soft_wrap=True)
    for note in notes:
        console.print(Text(printable(f"note: {note}"), style="red"), soft_wrap=True)
