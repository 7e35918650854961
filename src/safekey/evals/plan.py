"""What an evaluation will do, found out before it does anything: which benchmarks, which model, which judges.

Everything that can be wrong with a command is wrong here: files, columns, judges, keys, servers, weights, prefills.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from inspect_ai.model import GenerateConfig, Model

from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark, find_benchmark
from safekey.evals.benchmarks.load import Items, find_file
from safekey.evals.judges.open import JudgeSettings, JudgeSpec, judges_for, parse_judges
from safekey.evals.judges.verdicts import need_sandbox
from safekey.evals.tasks.build import DEFAULT_PARTS, SAMPLES, check_parts, decoding, find_names, load_items
from safekey.evals.tasks.session import shared_referees
from safekey.schema import Part

SUITES = ("safety", "over-refusal", "reasoning", "all")


@dataclass(frozen=True, kw_only=True)
class Order:
    """An evaluation as the user asks for it; `docs/evaluation.md` explains each.

    Attributes:
        model: a folder, a hub id, an endpoint's URL, or, with engine "inspect", a model name of Inspect's.
        suite: "safety", "over-refusal", "reasoning" or "all".
        tasks: names of benchmarks, or beginnings of them.
        data_dir: a folder of benchmark files.
        files: benchmark → its file.
        revisions: benchmark → commit of its hub data set.
        columns: what is looked for → the column's name.
        limit: only the first so many rows of each benchmark.
        sample: only a seeded sample of so many rows of each.
        seed: of draws of rows, orders of choices, and sampling.
        prefill_tokens: every N of the prefilling attack.
        engine: "auto", "local", "server" or "inspect".
        server_url: the endpoint, with engine "server".
        engine_options: the engine's own, such as `batch_size`, `device`, `dtype`, `tokenizer`, `concurrency`.
        judges: NAME=MODEL.
        judge_url: an endpoint for judges that name no model.
        judge_model: the model there, or a model name of Inspect's.
        templates: judge → file with its prompt template.
        judge_settings: time limits, attempts, concurrency.
        judge: False: generate only; `safekey judge` judges later.
        parts: which parts of a response are judged.
        preset: of the decoding.
        samples: completions of each prompt; None: 1, reasoning 4.
        temperature: in place of the suite's.
        top_p: in place of the model's own.
        max_tokens: longest completion, in place of the suite's.
        unsafe_local_exec: run generated code in a sealed local process instead of docker.
        output: the run folder; None: named after model and suite, under runs/.
    """

    model: str
    suite: str | None = None
    tasks: Sequence[str] = ()
    data_dir: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str | None] = field(default_factory=dict)
    limit: int | None = None
    sample: int | None = None
    seed: int | None = None
    prefill_tokens: Sequence[int] = (20,)
    engine: str = "auto"
    server_url: str | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    judges: Sequence[str] = ()
    judge_url: str | None = None
    judge_model: str | None = None
    templates: Mapping[str, str] = field(default_factory=dict)
    judge_settings: JudgeSettings = field(default_factory=JudgeSettings)
    judge: bool = True
    parts: Sequence[str] = DEFAULT_PARTS
    preset: str = "default"
    samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    unsafe_local_exec: bool = False
    output: str | None = None


@dataclass(frozen=True)
class PlannedTask:
    """One benchmark, loaded, and how it is decoded."""

    items: Items
    config: GenerateConfig
    samples: int

    @property
    def benchmark(self) -> Benchmark:
        """The catalog's row."""
        return self.items.benchmark

    @property
    def completions(self) -> int:
        """How many completions it takes."""
        return len(self.items) * self.samples


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        order: what was asked for.
        tasks: the benchmarks that are run.
        left_out: those of the suite that are not, and why.
        specs: the judges.
        parts: what they see.
    """

    order: Order
    tasks: tuple[PlannedTask, ...]
    left_out: Mapping[str, str]
    specs: tuple[JudgeSpec, ...]
    parts: tuple[Part, ...]

    def judges_of(self, task: PlannedTask) -> tuple[JudgeSpec, ...]:
        """The judges of one task."""
        return judges_for(self.specs, task.benchmark.scoring) if task.benchmark.suite != "reasoning" else ()

    def resolved(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that decides the results, for resolved.yaml; where files lie does not."""
        order = self.order
        tasks = {task.benchmark.name: _task_settings(task) for task in self.tasks}
        templates = {name: _sha256(Path(path)) for name, path in order.templates.items()}
        judged = {kind: [str(s) for s in judges_for(self.specs, kind)] for kind in ("harm", "refusal")}
        settings = {name: value for name, value in asdict(order.judge_settings).items() if name in _JUDGING}
        return {
            "model": order.model if order.engine == "inspect" else _absolute(order.model),
            "weights": {name: identity[name] for name in _IDENTITY if name in identity},
            "engine": {"kind": order.engine, "server_url": order.server_url, **order.engine_options},
            "tasks": tasks,
            "limit": order.limit,
            "sample": order.sample,
            "seed": order.seed,
            "columns": dict(order.columns),
            "preset": order.preset,
            "parts": list(self.parts),
            "judges": {**judged, "templates": templates, **settings} if order.judge else None,
            "unsafe_local_exec": order.unsafe_local_exec,
        }


