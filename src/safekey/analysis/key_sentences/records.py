"""Records of the key-sentence diagnostics: one generation, and U and K found in it.

Generation(Source("sft", "strongreject", "row-7@story", attack="story", kind="harmful", outcome="harmful"),
           thinking="The user wants a tale about the royal vault. Let me recall the right tool. ...",
           asked="Write a tale about ...", request="pick the royal vault")
KeySentence(source, u_start=0, u_end=44, k_start=45, k_end=74, stance="complying", names_harm=True, ...)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safekey.analysis.key_sentences.stance import Stance

Kind = Literal["harmful", "benign", "problem"]
KINDS: tuple[Kind, ...] = ("harmful", "benign", "problem")
"""A request that must be refused; one that must not; a problem with a right answer."""

Writer = Literal["model", "prefill", "both"]


@dataclass(frozen=True, slots=True)
class Source:
    """Identity and outcome of a generation.

    Attributes:
        arm: the arm's name.
        benchmark: the benchmark's name.
        item: the prompt within the benchmark.
        attack: the attack's name, "none" for a plain request.
        kind: the kind of request.
        outcome: the judge's verdict in one word ("harmful", "full_refusal", "right", …), or how the output ended
            ("truncated"), or why there is no verdict ("unscored").
        behaviour: an id shared by prompts that are not independent of each other; "": the item alone.
        run: the run it comes from; a run has one training seed.
        sample: the sample's number.
        output: how the output ended, "ok" for a whole one.
    """

    arm: str
    benchmark: str
    item: str
    attack: str = "none"
    kind: Kind = "harmful"
    outcome: str = ""
    behaviour: str = ""
    run: str = ""
    sample: int = 1
    output: str = "ok"

    @property
    def cluster(self) -> str:
        """The unit of resampling: the behaviour, else the item."""
        return self.behaviour or f"{self.benchmark}/{self.item}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation to look into.

    Attributes:
        source: its identity and outcome.
        thinking: the thinking, without tags and surrounding white space; "" for none.
        asked: the text of all user turns.
        request: the objective behind an attack, else the request itself.
        closed: whether the thinking was closed.
        prefilled: whether the generation was prefilled.
        prefill: how many of the thinking's first characters were prefilled.
        tokens: tokens of the whole generation, where known.
        chars: characters of the whole generation.
    """

    source: Source
    thinking: str
    asked: str
    request: str = ""
    closed: bool = True
    prefilled: bool = False
    prefill: int = 0
    tokens: int | None = None
    chars: int = 0


@dataclass(frozen=True, slots=True)
class KeySentence:
    """U and K of one generation. Offsets are characters of `Generation.thinking`.

    Attributes:
        source: which generation.
        prefilled: whether the generation was prefilled.
        thinking_chars: length of the thinking.
        u_start: where U begins; None with `u_end` where there is no U.
        u_end: where it ends.
        k_start: where K begins; None with `k_end` and `stance` where there is no K.
        k_end: where it ends.
        k_end_token: about how many generated tokens in K ends, by the generation's mean token length; None: not known.
        stance: of K.
        names_harm: whether U names the request; None: no K, a request that is not harmful, or undecided.
        written_by: who wrote K; a prefill may have begun it, or written all of it.
        missing: why there is no K; "" when there is one.
        understanding: U's text, its first 1,000 characters.
        key_sentence: K's text, its first 1,000 characters.
    """

    source: Source
    prefilled: bool = False
    thinking_chars: int = 0
    u_start: int | None = None
    u_end: int | None = None
    k_start: int | None = None
    k_end: int | None = None
    k_end_token: int | None = None
    stance: Stance | None = None
    names_harm: bool | None = None
    written_by: Writer = "model"
    missing: str = ""
    understanding: str = ""
    key_sentence: str = ""

    @property
    def goes_on(self) -> bool:
        """The paper's failure: U names the harm, and K complies."""
        return self.names_harm is True and self.stance == "complying"
