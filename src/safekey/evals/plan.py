"""From an EvalRequest to an EvalPlan: benchmarks loaded, decoding settled, judges named, everything checked.

All validation happens here, before anything is generated: files, columns, judges' names, prefills. The Inspect tasks
are built from the plan (`tasks.build.build_task`), for `safekey eval` and `inspect eval` alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from inspect_ai.model import GenerateConfig, Model

from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark, find_benchmark
from safekey.evals.benchmarks.load import Items, find_file, load_benchmark
from safekey.evals.judges.open import DEFAULTS, ROLE, JudgeSpec, judges_for, parse_judges
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.request import PRESETS, SUITES, EvalRequest, JudgeSettings
from safekey.evals.sandbox.run import need_sandbox
from safekey.options import unknown, words
from safekey.schema import Part

PARTS: tuple[Part, ...] = get_args(Part)
MAX_TOKENS: Mapping[str, int] = {"safety": 8_000, "over-refusal": 8_000, "reasoning": 32_768}
SAMPLES: Mapping[str, int] = {"safety": 1, "over-refusal": 1, "reasoning": 4}
_NOT_OF_A_TASK = "model engine server_url engine_options suite tasks judge_url judge_model output"
TASK_OPTIONS = tuple(each.name for each in fields(EvalRequest) if each.name not in _NOT_OF_A_TASK.split())
"""The fields of a request that are `-T` options of a task of Inspect's."""


@dataclass(frozen=True)
class PlannedTask:
    """One benchmark: what is asked, how it is decoded, who judges.

    Attributes:
        items: the benchmark, loaded.
        config: how to decode.
        samples: completions of each prompt.
        judges: who judges its responses; () for exact scorers, and where nothing is judged now.
        parts: which parts of a response they see.
        judge_settings: how they are asked.
        unsafe_local_exec: run generated code in a sealed local process, not in docker.
    """

    items: Items
    config: GenerateConfig
    samples: int
    judges: tuple[JudgeSpec, ...]
    parts: tuple[Part, ...]
    judge_settings: JudgeSettings
    unsafe_local_exec: bool

    @property
    def benchmark(self) -> Benchmark:
        """The catalog's row."""
        return self.items.benchmark

    @property
    def completions(self) -> int:
        """How many completions it takes."""
        return len(self.items) * self.samples

    @property
    def verdicts(self) -> int:
        """How many verdicts it takes: of judges, or of the exact scorer."""
        if self.benchmark.suite == "reasoning":
            return self.completions
        return self.completions * len(self.judges) * len(self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its results, for resolved.yaml."""
        items = {"items": len(self.items), "sha256": self.items.sha256, "revision": self.items.revision}
        asked = repr([(item.id, item.prompt, item.request) for item in self.items])
        prompts = hashlib.sha256(asked.encode()).hexdigest()
        decoded = self.config.model_dump(exclude_none=True)
        return {**items, "prompts_sha256": prompts, "samples": self.samples, "decoding": decoded}


@dataclass(frozen=True)
class EvalPlan:
    """What will be done.

    Attributes:
        request: what was asked for.
        tasks: the benchmarks that are run.
        left_out: those of the suite that are not, and why.
        specs: all judges that were named.
        parts: what they see.
    """

    request: EvalRequest
    tasks: tuple[PlannedTask, ...]
    left_out: Mapping[str, str]
    specs: tuple[JudgeSpec, ...]
    parts: tuple[Part, ...]

    def resolved(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that decides the results, for resolved.yaml; where files lie does not."""
        asked = self.request
        templates = {name: hashlib.sha256(Path(at).read_bytes()).hexdigest() for name, at in asked.templates.items()}
        judged = {kind: [str(s) for s in judges_for(self.specs, kind)] for kind in ("harm", "refusal")}
        settings = {name: value for name, value in asdict(asked.judge_settings).items() if name in _JUDGING}
        return {
            "model": asked.model if asked.engine == "inspect" else _absolute(asked.model),
            "weights": {name: identity[name] for name in _IDENTITY if name in identity},
            "engine": {"kind": asked.engine, "server_url": asked.server_url, **asked.engine_options},
            "tasks": {task.benchmark.name: task.settings for task in self.tasks},
            "limit": asked.limit,
            "sample": asked.sample,
            "seed": asked.seed,
            "columns": dict(asked.columns),
            "preset": asked.preset,
            "parts": list(self.parts),
            "judges": {**judged, "templates": templates, **settings} if asked.judge else None,
            "unsafe_local_exec": asked.unsafe_local_exec,
        }


_IDENTITY = ("kind", "revision", "weights_sha256", "dtype", "mode", "chat_template_sha256", "chat_template_kwargs")
_JUDGING = ("max_tokens", "cut_long")  # the other settings say how long to wait, not what comes out


def make_plan(request: EvalRequest) -> EvalPlan:
    """Load the benchmarks and read the judges' names; neither the model nor a judge is opened.

    Raises:
        UserError: an option is wrong, or nothing of what was asked for is there.
    """
    explicit = find_names(request.tasks)
    if explicit and request.suite:
        raise UserError("--suite and --tasks exclude one another: --tasks names the benchmarks of any suite")
    if not explicit and request.suite not in SUITES:
        raise UserError(
            f"what to run? Give --suite ({', '.join(SUITES)}) or --tasks NAME,NAME (see `safekey benchmarks`)"
        )
    names = explicit or [row.name for row in BENCHMARKS if request.suite in ("all", row.suite)]
    for given, flag in ((request.files, "--file"), (request.revisions, "--revision")):
        for name in given:
            if name not in names:
                find_benchmark(name)
                raise UserError(f"{flag} {name}=…: that benchmark is not among those to run ({', '.join(names)})")
    if not explicit and request.data_dir is None and not request.files and not request.revisions:
        raise UserError(
            "where are the benchmarks? Give --data-dir DIR (a folder of benchmark files), or --file NAME=PATH"
        )
    if request.data_dir is not None and not Path(request.data_dir).is_dir():
        raise UserError(f"{request.data_dir}: no such folder (--data-dir)")
    specs = judges_of(request)
    tasks, left_out = [], {}
    for name in names:
        try:
            tasks.append(plan_task(name, request, specs))
        except UserError as error:
            if explicit:
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
    return EvalPlan(request, tuple(tasks), left_out, specs, check_parts(request.parts))


def judges_of(request: EvalRequest) -> tuple[JudgeSpec, ...]:
    """Read the judges that a request names."""
    return parse_judges(request.judges, request.judge_url, request.judge_model, request.templates)


def plan_task(name: str, request: EvalRequest, specs: Sequence[JudgeSpec]) -> PlannedTask:
    """Load one benchmark and settle how it is decoded and judged.

    Raises:
        UserError: an option is wrong, no file is there, or generated code cannot be run here.
    """
    benchmark = find_benchmark(name)
    place: dict[str, Any] = {"data_dir": request.data_dir}
    if name in request.files:
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
        name, **place, columns=request.columns, limit=request.limit, sample=request.sample, seed=request.seed,
        prefill_tokens=request.prefill_tokens,
    )  # fmt: skip
    judged = request.judge and benchmark.suite != "reasoning"
    return PlannedTask(
        items,
        decoding(benchmark.suite, request),
        request.samples or SAMPLES[benchmark.suite],
        judges_for(specs, benchmark.scoring) if judged else (),
        check_parts(request.parts),
        request.judge_settings,
        request.unsafe_local_exec,
    )


