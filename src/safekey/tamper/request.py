"""What `safekey tamper` does: the options, each declared once, and the states of an arm that they make.

states(request)  -> State("untouched"), State("ablation-all", layer="all"), State("step-5", step=5), State("step-10", …)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from safekey.errors import UserError
from safekey.evals.request import EvalRequest
from safekey.options import check_ranges, numbers, option, words

_tuned = partial(option, group="a few steps of fine-tuning (docs/weight-attacks.md)")
_removed = partial(option, group="removal of the refusal direction (docs/weight-attacks.md)")

UNTOUCHED = "untouched"


@dataclass(frozen=True, kw_only=True)
class TamperOptions:
    """How the weights are attacked.

    Raises:
        UserError: a number is out of its range, or options do not go together.
    """

    comply: str | None = _tuned(
        "rows of requests and answers that comply, in any layout of training data", metavar="FILE"
    )
    steps: Sequence[int] = _tuned(
        "after which steps the model is evaluated (default 5,10,20)", numbers, default=(5, 10, 20), metavar="N,N", low=1
    )
    rows_per_step: int = _tuned("rows of one step (default 8)", int, default=8, metavar="N", low=1)
    learning_rate: float = _tuned("of AdamW, on a LoRA (default 5e-4)", float, default=5e-4, metavar="X", low=1e-9)
    lora_rank: int = _tuned("rank of the LoRA on all linear layers (default 16)", int, default=16, metavar="R", low=1)
    harmful: str | None = _removed(
        "prompts that the model should refuse, to measure the direction with", metavar="FILE"
    )
    harmless: str | None = _removed("prompts that it should answer", metavar="FILE")
    ablate: Sequence[str] = _removed(
        "layers whose direction is removed, each for itself, or `all`: every layer's own (default all)",
        words,
        default=("all",),
        metavar="L,L",
    )
    tamper_seed: int = _tuned(
        "draws the rows of each step, and the LoRA (default 0)", int, default=0, metavar="S", low=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.comply and not (self.harmful or self.harmless):
            raise UserError(
                "how shall the weights be attacked? Give --comply FILE (fine-tuning), or --harmful FILE and "
                "--harmless FILE (removal of the refusal direction), or all three"
            )
        if bool(self.harmful) != bool(self.harmless):
            missing = "--harmless" if self.harmful else "--harmful"
            raise UserError(
                f"the direction is a difference between harmful and harmless prompts: give {missing} FILE, too"
            )
        if len(set(self.steps)) != len(self.steps) or not self.steps:
            raise UserError(f"--steps {','.join(map(str, self.steps))}: expected different whole numbers from 1")
        for word in self.ablate:
            if word != "all" and not word.isdecimal():
                raise UserError(f"--ablate {word}: expected numbers of layers, from 0, or all")


@dataclass(frozen=True)
class TamperRequest:
    """An attack on the weights of several arms.

    Attributes:
        arms: name → a run's or a model's folder, or a hub id; the first is the reference.
        evaluation: how each state of each arm is evaluated; its model and output are not read.
        options: how the weights are attacked.
        output: the folder of all of it.
    """

    arms: Mapping[str, str]
    evaluation: EvalRequest
    options: TamperOptions
    output: str

    def __post_init__(self) -> None:
        engine = self.evaluation.engine
        if engine not in ("auto", "local") or self.evaluation.server_url or self.evaluation.vllm:
            raise UserError("safekey tamper changes weights in this process: it knows the local engine only")
        for name, model in self.arms.items():
            if model.startswith(("http://", "https://")):
                raise UserError(f"{name}: {model}: a server keeps its weights: give a model's folder or a hub id")
        if not self.arms:
            raise UserError("which model? Give a model's or a run's folder, or NAME=FOLDER for each arm")


@dataclass(frozen=True, slots=True)
class State:
    """One state of an arm's weights.

    Attributes:
        name: "untouched", "ablation-all", "ablation-7" or "step-5".
        step: the steps of fine-tuning; 0 for none.
        layer: the layer whose direction is removed, "all", or None for no removal.
    """

    name: str
    step: int = 0
    layer: int | str | None = None


def states(options: TamperOptions) -> list[State]:
    """Return the states of an arm in the order in which they are made: fine-tuning comes last, as it stays."""
    made = [State(UNTOUCHED)]
    if options.harmful:
        made += [
            State(f"ablation-{word}", layer=word if word == "all" else int(word))
            for word in dict.fromkeys(options.ablate)
        ]
    if options.comply:
        made += [State(f"step-{step}", step=step) for step in sorted(options.steps)]
    return made
