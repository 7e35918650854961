"""Read a recipe: one flat YAML file and `key=value` overrides, to the configs that training takes.

    extends: base                     # another recipe, by name or by path
    model_name_or_path: Qwen/Qwen3-8B # trl.ModelConfig's keys, SafeKeyConfig's keys and DataConfig's keys, in one table
    data:
      - path: star1.json
      - {path: benign.jsonl, weight: 0.5, label: benign}
    learning_rate: 1e-5

docs/recipes.md describes the keys that SafeKey adds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import escape, glob
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from safekey.errors import UserError
from safekey.options import check_logins, unknown
from safekey.training.command import draw
from safekey.training.command.rows import DataConfig
from safekey.training.command.yaml_values import convert, find_file, parse_scalar, read_yaml, set_dotted

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
"""Keys of TRL's config that SafeKey's training does not read: setting one is an error with this reason."""

REMOVED = {"qmm_positions": "it changes nothing in models with rotary positions"}
"""Keys of earlier versions: a recipe or run folder that has one is still read, and a note gives this reason."""


@dataclass(frozen=True)
class Recipe:
    """A recipe after `extends` and overrides, every value of the declared type.

    Attributes:
        name: its name, for the default output folder.
        values: key to value; only what the recipe, its ancestors and the overrides set.
        origins: key to where it was set, for messages.
        notes: what the user should know, one sentence each.
    """

    name: str
    values: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def where(self, key: str) -> str:
        """Return "file: key 'x'" for a message."""
        return f"{self.origins.get(key, self.name)}: key '{key}'"


@dataclass(frozen=True)
class RunSettings:
    """The configs that a recipe gives.

    Attributes:
        model, training, data: the configs of the three parts of a recipe.
        half: whether the model computes in half precision.
    """

    model: ModelConfig
    training: SafeKeyConfig
    data: DataConfig
    half: bool = False


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with safekey."""
    names = [entry.name for entry in files("safekey.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with its ancestors, and apply `key=value` overrides.

    Args:
        name_or_path: a packaged recipe's name or a YAML file.
        overrides: "learning_rate=2e-5", "data=rows.jsonl", "data.0.weight=0.5", "chat_template_kwargs.x=true".

    Raises:
        UserError: no such recipe, unknown or misspelt keys, values of the wrong type; the file and key are named.
    """
    recipe = _inherit(find_recipe(name_or_path, Path.cwd()), ())
    kinds = known_keys()
    for override in overrides:
        key, equals, text = override.partition("=")
        check_logins(text, f"key '{key}'")
        if not equals or not key:
            raise UserError(f"'{override}': expected key=value, as in learning_rate=2e-5")
        top = key.partition(".")[0]
        if not _is_read(top, "command line", recipe.notes):
            continue
        value = parse_scalar(text)
        if key == top and kinds[top] in (str, str | None) and value is not None:
            value = text  # run_name=2024 is a text
        if top in ("data", "eval_data") and (key == top or key.endswith(".path")):
            value = _resolve(value, Path.cwd())
        set_dotted(recipe.values, key, value, "command line")
        recipe.origins[top] = "command line"
    typed = {key: convert(value, kinds[key], recipe.where(key)) for key, value in recipe.values.items()}
    return dataclasses.replace(recipe, values=typed)


def find_recipe(name_or_path: str, folder: Path) -> Path:
    """Return the file of a recipe given by path (relative to `folder`) or by its packaged name."""
    return find_file(name_or_path, folder, Path(str(files("safekey.recipes"))))


def _inherit(path: Path, seen: tuple[Path, ...]) -> Recipe:
    """Read one file on top of the one that it extends; a key of the file replaces the whole value of its parent."""
    if path.resolve() in seen:
        raise UserError(f"{path}: key 'extends': the recipes extend each other in a circle")
    own = read_yaml(path)
    own.pop("grid", None)  # the comparisons of a grid, which `safekey.grid.recipe_section` reads
    parent = own.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise UserError(f"{path}: key 'extends': expected one recipe's name or path, found {parent!r:.60}")
    base = _inherit(find_recipe(parent, path.parent), (*seen, path.resolve())) if parent else Recipe(path.stem, {})
    own = {key: value for key, value in own.items() if _is_read(key, str(path), base.notes)}
    for key in own.keys() & {"data", "eval_data"}:
        own[key] = _resolve(own[key], path.parent)
    return Recipe(path.stem, base.values | own, base.origins | dict.fromkeys(own, str(path)), base.notes)


def _resolve(value: Any, folder: Path) -> Any:
    """Make paths of existing files absolute, relative to the recipe's folder first, then to the current one."""
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, folder) if key == "path" else item for key, item in value.items()}
    if isinstance(value, str):
        for base in (folder, Path.cwd()):
            if (base / value).exists():
                return str((base / value).resolve())
            if draw.PLACE in value and glob(escape(str(base / value)).replace(draw.PLACE, "*")):
                return str((base / value).absolute())
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