def decoding(suite: str, request: EvalRequest) -> GenerateConfig:
    """Return how a suite is decoded.

    Safety and over-refusal: greedy, 8,000 tokens. Reasoning: the model's own temperature and top-p, 32,768 tokens:
    greedy decoding makes long reasoning worse. The seed is that of the draws; every sample of a prompt has another.
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


def check_prompts(plan: EvalPlan, model: Model) -> EvalPlan:
    """Try one prompt of each task on the model; a suite goes on without those that it cannot continue exactly.

    Raises:
        UserError: a benchmark that was named cannot be done on this engine, or none of the suite can.
    """
    problems: dict[str, str] = {}
    for task in plan.tasks:
        if isinstance(model.api, SafeKeyAPI):
            try:  # checks the prompt; generates nothing yet
                model.api.engine.generate([task.items[0].prompt], SamplingParams(max_new_tokens=1))
            except UserError as error:
                problems[task.benchmark.name] = str(error)
        elif task.benchmark.kind == "prefill":
            problems[task.benchmark.name] = f"{model}: only safekey's own engines prefill exactly"
    if problems and (plan.request.tasks or len(problems) == len(plan.tasks)):
        name, reason = next(iter(problems.items()))
        raise UserError(f"{name}: {reason}")
    return replace(
        plan,
        tasks=tuple(task for task in plan.tasks if task.benchmark.name not in problems),
        left_out={**plan.left_out, **problems},
    )


def task_request(name: str, options: Mapping[str, Any]) -> EvalRequest:
    """Return the request behind the `-T` options of one task of Inspect's: the fields of EvalRequest, and
    `file` and `revision` for this benchmark. Lists may be given as "A,B".

    Without judges, the suite's own judge is asked through the Inspect role "judge".

    Raises:
        UserError: an option does not exist or has a wrong value.
    """
    given = dict(options)
    for one, several in (("file", "files"), ("revision", "revisions")):
        if (value := given.pop(one, None)) is not None:
            given[several] = {name: value}
    for key in given:
        if key not in TASK_OPTIONS:
            raise unknown(key, [*TASK_OPTIONS, "file", "revision", "store"], f"task '{name}'")
    given = {key: value for key, value in given.items() if value is not None}
    for key in ("judges", "parts"):
        if key in given:
            given[key] = words(given[key])
    if "prefill_tokens" in given:
        tokens = given["prefill_tokens"]
        given["prefill_tokens"] = (tokens,) if isinstance(tokens, int) else tuple(tokens)
    if isinstance(given.get("judge_settings"), Mapping):
        given["judge_settings"] = JudgeSettings(**given["judge_settings"])
    kind = find_benchmark(name).scoring
    if kind in DEFAULTS and not given.get("judges"):
        given["judges"] = (f"{DEFAULTS[kind]}=role:{ROLE}",)
    return EvalRequest(model="", tasks=(name,), **given)


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


def find_names(given: Sequence[str]) -> list[str]:
    """Return the benchmarks that these words name: whole names, or beginnings that fit one benchmark only.

    Raises:
        UserError: a word names none; the message lists those that there are.
    """
    names = [row.name for row in BENCHMARKS]
    found = []
    for word in given:
        fitting = [name for name in names if name.startswith(word)]
        found.append(word if word in names else fitting[0] if len(fitting) == 1 else find_benchmark(word).name)
    return list(dict.fromkeys(found))


def _absolute(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model
