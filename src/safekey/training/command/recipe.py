"""A recipe: one flat YAML file, and `key=value` overrides, to the configs that training takes.

    extends: base                     # another recipe, by name or by path
    model_name_or_path: Qwen/Qwen3-8B # trl.ModelConfig's keys, SafeKeyConfig's keys and DataConfig's keys, in one table
    data:
      - path: star1.json
      - {path: benign.jsonl, weight: 0.5, label: benign}
    learning_rate: 1e-5

docs/recipes.md says what each of our own keys means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from safekey.data.mix import DataSource
from safekey.errors import UserError
from safekey.training.command.yaml_values import convert, parse_scalar, read_yaml, set_dotted, unknown

if TYPE_CHECKING:
    from trl import ModelConfig

    from safekey.training.loop.config import SafeKeyConfig

NOT_READ = {
    **dict.fromkeys(
        ("packing", "packing_strategy", "padding_free", "eval_packing", "pad_to_multiple_of"),
        "rows are always packed here, without padding",
    ),
    **dict.fromkeys(
        ("dataset_text_field", "dataset_num_proc", "dataset_kwargs", "shuffle_dataset", "truncation_mode"),
        "rows are read and encoded by safekey: see 'data' and 'max_length'",
    ),
    **dict.fromkeys(
        ("completion_only_loss", "assistant_only_loss", "loss_type", "label_smoothing_factor", "router_aux_loss_coef"),
        "the losses are SafeKey's: see 'qmm_weight', 'head_weight', 'qsm_weight', 'ksm_weight' and 'key_weight'",
    ),
    "hub_token": "secrets come from the environment only: set HF_TOKEN",
    **dict.fromkeys(("eos_token", "pad_token"), "the model's own template ends a turn, and nothing is padded"),
}
"""Keys that TRL's config has and SafeKey's training does not read: setting one is an error, with the reason."""


@dataclass
class DataConfig:
    """What to train on; these keys stand beside TRL's in the same recipe.

    Attributes:
        data: a path or hub id, or a list of them; an entry can be a table with `path` and `DataSource`'s other fields.
        eval_data: held-out rows of their own, in the same form.
        eval_fraction: share of `data` that is held out when there is no `eval_data`; 0 trains on every row.
        segment: "rule" finds U and K in rows without them; "given" leaves such rows to SFT alone.
        strict: a row that cannot be used stops the run.
        limit: train on a seeded sample of this many rows.
        batch_size: rows per optimiser step over all processes; sets `gradient_accumulation_steps`.
    """

    data: str | list[Any] | None = None
    eval_data: str | list[Any] | None = None
    eval_fraction: float = 0.05
    segment: Literal["rule", "given"] = "rule"
    strict: bool = False
    limit: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A recipe after `extends` and overrides, every value of the declared type.

    Attributes:
        name: its name, for the default output folder.
        values: key to value; only what the recipe, its ancestors and the overrides set.
        origins: key to where it was set, for messages.
    """

    name: str
    values: Mapping[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return "file: key 'x'" for a message."""
        return f"{self.origins.get(key, self.name)}: key '{key}'"


@dataclass(frozen=True)
class Settings:
    """The configs that a recipe gives.

    Attributes:
        model, training, data: the three parts of a recipe.
        half: whether the model computes in half precision.
    """

    model: ModelConfig
    training: SafeKeyConfig
    data: DataConfig
    half: bool = False


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with safekey."""
    return sorted(entry.name.removesuffix(".yaml") for entry in files("safekey.recipes").iterdir() if _is_yaml(entry))


def _is_yaml(entry: Any) -> bool:
    return str(entry.name).endswith(".yaml")


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its ancestors, and apply `key=value` overrides.

    Args:
        name_or_path: a packaged recipe's name or a YAML file.
        overrides: "learning_rate=2e-5", "data=rows.jsonl", "data.0.weight=0.5", "chat_template_kwargs.x=true".

    Raises:
        UserError: no such recipe, unknown or misspelt keys, values of the wrong type; the file and key are named.
    """
    path = find_recipe(name_or_path, Path.cwd())
    values, origins = _inherit(path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"'{override}': expected key=value, as in learning_rate=2e-5")
        top = key.partition(".")[0]
        _check_key(top, "command line")
        kind = known_keys()[top]
        value = parse_scalar(text)
        if key == top and kind in (str, str | None) and value is not None:
            value = text  # run_name=2024 is a text
        if top in ("data", "eval_data") and (key == top or key.endswith(".path")):
            value = _resolve(value, Path.cwd())
        set_dotted(values, key, value, "command line")
        origins[top] = "command line"
    recipe = Recipe(path.stem, values, origins)
    kinds = known_keys()
    typed = {key: convert(value, kinds[key], recipe.where(key)) for key, value in values.items()}
    return Recipe(path.stem, typed, origins)


def find_recipe(name_or_path: str, folder: Path) -> Path:
    """Return the file of a recipe given by path (relative to `folder`) or by its packaged name."""
    path = folder / name_or_path
    if path.is_file():
        return path
    packaged = Path(str(files("safekey.recipes"))) / f"{name_or_path}.yaml"
    if packaged.is_file() and Path(name_or_path).name == name_or_path:
        return packaged
    raise UserError(
        f"no recipe '{name_or_path}': looked for the file {path} and among the packaged ones: "
        + ", ".join(packaged_recipes())
    )


def _inherit(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one file on top of the one that it extends; keys of the file win whole, lists are not merged."""
    if path.resolve() in seen:
        raise UserError(f"{path}: key 'extends': the recipes extend each other in a circle")
    own = read_yaml(path)
    own.pop("grid", None)  # how its arms are compared: safekey.grid.recipe_section reads it
    parent = own.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise UserError(f"{path}: key 'extends': expected one recipe's name or path, found {parent!r:.60}")
    for key in own:
        _check_key(key, str(path))
    for key in own.keys() & {"data", "eval_data"}:
        own[key] = _resolve(own[key], path.parent)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if parent:
        values, origins = _inherit(find_recipe(parent, path.parent), (*seen, path.resolve()))
    return values | own, origins | dict.fromkeys(own, str(path))


def _resolve(value: Any, folder: Path) -> Any:
    """Make paths of existing files absolute: they mean the recipe's folder first, then the current one."""
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, folder) if key == "path" else item for key, item in value.items()}
    if isinstance(value, str):
        for base in (folder, Path.cwd()):
            if (base / value).exists():
                return str((base / value).resolve())
    return value