def _is_read(key: str, where: str, notes: list[str]) -> bool:
    """Refuse keys that do not exist; note keys that were removed, and return False for them."""
    if key in REMOVED:
        notes.append(f"{where}: key '{key}' was removed and is ignored: {REMOVED[key]}")
        return False
    if key in NOT_READ:
        raise UserError(f"{where}: key '{key}' is not read: {NOT_READ[key]}; remove it")
    if key not in (keys := known_keys()):
        raise unknown(key, keys, where)
    return True


def build_settings(recipe: Recipe, *, processes: int = 1, elsewhere: bool = False) -> RunSettings:
    """Build the configs.

    Args:
        recipe: from `load_recipe`.
        processes: number of processes that train, for `batch_size`.
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
    data.check(recipe.name, recipe.where)
    data = _of_seed(data, int(values.get("seed") or 0) if "seed" in values else int(SafeKeyConfig.seed))
    if data.batch_size is not None:
        values["gradient_accumulation_steps"] = _accumulation(recipe, data.batch_size, processes)
    values.setdefault("output_dir", str(Path("runs") / recipe.name))
    half = bool(values.get("bf16") or values.get("fp16"))
    if values.get("bf16") and values.get("fp16"):
        raise UserError(f"{recipe.where('fp16')}: bf16 and fp16 exclude one another")
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
        model.dtype = None  # `models.weight_dtype` chooses it
    return RunSettings(model, training, data, half or bool(training.bf16))


def _of_seed(data: DataConfig, seed: int) -> DataConfig:
    """Put the seed into paths that name it; such a file is the seed's draw, and is not drawn from again."""
    if not draw.is_seeded(data.data) and not draw.is_seeded(data.eval_data):
        return data
    own, held = draw.with_seed(data.data, seed), draw.with_seed(data.eval_data, seed)
    again = data.rows_share is not None or not draw.is_seeded(data.data)
    return dataclasses.replace(data, data=own, eval_data=held, rows=data.rows if again else "same")


def _names(owner: Any) -> set[str]:
    return {entry.name for entry in dataclasses.fields(owner) if entry.init}


def _accumulation(recipe: Recipe, batch_size: int, processes: int) -> int:
    """Return the number of micro-batches in a step of `batch_size` rows."""
    if recipe.origins.get("gradient_accumulation_steps") is not None:
        raise UserError(
            f"{recipe.where('gradient_accumulation_steps')}: 'batch_size' sets it; "
            "give one of the two (batch_size=null switches that one off)"
        )
    each = int(recipe.values.get("per_device_train_batch_size", 8))
    if each < 1:
        raise UserError(f"{recipe.where('per_device_train_batch_size')}: is {each}, expected a number of rows from 1")
    at_once = each * processes
    if batch_size < 1 or batch_size % at_once:
        raise UserError(
            f"{recipe.where('batch_size')}: {batch_size} rows cannot be split over {processes} process(es) with "
            f"per_device_train_batch_size={at_once // processes}: expected a multiple of {at_once}"
        )
    return batch_size // at_once
