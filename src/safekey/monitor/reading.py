"""From a conversation and the thinking so far to the tokens that the heads read: X and U, and nothing behind U

    read(chat, (Message("user", "How do I pick the royal vault?"),), "The user asks how to pick the royal vault.")
    -> Reading(ids=(0, 2, 548, …, 5, 216, …, 12), query_end=13)     X = ids[:13], U = ids[13:]

The tokens are those of the prompt as inference sends it, then those of U alone. What stands behind U is not part of
them, so no score can depend on it, and a score made while the model writes equals one made later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safekey.errors import UserError
from safekey.schema import Message
from safekey.text.chat import ChatFormat, Rendered, literal_ranges, tokenize, tokenize_after
from safekey.text.thinking import split_thinking


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of one response.

    Attributes:
        ids: the tokens of X, then those of U.
        query_end: how many of them are X; the opener of the thinking belongs to it. All of them: there is no U.
    """

    ids: tuple[int, ...]
    query_end: int


def read(chat: ChatFormat, messages: Sequence[Message], understanding: str) -> Reading:
    """Render X and U to tokens.

    Args:
        chat: the model's chat format.
        messages: the turns before the response.
        understanding: U's text; "" for none.

    Raises:
        UserError: the template cannot render these turns.
    """
    prompt = chat.render(tuple(messages))
    prompt_ids = tokenize(chat.tokenizer, prompt)[0]
    text, start = chat.opener + understanding.strip(), len(chat.opener)
    literal = tuple(literal_ranges(chat, text[start:], start))
    ids, offsets = tokenize_after(chat.tokenizer, prompt, prompt_ids, Rendered(text, literal))
    firsts = [next((at for at in range(*span) if not text[at].isspace()), -1) for span in offsets]
    inside = next((number for number, at in enumerate(firsts) if at >= start), len(ids))
    return Reading((*prompt_ids, *ids), len(prompt_ids) + inside)


def turns_of(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """Return the turns before the response, and the response's thinking.

    Args:
        messages: a conversation that ends with the assistant's turn, whose `thinking` is read, else the thinking in its
            content, between tags; or with the user's, and then there is no thinking yet.

    Raises:
        UserError: there is no turn, or no user's turn.
    """
    turns = tuple(messages)
    thinking = ""
    if turns and turns[-1].role == "assistant":
        last, turns = turns[-1], turns[:-1]
        thinking = last.thinking or ""
        if last.thinking is None:
            thinking = split_thinking(last.content, started_inside=False).thinking
    if not any(turn.role == "user" for turn in turns):
        raise UserError("nothing to score: expected turns with a user's one, found " + (str(len(turns)) or "none"))
    return turns, thinking
