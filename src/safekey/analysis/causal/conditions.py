"""The conditions of the experiment: which thinking a model is made to have written before it goes on by itself.

condition            the thinking so far
none                 (nothing: the model's own response, from which its U, K and R are taken)
own                  U K
refusing             U K'               K' is the row's refusing key sentence
complying            U K''              K'' is its complying one
refusing at start    K' U               controls: the same sentence where it is no key sentence:
complying at start   K'' U              before the understanding,
refusing behind R    U K R K'           and at the end of the thinking
complying behind R   U K R K''
"""

from __future__ import annotations

from dataclasses import dataclass

from safekey.analysis.causal.keys import Keys
from safekey.analysis.key_sentences.find import find_key_sentence
from safekey.analysis.key_sentences.records import Generation, GenerationSource
from safekey.schema import Completion, Prompt
from safekey.text.outputs import classify_output
from safekey.text.thinking import split_completion

NATURAL = "none"
OWN = "own"
SIDES = ("refusing", "complying")
PLACES = ("", " at start", " behind R")
FORCED = (OWN, *(f"{side}{place}" for place in PLACES for side in SIDES))
"""The conditions in which the model goes on after a thinking that it was given."""

CONDITIONS = (NATURAL, *FORCED)


@dataclass(frozen=True, slots=True)
class Own:
    """The model's own response to a request, in its parts.

    Attributes:
        thinking: the whole thinking, without tags.
        understanding: U.
        key: K.
        stance: of K.
        gap: the white space between them.
    """

    thinking: str
    understanding: str
    key: str
    stance: str
    gap: str = " "


def own_parts(keys: Keys, completion: Completion) -> Own | str:
    """Return the parts of the model's own response, or why it has none."""
    parts = split_completion(completion)
    output = classify_output(completion, parts)
    asked = "\n".join(turn.content for turn in keys.messages if turn.role == "user")
    source = GenerationSource("", "", keys.id, output=output)
    found = find_key_sentence(Generation(source, parts.thinking, asked, keys.request, parts.state == "closed"))
    if found.u_end is None or found.k_start is None or found.k_end is None:
        return found.missing or "begins with K"
    if parts.state != "closed":
        return f"thinking not closed ({output})"
    thinking = parts.thinking
    begin = found.u_start or 0
    return Own(
        thinking=thinking,
        understanding=thinking[begin : found.u_end],
        key=thinking[found.k_start : found.k_end],
        stance=str(found.stance),
        gap=thinking[found.u_end : found.k_start] or " ",
    )


def prompt_for(condition: str, keys: Keys, own: Own | None = None) -> Prompt:
    """Return what the engine continues; every condition but "none" needs the model's own parts."""
    if condition == NATURAL or own is None:
        return Prompt(keys.messages)
    side, _, place = condition.partition(" ")
    sentence = {OWN: own.key, "refusing": keys.refusing, "complying": keys.complying}[side]
    thinking = {
        "": f"{own.understanding}{own.gap}{sentence}",
        "at start": f"{sentence}{own.gap}{own.understanding}",
        "behind R": f"{own.thinking}{own.gap}{sentence}",
    }[place]
    return Prompt(keys.messages, prefill=thinking)
