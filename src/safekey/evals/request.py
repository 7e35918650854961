"""The options of an evaluation, each declared once, for `safekey eval`, `safekey grid` and the tasks of Inspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from safekey.errors import UserError
from safekey.options import (
    check_logins,
    check_ranges,
    columns,
    files_by_kind,
    nested,
    numbers,
    option,
    pairs,
    repeated,
    values,
    words,
)

SUITES = ("safety", "over-refusal", "reasoning", "all")
PRESETS: Mapping[str, float] = {"default": 1.0, "paper": 1.2}
"""Preset → repetition penalty for safety and over-refusal; the reference generated with 1.2."""

ALLOWED_UNSCORED = 0.05
"""The largest share of missing verdicts (unscored, not judged, engine errors) with which a rate is given."""

Vote = Literal["majority", "any", "mean"]
Grouping = Literal["benchmark", "category", "attack", "part", "behaviour"]

_what = partial(option, group="what to run")
_how = partial(option, group="how to generate")
_attacked = partial(option, group="attacks that adapt (docs/adaptive-attacks.md)")
JUDGES_GROUP = "judges (docs/judges.md)"
"""The heading of the options that open judges."""

VERDICTS_GROUP = "verdicts (docs/judges.md)"
"""The heading of the options on what is judged, and on what is known of a judge's error."""

_judging = partial(option, group=JUDGES_GROUP)
_verdicts = partial(option, group=VERDICTS_GROUP)
_shown = partial(option, group="the table")


