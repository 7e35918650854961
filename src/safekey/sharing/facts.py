"""Read what a model card says of a training run: base, licence, data, objectives, settings

run = read_training("runs/first")
base_of(run)  -> Base(hub_id="Qwen/Qwen2.5-0.5B", revision="060db64…", name="Qwen/Qwen2.5-0.5B", card=Path(…))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from safekey import run_folder
from safekey.errors import UserError
from safekey.run_folder.ownership import kind_of
from safekey.sharing.private import Private
from safekey.training.loop.checkpoint import MANIFEST
from safekey.training.loop.export import WEIGHTS

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{7,64})")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training run.

    Attributes:
        folder: its run folder, without links.
        config: config.yaml.
        record: run.json.
        private: what of this machine must not be in a text that is shared.
    """

    folder: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    private: Private

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.folder / "model"

    @property
    def is_adapter(self) -> bool:
        """Whether the model is a LoRA adapter."""
        return (self.model / "adapter_config.json").is_file() and not (self.model / "config.json").is_file()

    @property
    def has_heads(self) -> bool:
        """Whether trained heads lie beside the model."""
        return (self.model / WEIGHTS).is_file()


def read_training(folder: str) -> Training:
    """Read a training's run folder.

    Raises:
        UserError: it is no finished training's, or its model is not there or not whole.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected the run folder of a training (`safekey train`)")
    kind = kind_of(place)
    if kind != "training":
        what = {
            "grid": "is a grid: give the training of one arm and seed, such as GRID/arms/safekey/seed-0/train",
            "evaluation": "is an evaluation: give the run folder of the training, and the evaluation with --eval",
        }.get(kind, "is no training's run folder")
        hint = "; give the run folder, not its model folder" if kind_of(place.resolve().parent) == "training" else ""
        raise UserError(f"{folder}: {what}{hint}")
    record = run_folder.read_record(place)
    config = run_folder.read_settings(place / "config.yaml", "training's run folder")
    if record.get("status") != "finished":
        raise UserError(
            f"{folder}: this training is not finished ({record.get('status') or 'not begun'}): "
            "the same `safekey train` command goes on"
        )
    place = place.resolve()
    model = place / "model"
    if not model.is_dir():
        raise UserError(f"{folder}: its model is not there (looked for {model.name}/)")
    for name, size in (run_folder.read_json(model / MANIFEST).get("files") or {}).items():
        if not (model / name).is_file() or (model / name).stat().st_size != size:
            raise UserError(f"{model / name}: is missing or has changed since the training wrote it: train again")
    return Training(place, config, record, Private(_places(folder, place, config, record)))


def _places(given: str, place: Path, config: Mapping[str, Any], record: Mapping[str, Any]) -> list[Path]:
    """Return every path that a run's records name."""
    data = record.get("data")
    named = [given, str(place), config.get("output_dir"), config.get("model_name_or_path")]
    named += list(data) if isinstance(data, Mapping) else []
    return [Path(name) for name in named if isinstance(name, str) and is_local(name)]


def is_local(name: str) -> bool:
    """Whether a model's or data's name is a path: absolute, relative with dots, or there."""
    return name.startswith(("/", "~", ".")) or "\\" in name or Path(name).exists()


@dataclass(frozen=True, slots=True)
class Base:
    """The model that training started from.

    Attributes:
        hub_id: its name on the hub; "" where that is not known.
        revision: its commit there; "" where that is not known.
        name: its name, without folders.
        card: its own card, where it lies on this machine.
    """

    hub_id: str
    revision: str
    name: str
    card: Path | None


def base_of(run: Training, given: str | None = None) -> Base:
    """Find out which model training started from; its place on the hub is never guessed.

    Args:
        run: the training.
        given: its name on the hub, as the user says.

    Raises:
        UserError: `given` is no OWNER/NAME.
    """
    if given is not None and not HUB_ID.fullmatch(given):
        raise UserError(f"--base-model {given}: expected the base's name on the hub, OWNER/NAME")
    named = str(run.config.get("model_name_or_path") or "")
    revision = str(run.config.get("model_revision") or "")
    revision = "" if revision == "main" else revision
    if not is_local(named) and HUB_ID.fullmatch(named):
        return Base(given or named, revision if given in (None, named) else "", named, _cached(named, revision))
    folder = Path(named).expanduser()
    cached = _SNAPSHOT.search(folder.as_posix())
    hub_id = f"{cached[1]}/{cached[2]}" if cached else ""
    card = folder / "README.md"
    return Base(
        given or hub_id,
        cached[3] if cached and given in (None, hub_id) else "",
        hub_id or folder.name or "unknown",
        card if card.is_file() else None,
    )