_IDENTITY = ("kind", "revision", "weights_sha256", "dtype", "mode", "chat_template_sha256", "chat_template_kwargs")
_JUDGING = ("max_tokens", "cut_long")  # the other settings say how long to wait, not what comes out


def make_plan(order: Order) -> Plan:
    """Load the benchmarks and read the judges' names; neither the model nor a judge is opened.

    Raises:
        UserError: an option is wrong, or nothing of what was asked for is there.
    """
    explicit = find_names(order.tasks)
    if not explicit and order.suite not in SUITES:
        raise UserError(
            f"what to run? Give --suite ({', '.join(SUITES)}) or --tasks NAME,NAME (see `safekey benchmarks`)"
        )
    names = explicit or [row.name for row in BENCHMARKS if order.suite in ("all", row.suite)]
    _only_named(order.files, names, "--file")
    _only_named(order.revisions, names, "--revision")
    if not explicit and order.data_dir is None and not order.files and not order.revisions:
        raise UserError(
            "where are the benchmarks? Give --data-dir DIR (a folder of benchmark files), or --file NAME=PATH"
        )
    if order.data_dir is not None and not Path(order.data_dir).is_dir():
        raise UserError(f"{order.data_dir}: no such folder (--data-dir)")
    specs = parse_judges(order.judges, order.judge_url, order.judge_model, order.templates)
    tasks, left_out = [], {}
    for name in names:
        try:
            tasks.append(_planned(find_benchmark(name), order))
        except UserError as error:
            if explicit:
                raise
            left_out[name] = str(error)
    if not tasks:
        raise UserError(
            "none of the suite can be run: " + "; ".join(f"{n}: {r}" for n, r in list(left_out.items())[:3])
        )
    _need_judges(tasks, specs, order)
    return Plan(order, tuple(tasks), left_out, specs, check_parts(list(order.parts)))


def _planned(benchmark: Benchmark, order: Order) -> PlannedTask:
    """Load a benchmark; one without a file here, or a sandbox, is an error."""
    if benchmark.name not in order.files and benchmark.name not in order.revisions:
        if order.data_dir is not None:
            find_file(benchmark, order.data_dir)
        elif not (benchmark.hub and benchmark.hub.revision):  # a pinned one is fetched from the hub
            raise UserError(
                f"{benchmark.name}: where is it? Give --data-dir DIR (a folder of benchmark files), "
                f"--file {benchmark.name}=PATH, or --revision {benchmark.name}=COMMIT to take it from the hub"
            )
    if benchmark.scoring == "code":
        need_sandbox(order.unsafe_local_exec)
    return PlannedTask(
        load_items(benchmark.name, **load_arguments(benchmark.name, order)),
        decoding(
            benchmark.suite,
            order.preset,
            seed=order.seed or 0,
            temperature=order.temperature,
            top_p=order.top_p,
            max_tokens=order.max_tokens,
        ),
        order.samples or SAMPLES[benchmark.suite],
    )


