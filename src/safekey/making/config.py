"""The keys of a making recipe: one flat YAML file and `key=value` overrides, read as those of a training recipe.

extends: self                                          # another recipe, by name or by path
data: [{path: requests.jsonl, license: CC-BY-4.0}]
model: runs/base
judge: http://127.0.0.1:8001/v1#judge
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from safekey.errors import UserError
from safekey.options import check_logins, unknown
from safekey.training.command.yaml_values import convert, find_file, parse_scalar, read_yaml, set_dotted

STAGES = (
    *("collect", "dedup", "classify", "benign", "deliberate", "self"),
    *("score", "filter", "select", "segment", "write"),
)
SCORES = ("policy", "safe", "helpful", "thinking")
RULE = "rule"
"""In place of a judge: labels from the rows, refusals by words. No model is asked."""
_HERE = Path(__file__).parent / "recipes"
_SOURCE_KEYS = ("path", "label", "license", "source", "category", "columns", "split", "revision", "config")


@dataclass(frozen=True)
class MakeConfig:
    """What a run makes, and with which models.

    Attributes:
        stages: names of `STAGES`, in order; the first is collect, the last write.
        data: files or hub data sets with requests: a path, or a table with `path` and label ("harmful", "benign"),
            license, source, category (for all rows), columns, split, revision, config.
        limit: only the first so many requests.
        benchmarks: "NAME" or "NAME=FILE"; requests that overlap with one are removed. data_dir: their files' folder.
        near: Jaccard similarity from which two requests are near-duplicates; 0: exact and normalised ones only.
        policies: folder of policies; None: the packaged ones.
        teacher: the model that deliberates and rewrites: URL#NAME, a folder or a hub id. teacher_engine: "auto",
            "local", "server" or "vllm"; teacher_options: the engine's own.
        model, engine, model_options: the model that will be trained, for the stage self; server_url: its endpoint.
        judge, judge_engine, judge_options: the model that classifies and scores; "rule": none (see `RULE`).
        writer: the model that rewrites requests for the stage benign; None: the teacher.
        structured: the servers of judge and writer hold their replies to the JSON object that is asked for.
        thinking: "own": the model opens its thinking itself; "opened": the thinking is opened and closed for it.
        temperature, top_p, max_tokens, seed: how texts are generated; judges answer greedily, in judge_tokens.
        think_tokens: longest opened thinking.
        concurrency, attempts, timeout, backoff: how an endpoint is asked.
        keep_harmful: the stage benign keeps the harmful requests beside the rewritten ones.
        least: score → the smallest that the stage filter lets through.
        select_harmful, select_benign: how many rows of each label; None: all.
        balance: what is drawn evenly, in this order: "category", "source".
        segment_by: "rule", or "annotator": the judge finds U and K (an endpoint).
        price_in, price_out: dollars for a million tokens of teacher, model and writer. judge_price_in,
            judge_price_out: of the judge.
        expect_tokens: tokens of one answer that the forecast expects.
        output_dir: the folder; None: made/RECIPE.
    """

    stages: list[str] = field(default_factory=list)
    data: list[Any] = field(default_factory=list)
    limit: int | None = None
    benchmarks: list[str] = field(default_factory=list)
    data_dir: str | None = None
    near: float = 0.7
    policies: str | None = None
    teacher: str | None = None
    teacher_engine: Literal["auto", "local", "server", "vllm"] = "auto"
    teacher_options: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    engine: Literal["auto", "local", "server", "vllm"] = "auto"
    server_url: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    judge: str | None = None
    judge_engine: Literal["auto", "local", "server", "vllm"] = "auto"
    judge_options: dict[str, Any] = field(default_factory=dict)
    writer: str | None = None
    structured: bool = False
    thinking: Literal["own", "opened"] = "own"
    temperature: float | None = 0.6
    top_p: float | None = 0.95
    max_tokens: int = 4096
    think_tokens: int = 512
    judge_tokens: int = 2048
    seed: int = 0
    concurrency: int = 16
    attempts: int = 6
    timeout: float = 600.0
    backoff: float = 1.0
    keep_harmful: bool = True
    least: dict[str, int] = field(default_factory=lambda: {"policy": 4, "safe": 4, "helpful": 3, "thinking": 3})
    select_harmful: int | None = None
    select_benign: int | None = None
    balance: list[str] = field(default_factory=lambda: ["category", "source"])
    segment_by: Literal["rule", "annotator"] = "rule"
    price_in: float | None = None
    price_out: float | None = None
    judge_price_in: float | None = None
    judge_price_out: float | None = None
    expect_tokens: int = 900
    output_dir: str | None = None

    def source_tables(self) -> list[dict[str, Any]]:
        """Return the sources, each as a table with `path`."""
        return [{"path": entry} if isinstance(entry, str) else dict(entry) for entry in self.data]

    def to_dict(self) -> dict[str, Any]:
        """Return every key but the folder, which is where the record stands."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "output_dir"}