def _cached(name: str, revision: str) -> Path | None:
    """Return the base's card in the hub's cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "README.md", revision=revision or None)
    return Path(found) if isinstance(found, str) else None


def front_matter(text: str) -> dict[str, Any]:
    """Return the metadata of a card; empty where there is none, or it cannot be read."""
    if not text.startswith("---"):
        return {}
    block = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    try:
        found = yaml.safe_load(block[1]) if len(block) == 3 else None
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence, for the card's metadata.

    Attributes:
        metadata: `license`, and `license_name` and `license_link` where the base's card has them; empty: not known.
        said: where it is from, in words.
    """

    metadata: Mapping[str, str]
    said: str


def licence_of(base: Base, given: str | None = None) -> Licence:
    """Return the licence: as the user says, else as the base's own card says, else none. It is never guessed.

    Raises:
        UserError: `given` is no name of a licence.
    """
    if given is not None and not _LICENCE.fullmatch(given):
        raise UserError(f"--license {given}: expected the hub's name of a licence, such as apache-2.0, mit or llama3.1")
    theirs = _their_licence(base)
    if given is not None:
        other = theirs.get("license", given)
        differs = f" The base's own card says `{other}`." if other != given else ""
        return Licence({"license": given}, f"`{given}`, as the author of this card says.{differs}")
    if theirs:
        name = theirs.get("license_name") or theirs["license"]
        return Licence(theirs, f"`{name}`, the licence in the card of the base model.")
    why = "its card does not lie on this machine" if base.card is None else "its card names none"
    return Licence({}, f"not stated: the licence of the base model is not known here ({why}). It still applies.")


def _their_licence(base: Base) -> dict[str, str]:
    if base.card is None:
        return {}
    try:
        found = front_matter(base.card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    licence = found.get("license")
    if not isinstance(licence, str) or not _LICENCE.fullmatch(licence.lower()):
        return {}
    theirs = {"license": licence.lower()}
    name, link = found.get("license_name"), found.get("license_link")
    if isinstance(name, str) and _LICENCE.fullmatch(name.lower()):
        theirs["license_name"] = name
    if isinstance(link, str) and link.startswith("https://") and re.fullmatch(r"[!-~]{1,200}", link):
        theirs["license_link"] = link
    elif isinstance(link, str) and base.hub_id and re.fullmatch(r"[\w.-]{1,60}", link):
        theirs["license_link"] = f"https://huggingface.co/{base.hub_id}/blob/main/{link}"
    return theirs


@dataclass(frozen=True, slots=True)
class Data:
    """One source of training rows.

    Attributes:
        name: the file's name without folders, or the hub id.
        on_hub: whether it is a hub id.
        identity: what pins it: a sha256 or a revision.
        size: bytes; None where it is not known.
    """

    name: str
    on_hub: bool
    identity: str
    size: int | None


def data_of(run: Training) -> list[Data]:
    """Return the sources of the training rows, as the run recorded them."""
    recorded = run.record.get("data")
    found = []
    for name, identity in recorded.items() if isinstance(recorded, Mapping) else ():
        known = identity if isinstance(identity, Mapping) else {}
        sha, size = known.get("sha256"), known.get("bytes")
        on_hub = sha is None and not is_local(str(name)) and HUB_ID.fullmatch(str(name)) is not None
        pinned = (
            f"sha256 {sha}" if sha else f"revision {known['revision']}" if known.get("revision") else "not recorded"
        )
        shown = str(name) if on_hub else Path(str(name).replace("\\", "/")).name
        found.append(Data(shown, on_hub, pinned, size if isinstance(size, int) else None))
    return found