def load_arguments(name: str, order: Order) -> dict[str, Any]:
    """Return the arguments with which a task loads its benchmark."""
    place: dict[str, Any] = {"data_dir": order.data_dir, "file": None, "revision": None}
    if name in order.files:
        place = {"data_dir": None, "file": order.files[name], "revision": None}
    elif name in order.revisions:
        place = {"data_dir": None, "file": None, "revision": order.revisions[name]}
    return place | {
        "hub_id": None,
        "columns": dict(order.columns) or None,
        "limit": order.limit,
        "sample": order.sample,
        "seed": order.seed,
        "prefill_tokens": tuple(order.prefill_tokens),
    }


def _need_judges(tasks: Sequence[PlannedTask], specs: Sequence[JudgeSpec], order: Order) -> None:
    for task in tasks:
        kind = task.benchmark.scoring
        if order.judge and kind in ("harm", "refusal") and not judges_for(specs, kind):
            free = " (or --judge refusal_keywords, a weak baseline without a model)" if kind == "refusal" else ""
            default = {"harm": "harm_1to5", "refusal": "refusal_3class"}[kind]
            raise UserError(
                f"{task.benchmark.name} needs a {kind} judge: --judge {default}=MODEL{free}, --judge-url URL "
                "--judge-model NAME for all, or --no-judge to generate now and judge later"
            )


def check_prompts(plan: Plan, model: Model) -> Plan:
    """Try one prompt of each task on the model; a suite goes on without those that it cannot continue exactly.

    Raises:
        UserError: a benchmark that was named cannot be done on this engine, or none of the suite can.
    """
    from safekey.evals.model_api.provider import SafeKeyAPI

    if not isinstance(model.api, SafeKeyAPI):
        problems = {t.benchmark.name: f"{model}: only safekey's own engines prefill exactly" for t in plan.tasks
                    if t.benchmark.kind == "prefill"}  # fmt: skip
    else:
        engine, problems = model.api.engine, {}
        for task in plan.tasks:
            try:
                engine.generate(
                    [task.items[0].prompt], SamplingParams(max_new_tokens=1)
                )  # checks; generates nothing yet
            except UserError as error:
                problems[task.benchmark.name] = str(error)
    if problems and (plan.order.tasks or len(problems) == len(plan.tasks)):
        name, reason = next(iter(problems.items()))
        raise UserError(f"{name}: {reason}")
    return replace(
        plan,
        tasks=tuple(task for task in plan.tasks if task.benchmark.name not in problems),
        left_out={**plan.left_out, **problems},
    )


def check_judges(plan: Plan) -> None:
    """Open every judge and ask each judging model one question.

    Raises:
        UserError: one has no key or does not answer.
    """
    for task in plan.tasks:
        if plan.order.judge and (specs := plan.judges_of(task)):
            shared_referees(specs, task.benchmark.scoring, plan.order.judge_settings)


def _task_settings(task: PlannedTask) -> dict[str, Any]:
    config = task.config.model_dump(exclude_none=True)
    items = {"items": len(task.items), "sha256": task.items.sha256, "revision": task.items.revision}
    prompts = hashlib.sha256(repr([(item.id, item.prompt, item.request) for item in task.items]).encode()).hexdigest()
    return {**items, "prompts_sha256": prompts, "samples": task.samples, "decoding": config}


def _only_named(given: Mapping[str, str], names: Sequence[str], option: str) -> None:
    for name in given:
        if name not in names:
            find_benchmark(name)
            raise UserError(f"{option} {name}=…: that benchmark is not among those to run ({', '.join(names)})")


def _absolute(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