@dataclass(frozen=True, slots=True)
class MakeRecipe:
    """A recipe after `extends` and overrides: its name, and its keys."""

    name: str
    config: MakeConfig


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with safekey."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> MakeRecipe:
    """Read a recipe with its ancestors, apply `key=value` overrides, and check every value.

    Raises:
        UserError: no such recipe; a key that is unknown, misspelt, missing, of the wrong type or out of its range.
    """
    path = find_file(name_or_path, Path.cwd(), _HERE)
    values, origins = _inherit(path, ())
    kinds = get_type_hints(MakeConfig)
    for override in overrides:
        key, equals, text = override.partition("=")
        check_logins(text, f"key '{key}'")
        if not equals or not key:
            raise UserError(f"'{override}': expected key=value, as in limit=100")
        top = key.partition(".")[0]
        if top not in kinds:
            raise unknown(top, kinds, "command line")
        value = parse_scalar(text)
        if key == top and kinds[top] in (str | None, str) and value is not None:
            value = text
        if key == top and top in ("data", "benchmarks", "stages", "balance") and isinstance(value, str):
            value = [value]
        set_dotted(values, key, value, "command line")
        origins[top] = "command line"
    typed = {key: convert(value, kinds[key], f"{origins[key]}: key '{key}'") for key, value in values.items()}
    config = MakeConfig(**typed)
    _check(config, lambda key: f"{origins.get(key, path.stem)}: key '{key}'")
    return MakeRecipe(path.stem, config)


def _inherit(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one file on top of the one that it extends."""
    if path.resolve() in seen:
        raise UserError(f"{path}: key 'extends': the recipes extend each other in a circle")
    own = read_yaml(path)
    parent = own.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise UserError(f"{path}: key 'extends': expected one recipe's name or path, found {parent!r:.60}")
    kinds = get_type_hints(MakeConfig)
    for key in own:
        if key not in kinds:
            raise unknown(key, kinds, str(path))
    for key in own.keys() & {"data", "policies", "data_dir"}:
        own[key] = _beside(own[key], path.parent)
    values, origins = _inherit(find_file(parent, path.parent, _HERE), (*seen, path.resolve())) if parent else ({}, {})
    return {**values, **own}, {**origins, **dict.fromkeys(own, str(path))}


def _beside(value: Any, folder: Path) -> Any:
    """Return paths of files beside the recipe as whole paths; other values as they are."""
    if isinstance(value, list):
        return [_beside(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _beside(item, folder) if key == "path" else item for key, item in value.items()}
    if isinstance(value, str) and (folder / value).exists():
        return str((folder / value).resolve())
    return value


def _check(config: MakeConfig, where: Any) -> None:
    """Check what the types do not say.

    Raises:
        UserError: the first key that cannot be used.
    """
    for stage in config.stages:
        if stage not in STAGES:
            raise unknown(stage, STAGES, where("stages"))
    if len(config.stages) < 2 or config.stages[0] != "collect" or config.stages[-1] != "write":
        raise UserError(f"{where('stages')}: expected a list that begins with collect and ends with write")
    if not {"deliberate", "self"} & set(config.stages):
        raise UserError(f"{where('stages')}: neither deliberate nor self: no stage writes responses")
    _check_sources(config, where)
    ranges: dict[str, tuple[float, float]] = {
        "near": (0, 1), "max_tokens": (1, 1e9), "think_tokens": (1, 1e9), "judge_tokens": (1, 1e9),
        "concurrency": (1, 4096), "attempts": (1, 1000), "timeout": (0.001, 1e9), "backoff": (0, 3600),
        "limit": (1, 1e12), "select_harmful": (0, 1e12), "select_benign": (0, 1e12), "expect_tokens": (1, 1e9),
        "temperature": (0, 10), "top_p": (1e-9, 1), "price_in": (0, 1e9), "price_out": (0, 1e9),
        "judge_price_in": (0, 1e9), "judge_price_out": (0, 1e9),
    }  # fmt: skip
    for key, (low, high) in ranges.items():
        value = getattr(config, key)
        if value is not None and not low <= value <= high:
            raise UserError(f"{where(key)}: is {value:g}, expected {low:g} to {high:g}")
    for name, score in config.least.items():
        if name not in SCORES:
            raise unknown(str(name), SCORES, where("least"))
        if type(score) is not int or not 1 <= score <= 5:
            raise UserError(f"{where('least')}: {name} is {score!r}, expected a whole number from 1 to 5")
    for name in config.balance:
        if name not in ("category", "source"):
            raise unknown(name, ("category", "source"), where("balance"))


def _check_sources(config: MakeConfig, where: Any) -> None:
    if not config.data:
        raise UserError(f"{where('data')}: no requests: name a file or a hub data set, as in data=requests.jsonl")
    for entry in config.data:
        if isinstance(entry, str):
            continue
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise UserError(f"{where('data')}: expected a path, or a table with 'path', found {entry!r:.60}")
        for key, value in entry.items():
            if key not in _SOURCE_KEYS:
                raise unknown(str(key), _SOURCE_KEYS, where("data"))
            if key == "label" and value not in ("harmful", "benign"):
                raise UserError(f"{where('data')}: label is {value!r}, expected harmful or benign")
            if key == "columns" and not isinstance(value, Mapping):
                raise UserError(f"{where('data')}: columns: expected a table such as {{prompt: goal}}")
