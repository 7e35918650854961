"""Make an EvalPlan from an EvalRequest: load the benchmarks, set the decoding, read the judges' names, check all.

All validation happens here, before anything is generated: files, columns, judges' names, prefills. `build_task` in
`tasks.registry` builds the Inspect tasks from the plan, for `safekey eval` and `inspect eval` alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from inspect_ai.model import GenerateConfig

from safekey.engines.vllm.command import MEMORY_AND_SPEED
from safekey.errors import UserError
from safekey.evals.adaptive.settings import Adaptive, adaptive_items
from safekey.evals.attacks.apply import Chosen, attack_items, check_benchmarks, choose
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark, find_benchmark
from safekey.evals.benchmarks.load import Items, find_file, load_benchmark, what_was_read
from safekey.evals.benchmarks.own import Own, find_names, own_benchmarks
from safekey.evals.judge_error.fit import check_fit
from safekey.evals.judge_error.record import JudgeRecord, load_records
from safekey.evals.judges.open import DEFAULTS, JudgeSpec, judges_for, parse_judges
from safekey.evals.request import PRESETS, SUITES, EvalRequest, JudgeSettings
from safekey.evals.sandbox.run import need_sandbox
from safekey.schema import Part

PARTS: tuple[Part, ...] = get_args(Part)
MAX_TOKENS: Mapping[str, int] = {"safety": 8_000, "over-refusal": 8_000, "reasoning": 32_768}
SAMPLES: Mapping[str, int] = {"safety": 1, "over-refusal": 1, "reasoning": 4}


@dataclass(frozen=True)
class PlannedTask:
    """One benchmark of a plan: items, decoding, judges.

    Attributes:
        items: the loaded benchmark.
        config: how to decode.
        samples: completions of each prompt.
        judges: the judges of its responses; () for exact scoring, and with `--no-judge`.
        parts: which parts of a response they see.
        judge_settings: how they are asked.
        unsafe_local_exec: run generated code in a sealed local process, not in docker.
        adaptive: how its items under attacks that adapt are attacked; None where there are none.
    """

    items: Items
    config: GenerateConfig
    samples: int
    judges: tuple[JudgeSpec, ...]
    parts: tuple[Part, ...]
    judge_settings: JudgeSettings
    unsafe_local_exec: bool
    adaptive: Adaptive | None = None

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark's row of the catalog."""
        return self.items.benchmark

    @property
    def completions(self) -> int:
        """The number of completions."""
        return len(self.items) * self.samples

    @property
    def verdicts(self) -> int:
        """The number of verdicts, of judges or of exact scoring."""
        if self.benchmark.suite == "reasoning":
            return self.completions
        return self.completions * len(self.judges) * len(self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine its results, for resolved.yaml."""
        asked = repr([(item.id, item.prompt, item.request) for item in self.items])
        kind = {"kind": self.benchmark.own} if self.benchmark.own else {}  # all that tells what its rows are
        return {
            **kind,
            "items": len(self.items),
            "sha256": self.items.sha256,
            "revision": self.items.revision,
            "prompts_sha256": hashlib.sha256(asked.encode()).hexdigest(),
            "samples": self.samples,
            "decoding": self.config.model_dump(exclude_none=True),
        }


@dataclass(frozen=True)
class EvalPlan:
    """A checked evaluation, ready to run.

    Attributes:
        request: the options.
        tasks: the benchmarks to run.
        left_out: benchmarks of the suite that cannot be run → the reason.
        specs: all named judges.
        parts: the parts that they see.
        attacks: what `request.attack` and its file of templates name; None for nothing.
        records: what is known of the judges' errors.
    """

    request: EvalRequest
    tasks: tuple[PlannedTask, ...]
    left_out: Mapping[str, str]
    specs: tuple[JudgeSpec, ...]
    parts: tuple[Part, ...]
    attacks: Chosen | None = None
    records: tuple[JudgeRecord, ...] = ()

    @property
    def read(self) -> list[str]:
        """What was read of each file, and the files of the folder that no benchmark uses, one line each."""
        return what_was_read([task.items for task in self.tasks], self.request.data_dir)

    def resolved(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings that determine the results, for resolved.yaml; paths of files are not among them."""
        asked = self.request
        templates = {name: hashlib.sha256(Path(at).read_bytes()).hexdigest() for name, at in asked.templates.items()}
        judged = {kind: [str(s) for s in judges_for(self.specs, kind)] for kind in ("harm", "refusal")}
        settings = {name: value for name, value in asdict(asked.judge_settings).items() if name in _JUDGING}
        if asked.judge_settings.structured:  # a folder from before this setting has no such key
            settings["structured"] = True
        return {
            "model": asked.model if asked.engine == "inspect" else _absolute(asked.model),
            "weights": {name: identity[name] for name in _IDENTITY if name in identity},
            "engine": {"kind": asked.engine, "server_url": asked.server_url, **_deciding(asked)},
            "tasks": {task.benchmark.name: task.settings for task in self.tasks},
            "limit": asked.limit,
            "sample": asked.sample,
            "seed": asked.seed,
            "columns": dict(asked.columns),
            "preset": asked.preset,
            **({"attacks": self.attacks.record} if self.attacks else {}),
            "parts": list(self.parts),
            "judges": {**judged, "templates": templates, **settings} if asked.judge else None,
            "unsafe_local_exec": asked.unsafe_local_exec,
            **({"adaptive": {"attacks": list(asked.adaptive), **_adaptive(asked).to_dict()}} if asked.adaptive else {}),
        }


_IDENTITY = ("kind", "revision", "weights_sha256", "dtype", "mode", "chat_template_sha256", "chat_template_kwargs")
_JUDGING = ("max_tokens", "cut_long")  # the other settings do not change a verdict


def _deciding(request: EvalRequest) -> dict[str, Any]:
    """Return the engine's options that decide results: with vLLM, all but those of memory and speed."""
    free = MEMORY_AND_SPEED if request.engine == "vllm" else ()
    return {name: value for name, value in request.engine_options.items() if name not in free}


def make_plan(request: EvalRequest) -> EvalPlan:
    """Load the benchmarks and read the judges' names; neither the model nor a judge is opened.

    Raises:
        UserError: an option is wrong, or nothing of what was asked for is there.
    """
    own = own_benchmarks(request.benchmarks)
    explicit = find_names([*request.tasks, *own], tuple(own))
    if request.tasks and request.suite:
        raise UserError("--suite and --tasks exclude one another: --tasks names the benchmarks of any suite")
    if not explicit and request.suite not in SUITES:
        raise UserError(
            f"what to run? Give --suite ({', '.join(SUITES)}) or --tasks NAME,NAME (see `safekey benchmarks`), or "
            "--benchmark NAME=KIND:PATH for a file of your own"
        )
    names = [row.name for row in BENCHMARKS if request.suite in ("all", row.suite)] + explicit
    _check_sources(request, names, own)
    if request.suite and request.data_dir is None and not request.files and not request.revisions:
        raise UserError(
            "where are the benchmarks? Give --data-dir DIR (a folder of benchmark files), or --file NAME=PATH"
        )
    if request.data_dir is not None and not Path(request.data_dir).is_dir():
        raise UserError(f"{request.data_dir}: no such folder (--data-dir)")
    if request.redact and not request.judge:
        raise UserError("--redact drops texts once they are judged, and --no-judge judges nothing: leave one out")
    specs, attacks = judges_of(request), choose(request)
    check_benchmarks(attacks, [own[name].benchmark if name in own else find_benchmark(name) for name in names])
    tasks, left_out = [], {}
    for name in names:
        try:
            tasks.append(_planned(name, request, specs, own, attacks))
        except UserError as error:
            if name in explicit:
                raise
            left_out[name] = str(error)
    if not tasks:
        raise UserError(
            "none of the suite can be run: " + "; ".join(f"{n}: {r}" for n, r in list(left_out.items())[:3])
        )
    for task in tasks:
        kind = task.benchmark.scoring
        if request.judge and kind in DEFAULTS and not task.judges:
            free = " (or --judge refusal_keywords, a weak baseline without a model)" if kind == "refusal" else ""
            raise UserError(
                f"{task.benchmark.name} needs a {kind} judge: --judge {DEFAULTS[kind]}=MODEL{free}, --judge-url URL "
                "--judge-model NAME for all, or --no-judge to generate now and judge later"
            )
    if request.adaptive and not any(task.adaptive for task in tasks):
        raise UserError(
            f"--adaptive {','.join(request.adaptive)}: none of {', '.join(task.benchmark.name for task in tasks)} is a "
            "harmful benchmark of single requests: name one, such as strongreject"
        )
    parts = check_parts(request.parts)
    records = load_records(request.judge_records) if request.judge_records else ()
    if records:
        check_fit(records, specs, parts)
    return EvalPlan(request, tuple(tasks), left_out, specs, parts, attacks, records)


def _check_sources(request: EvalRequest, names: Sequence[str], own: Mapping[str, Own]) -> None:
    """Check that `--file` and `--revision` are about benchmarks of the table that are to run."""
    for given, flag in ((request.files, "--file"), (request.revisions, "--revision")):
        for name in given:
            if name in own:
                raise UserError(f"{flag} {name}=…: '{name}' is read from the file that --benchmark names; leave it out")
            if name not in names:
                find_benchmark(name)
                raise UserError(f"{flag} {name}=…: that benchmark is not among those to run ({', '.join(names)})")


def judges_of(request: EvalRequest) -> tuple[JudgeSpec, ...]:
    """Read the judges that a request names."""
    return parse_judges(
        request.judges, request.judge_url, request.judge_model, request.templates,
        structured=request.judge_settings.structured,
    )  # fmt: skip


def _planned(
    name: str, request: EvalRequest, specs: Sequence[JudgeSpec], own: Mapping[str, Own], attacks: Chosen | None
) -> PlannedTask:
    """Load one benchmark, attack its prompts, and set how it is decoded and judged.

    Raises:
        UserError: an option is wrong, no file is there, or generated code cannot be run here.
    """
    benchmark = own[name].benchmark if name in own else find_benchmark(name)
    place: dict[str, Any] = {"data_dir": request.data_dir}
    if name in own:
        place = {"file": own[name].path}
    elif name in request.files:
        place = {"file": request.files[name]}
    elif name in request.revisions:
        place = {"revision": request.revisions[name]}
    elif request.data_dir is not None:
        find_file(benchmark, request.data_dir)
    elif not (benchmark.hub and benchmark.hub.revision):  # a pinned one is fetched from the hub
        raise UserError(
            f"{name}: where is it? Give --data-dir DIR (a folder of benchmark files), "
            f"--file {name}=PATH, or --revision {name}=COMMIT to take it from the hub"
        )
    if benchmark.scoring == "code":
        need_sandbox(request.unsafe_local_exec)
    items = load_benchmark(
        benchmark, **place, columns=request.columns, limit=request.limit, sample=request.sample, seed=request.seed,
        prefill_tokens=request.prefill_tokens, force_labels=name in find_names(request.force_labels, tuple(own)),
    )  # fmt: skip
    attacked = request.adaptive and can_adapt(benchmark)
    adapting = adaptive_items(items, request.adaptive) if attacked else []  # before prompts are attacked
    if attacks:
        attack_items(items, attacks)
    items += adapting
    judged = request.judge and benchmark.suite != "reasoning"
    return PlannedTask(
        items, decoding(benchmark.suite, request), request.samples or SAMPLES[benchmark.suite],
        judges_for(specs, benchmark.scoring) if judged else (), check_parts(request.parts), request.judge_settings,
        request.unsafe_local_exec, _adaptive(request) if attacked else None,
    )  # fmt: skip


def can_adapt(benchmark: Benchmark) -> bool:
    """Whether attacks that adapt are made on a benchmark: one of single requests whose answers are judged for harm."""
    return benchmark.scoring == "harm" and benchmark.kind == "request"


def _adaptive(request: EvalRequest) -> Adaptive:
    return Adaptive(str(request.attacker), request.attack_budget, request.attack_branches, request.seed or 0)


def decoding(suite: str, request: EvalRequest) -> GenerateConfig:
    """Return how a suite is decoded.

    Safety and over-refusal: greedy, 8,000 tokens. Reasoning: the model's own temperature and top-p, 32,768 tokens:
    greedy decoding makes long reasoning worse. The seed is that of the row selection; each sample of a prompt differs.
    """
    greedy = suite != "reasoning"
    penalty = PRESETS[request.preset] if greedy else 1.0
    return GenerateConfig(
        temperature=0.0 if greedy and request.temperature is None else request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens or MAX_TOKENS[suite],
        seed=request.seed or 0,
        extra_body={"repetition_penalty": penalty} if penalty != 1.0 else None,
    )


def check_parts(parts: Sequence[str]) -> tuple[Part, ...]:
    """Return the parts, "answer" first.

    Raises:
        UserError: there is no such part, or none is named.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"part '{part}' does not exist: choose from {', '.join(PARTS)}")
    if not parts:
        raise UserError(f"no part is named: choose from {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in parts)


def _absolute(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model