@dataclass(frozen=True)
class JudgeSettings:
    """How judging models are asked.

    Attributes:
        backoff: seconds before the second attempt; it doubles, up to a minute.
        cut_long: judges with a short context see the beginning of a response that does not fit.

    Raises:
        UserError: a number is not above 0.
    """

    timeout: float = _judging(
        "seconds for one attempt (default 120)", float, default=120.0, flag="--judge-timeout", metavar="S", low=0.001
    )
    attempts: int = _judging(
        "attempts for one verdict (default 5)", int, default=5, flag="--judge-attempts", metavar="N", low=1
    )
    backoff: float = 1.0
    concurrency: int = _judging(
        "calls to one judging model at a time (default 16)", int, default=16, flag="--judge-concurrency", metavar="N",
        low=1,
    )  # fmt: skip
    structured: bool = _judging(
        "have a judge's server hold its reply to the JSON object that is asked for (structured output)",
        bool, default=False, flag="--judge-structured",
    )  # fmt: skip
    max_tokens: int = _judging(
        "tokens of a judge's longest reply, its thinking included (default 4096)", int, default=4096,
        flag="--judge-max-tokens", metavar="N", low=1,
    )  # fmt: skip
    api_key_env: str | None = _judging(
        "environment variable with the endpoint's key (default OPENAI_API_KEY)", flag="--judge-key-env", metavar="VAR"
    )
    cut_long: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """An evaluation as the user asks for it; docs/evaluation.md explains each option.

    Attributes:
        model: a folder, a hub id, an endpoint's URL, or, with engine "inspect", a model name of Inspect's.
        judge: False: generate only; `safekey judge` judges later.
        output: the run folder; None: named after model and suite, under runs/.

    Raises:
        UserError: a number is out of its range, or a choice does not exist.
    """

    model: str
    suite: str | None = _what("all benchmarks of one suite", choices=SUITES)
    tasks: Sequence[str] = _what(
        "benchmarks by name, instead of a suite (`safekey benchmarks` lists them)",
        words,
        default=(),
        metavar="NAME,NAME",
    )
    benchmarks: Mapping[str, str] = _what(
        "a benchmark of your own: a file of rows of one kind (harmful, benign, prefill, multi-turn, math, letter, "
        "integer, code), under a name that you give it; repeatable",
        files_by_kind,
        default=dict,
        flag="--benchmark",
        metavar="NAME=KIND:PATH",
    )
    data_dir: str | None = _what("folder of benchmark files", metavar="DIR")
    files: Mapping[str, str] = _what(
        "file of one benchmark; repeatable", pairs, default=dict, flag="--file", metavar="NAME=PATH"
    )
    revisions: Mapping[str, str] = _what(
        "take one benchmark from the hub at this commit; repeatable",
        pairs,
        default=dict,
        flag="--revision",
        metavar="NAME=COMMIT",
    )
    columns: Mapping[str, str | None] = _what(
        "name of a column in the files; repeatable", columns, default=dict, flag="--column", metavar="KEY=NAME"
    )
    force_labels: Sequence[str] = _what(
        "benchmarks whose rows are asked although they call themselves benign (safety) or harmful (over-refusal)",
        words,
        default=(),
        metavar="NAME,NAME",
    )
    limit: int | None = _what("only the first N rows of each benchmark", int, metavar="N", low=1)
    sample: int | None = _what("only N rows of each benchmark, drawn with --seed", int, metavar="N", low=1)
    seed: int | None = _what(
        "random seed for row selection (default: the benchmark's own) and for decoding (default: 0)",
        int,
        metavar="S",
        low=0,
    )
    prefill_tokens: Sequence[int] = _what(
        "prefilling attack: numbers of target tokens (default 20)", numbers, default=(20,), metavar="N,N", low=1
    )
    attack: Sequence[str] = _what(
        "attacks on harmful requests: base64, fiction, best_of_n, … (`safekey attacks` lists them); the plain request "
        "is asked, too",
        words,
        default=(),
        metavar="NAME,NAME",
    )
    attack_templates: str | None = _what(
        "file or folder of attacks of your own (JSONL, CSV, YAML, TXT), each with one placeholder such as {request}",
        metavar="FILE",
    )
    best_of: int | None = _what("draws of each prompt for the attack best_of_n (default 16)", int, metavar="N", low=1)
    no_plain: bool = _what("leave the plain request out, which is asked beside attacks", bool, default=False)
    preset: str = _how("paper: repetition penalty 1.2 instead of 1.0", default="default", choices=tuple(PRESETS))
    samples: int | None = _how("completions of each prompt (default 1; reasoning 4)", int, metavar="K", low=1)
    temperature: float | None = _how("sampling temperature (default 0; reasoning: the model's own)", float, low=0)
    top_p: float | None = _how("nucleus sampling (default: the model's own)", float, low=0, high=1)
    max_tokens: int | None = _how(
        "longest completion in tokens (default 8000; reasoning 32768)", int, metavar="N", low=1
    )
    engine: str = _how(
        "what generates (default auto: a URL is a server, anything else is local); vllm: a vLLM started for MODEL",
        default="auto",
        choices=("auto", "local", "server", "vllm", "inspect"),
    )
    vllm: str | None = _how(
        "vLLM's executable or environment, for --engine vllm (default: vllm on PATH)", metavar="PATH"
    )
    server_url: str | None = _how("OpenAI-compatible endpoint that serves MODEL", metavar="URL")
    engine_options: Mapping[str, Any] = _how(
        "an option of the engine: batch_size, device, dtype, tokenizer, concurrency, timeout, …, or, with --engine "
        "vllm, of `vllm serve`: max_model_len, tensor_parallel_size, …; repeatable",
        values,
        default=dict,
        flag="--engine-option",
        metavar="KEY=VALUE",
    )
    unsafe_local_exec: bool = _how(
        "run generated code in a sealed local process instead of docker", bool, default=False
    )
    adaptive: Sequence[str] = _attacked(
        "attacks that adapt, on every harmful benchmark of single requests: pair, crescendo",
        words,
        default=(),
        choices=("pair", "crescendo"),
        metavar="NAME,NAME",
    )
    attacker: str | None = _attacked(
        "the model that writes the attacks, named as a judge's model: URL#NAME, openai/gpt-4.1, a folder",
        metavar="MODEL",
    )
    attack_budget: int = _attacked(
        "most calls to the target for one prompt (default 20)", int, default=20, metavar="N", low=1
    )
    attack_branches: int | None = _attacked(
        "branches of an attack, which share the budget (default: pair 4, crescendo 2)", int, metavar="N", low=1
    )
    judges: Sequence[str] = _judging(
        "a judge and its model: harm_1to5=openai/gpt-4.1, refusal_3class=URL#MODEL; repeatable",
        repeated,
        default=(),
        flag="--judge",
        metavar="NAME[=MODEL]",
    )
    judge_url: str | None = _judging("endpoint for judges without a model of their own", metavar="URL")
    judge_model: str | None = _judging(
        "model at --judge-url; without --judge-url, a model name of Inspect's", metavar="NAME"
    )
    templates: Mapping[str, str] = _judging(
        "file with a guard's published prompt; repeatable",
        pairs,
        default=dict,
        flag="--judge-template",
        metavar="NAME=FILE",
    )
    judge_settings: JudgeSettings = nested(JudgeSettings)
    parts: Sequence[str] = _verdicts(
        "parts of a response that judges see: answer, thinking, whole (default answer,thinking)",
        words,
        default=("answer", "thinking"),
        metavar="PARTS",
    )
    judge_records: Sequence[str] = _verdicts(
        "what `safekey judges validate` found of a judge: rates are shown corrected for its error as well; repeatable",
        repeated,
        default=(),
        flag="--judge-record",
        metavar="FILE",
    )
    redact: bool = _what(
        "keep no texts: once the verdicts are known, only hashes, verdicts and classes stay", bool, default=False
    )
    judge: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        check_logins(self.model, "MODEL")
        check_ranges(self)
        if self.adaptive and not self.attacker:
            raise UserError("--adaptive needs a model that writes the attacks: --attacker URL#NAME, or another model")
        if self.attacker and not self.adaptive:
            raise UserError("--attacker is for attacks that adapt: name them with --adaptive pair,crescendo")
        if (self.attack_branches or 1) > self.attack_budget:
            raise UserError(
                f"--attack-branches {self.attack_branches}: more than the calls of --attack-budget {self.attack_budget}"
            )
        if self.adaptive and not self.judge:
            raise UserError("--adaptive asks a judge after each reply, and --no-judge judges nothing: leave one out")
        if self.vllm is not None and self.engine != "vllm":
            raise UserError("--vllm PATH is for --engine vllm")
        if self.engine == "vllm" and (self.server_url or self.model.startswith(("http://", "https://"))):
            raise UserError("--engine vllm starts a server itself: leave it out for one that runs already (a URL)")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What the printed tables and metrics.json show.

    Raises:
        UserError: a share is not between 0 and 1, or a grouping does not exist.
    """

    by: Sequence[Grouping] = _shown(
        "group the tables by category, attack or behaviour as well",
        words,
        default=(),
        choices=("category", "attack", "behaviour"),
        metavar="NAME,NAME",
    )
    allow_unscored: float = _shown(
        "give rates with more than 5 %% of the verdicts missing (up to SHARE; without SHARE: always)",
        float,
        default=ALLOWED_UNSCORED,
        metavar="SHARE",
        low=0,
        high=1,
        alone=1.0,
    )
    voting: Vote | None = _shown("also show the vote of several judges", flag="--vote", choices=get_args(Vote))

    def __post_init__(self) -> None:
        check_ranges(self)