def known_keys() -> dict[str, Any]:
    """Return every key that a recipe may set, with its type."""
    from trl import ModelConfig

    from safekey.training.loop.config import SafeKeyConfig

    found: dict[str, Any] = {}
    for owner in (ModelConfig, SafeKeyConfig, DataConfig):
        hints = get_type_hints(owner)
        found |= {entry.name: hints[entry.name] for entry in dataclasses.fields(owner) if entry.init}
    return found


def _check_key(key: str, where: str) -> None:
    keys = known_keys()
    if key in NOT_READ:
        raise UserError(f"{where}: key '{key}' is not read: {NOT_READ[key]}; remove it")
    if key not in keys:
        raise unknown(key, keys, where)


def data_sources(value: str | list[Any] | None, where: str) -> list[DataSource]:
    """Return the sources that `data` or `eval_data` names.

    Raises:
        UserError: an entry is neither a path nor a table with a path, or has unknown keys or wrong types.
    """
    entries: Iterable[Any] = [] if value is None else [value] if isinstance(value, str) else value
    sources = []
    hints = get_type_hints(DataSource)
    for index, entry in enumerate(entries):
        at = f"{where}, entry {index}"
        table = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("path"), str) or not table["path"]:
            raise UserError(f"{at}: expected a path or a table with 'path', found {entry!r:.80}")
        for key in table:
            if key not in hints:
                raise unknown(str(key), hints, at)
        sources.append(DataSource(**{key: convert(v, hints[key], f"{at}: key '{key}'") for key, v in table.items()}))
    return sources


def build_settings(recipe: Recipe, *, processes: int = 1, elsewhere: bool = False) -> Settings:
    """Build the configs.

    Args:
        recipe: what `load_recipe` returned.
        processes: how many processes will train, for `batch_size`.
        elsewhere: plan for GPUs that this machine does not have; such settings cannot train.

    Raises:
        UserError: a required key is missing, or a config class refuses the values.
    """
    import torch
    from trl import ModelConfig

    from safekey.training.loop.config import SafeKeyConfig

    values = dict(recipe.values)
    if not values.get("model_name_or_path"):
        raise UserError(f"{recipe.name}: no model: set model_name_or_path to a folder or hub id")
    data = DataConfig(**{name: values[name] for name in _names(DataConfig) & values.keys()})
    _check_data(recipe, data)
    if data.batch_size is not None:
        values["gradient_accumulation_steps"] = _accumulation(recipe, data.batch_size, processes)
    values.setdefault("output_dir", str(Path("runs") / recipe.name))
    half = bool(values.get("bf16") or values.get("fp16"))
    if elsewhere and not torch.cuda.is_available():
        values |= {"bf16": False, "fp16": False}  # transformers refuses them without a GPU
        half = True
    if (data.eval_data or data.eval_fraction) and "eval_strategy" not in values:
        values["eval_strategy"] = "epoch"
    try:
        model = ModelConfig(**{name: values[name] for name in _names(ModelConfig) & values.keys()})
        training = SafeKeyConfig(**{name: values[name] for name in _names(SafeKeyConfig) & values.keys()})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{recipe.name}: {' '.join(str(error).split())}") from error
    if "dtype" not in values:
        model.dtype = None  # `models.weight_dtype` chooses
    return Settings(model, training, data, half or bool(training.bf16))


def _names(owner: Any) -> set[str]:
    return {entry.name for entry in dataclasses.fields(owner) if entry.init}


def _check_data(recipe: Recipe, data: DataConfig) -> None:
    if not data.data:
        raise UserError(
            f"{recipe.name}: no data: add data=FILE to the command, or 'data:' to the recipe "
            "(a file, a hub id, or a list of them; docs/recipes.md)"
        )
    data_sources(data.data, recipe.where("data"))
    data_sources(data.eval_data, recipe.where("eval_data"))
    if not 0 <= data.eval_fraction < 1:
        raise UserError(f"{recipe.where('eval_fraction')}: expected a share in [0, 1), found {data.eval_fraction}")
    if data.limit is not None and data.limit < 1:
        raise UserError(f"{recipe.where('limit')}: expected at least 1, found {data.limit}")


def _accumulation(recipe: Recipe, batch_size: int, processes: int) -> int:
    """Return how many micro-batches make one step of `batch_size` rows."""
    if recipe.origins.get("gradient_accumulation_steps") is not None:
        raise UserError(
            f"{recipe.where('gradient_accumulation_steps')}: 'batch_size' sets it; "
            "give one of the two (batch_size=null switches that one off)"
        )
    at_once = int(recipe.values.get("per_device_train_batch_size", 8)) * processes
    if batch_size < 1 or batch_size % at_once:
        raise UserError(
            f"{recipe.where('batch_size')}: {batch_size} rows cannot be split over {processes} process(es) with "
            f"per_device_train_batch_size={at_once // processes}: expected a multiple of {at_once}"
        )
    return batch_size // at_once
