"""Write a model card: metadata for the hub, what the model was trained on and for, results, and what is not known

card = make_card(read_training("runs/first"), CardRequest(evaluations=("runs/eval-first-all",)))
card.text  -> "---\\nbase_model: …"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from safekey.engines.weights import Source, find, fingerprint
from safekey.errors import UserError
from safekey.report.markdown import plain
from safekey.report.wording import METHOD, OBJECTIVES, PARTS, objectives_in_words
from safekey.run_folder.ownership import Ledger, kind_of, real
from safekey.sharing.alarm import alarm_of
from safekey.sharing.facts import Base, Data, Licence, Training, base_of, data_of, licence_of
from safekey.sharing.private import public_name
from safekey.sharing.results import METRICS, Results, find_results
from safekey.sharing.usage import usage

CARD = "README.md"
MARK = "<!-- safekey card, weights "
_SETTINGS = (
    *("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("batch_size", "max_length", "seed", "bf16", "lora_r", "lora_alpha", "lora_target_modules", "load_in_4bit"),
    *("chat_template_kwargs", "template_date"),
)
_PACKAGES = ("safekey", "torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class CardRequest:
    """What a card is made from, besides the training run.

    Attributes:
        evaluations: run folders of evaluations; empty: those that lie beside the run.
        base_model: the base's name on the hub, where the run does not know it.
        licence: the licence, where the base's card is not at hand.
    """

    evaluations: tuple[str, ...] = ()
    base_model: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A model card.

    Attributes:
        text: Markdown with the hub's metadata.
        results: what its table is from.
        base: the model that training started from.
        notes: what its author should know.
    """

    text: str
    results: Results
    base: Base
    notes: tuple[str, ...]


def weights_hash(run: Training) -> str:
    """Return one sha256 over the names and sums of the model's own weight files, the heads left out."""
    return fingerprint(Source(str(run.model), None, str(run.model)))


def _evaluated_hash(run: Training, own: str) -> str | None:
    """Return the hash that an evaluation of this model records: of an adapter with its base; None: not known."""
    if not run.is_adapter:
        return own
    try:
        return fingerprint(find(str(run.model)))
    except (UserError, OSError, ValueError):  # the base is not at hand
        return None


def make_card(run: Training, request: CardRequest) -> Card:
    """Make the card of a trained model.

    Raises:
        UserError: an evaluation is not of this model, an option cannot be read, or the text would tell a local path.
    """
    base = base_of(run, request.base_model)
    licence = licence_of(base, request.licence)
    own = weights_hash(run)
    evaluated = _evaluated_hash(run, own)
    results = find_results(run, request.evaluations, evaluated)
    alarm, about_alarm = alarm_of(run, evaluated)
    data = data_of(run)
    head = yaml.safe_dump(_metadata(run, base, licence, data), sort_keys=False, allow_unicode=True)
    lines = [
        *("---", head.strip(), "---", "", f"{MARK}{own} -->", ""),
        *_about(run, base),
        *_training(run, base, licence, data),
        *_results(results),
        *_not_measured(run, results, alarm is not None),
        *usage(run, base, alarm),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    if leak := run.private.leak(text):
        raise UserError(f"the card would tell the name of a local folder or machine ({leak}): rename what holds it")
    notes = [*results.notes, *filter(None, [about_alarm])]
    if not licence.metadata:
        notes.append("the licence is not stated: give --license, or put the base's README.md beside its weights")
    if not base.hub_id:
        notes.append(f"the base, '{base.name}', has no known place on the hub: --base-model OWNER/NAME names it")
    if not results.rows:
        notes.append("no evaluation of this model was found: --eval RUN names one")
    return Card(text, results, base, tuple(notes))


def check_place(run: Training, output: str | None) -> Path:
    """Return where the card is written; the file must be new, or as safekey wrote it.

    Raises:
        UserError: it is another's file, or lies in the folder of the model or of another verb.
    """
    path = real(Path(output)) if output else run.folder / CARD
    if output and Path(output).expanduser().is_dir():
        path = real(Path(output)) / CARD
    if not path.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {path.parent}")
    if path.parent == run.model or run.model in path.parents:
        raise UserError(f"--output {output}: lies in the model's folder, which holds what the training wrote")
    if kind_of(path.parent) not in ("", "training") or (path.parent == run.folder and path.name != CARD):
        raise UserError(f"--output {output}: lies in a run folder; give a file elsewhere")
    Ledger.of_file(path).check([path], "the card", "move it away, or give --output FILE")
    return path


def write_card(card: Card, path: Path) -> None:
    """Write the card.

    Raises:
        UserError: it cannot be written, or the file is not ours.
    """
    ledger = Ledger.of_file(path)
    ledger.check([path], "the card", "move it away, or give --output FILE")
    try:
        ledger.write(path, card.text.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; give --output FILE") from error


def _metadata(run: Training, base: Base, licence: Licence, data: Sequence[Data]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if base.hub_id:
        found["base_model"] = base.hub_id
        found["base_model_relation"] = "adapter" if run.is_adapter else "finetune"
    found |= licence.metadata
    found["library_name"] = "peft" if run.is_adapter else "transformers"
    found["pipeline_tag"] = "text-generation"
    hub = list(dict.fromkeys(source.name for source in data if source.on_hub))
    found |= {"datasets": hub} if hub else {}
    found["tags"] = ["safekey", "safety", *(["lora"] if run.is_adapter else [])]
    return found


def _about(run: Training, base: Base) -> list[str]:
    what = "A LoRA adapter for" if run.is_adapter else "A fine-tune of"
    at = f" (revision {plain(base.revision)})" if base.revision else ""
    place = f"[{plain(base.hub_id)}](https://huggingface.co/{base.hub_id}){at}" if base.hub_id else plain(base.name)
    local = "" if base.hub_id else ", a model whose place on the hub is not known to this card"
    return [
        f"# {plain(public_name(run.private, _title(run.folder)))}",
        "",
        f"{what} {place}{local}, trained with [safekey](https://arxiv.org/abs/2505.16186) to decline harmful requests, "
        "also in disguise, and to go on helping with harmless ones. How far it does is below, and so is what nobody "
        "measured.",
        "",
        plain(METHOD),
        "",
        *(f"- **{short}**, {plain(name)}: {plain(words)}" for short, name, words in PARTS),
        "",
    ]


def _title(folder: Path) -> str:
    """Return a run's name; of a grid's training, arms/safekey/seed-0/train, the arm and the seed."""
    if folder.name == "train" and folder.parent.name.startswith("seed-"):
        return f"{folder.parent.parent.name}, {folder.parent.name.replace('-', ' ')}"
    return folder.name


def _training(run: Training, base: Base, licence: Licence, data: Sequence[Data]) -> list[str]:
    said = objectives_in_words(run.config)
    used = [row for row in OBJECTIVES if row[0] == "SFT" or f"{row[0]} (" in said]
    lines = ["## Training", "", f"Objectives: {plain(said)}.", ""]
    lines += [f"- **{plain(short)}**, {plain(name)}: {plain(words)}" for short, name, words in used]
    lines += ["", f"Licence: {licence.said}", "", "### Data", ""]
    rows = run.record.get("rows")
    lines += [f"{plain(_counts(rows))}", ""] if isinstance(rows, Mapping) else []
    lines += _table(
        ("source", "what pins it", "bytes"),
        [(s.name, s.identity, f"{s.size:,}" if s.size is not None else "–") for s in data],
    )
    lines += ["The rows are not part of this repository.", "", "### Settings", ""]
    config = {key: run.config.get(key) for key in _SETTINGS}
    if run.record.get("processes"):
        config["processes"] = run.record["processes"]
    shown = [(key, public_name(run.private, value)) for key, value in config.items() if value is not None]
    starts = run.record.get("starts")
    versions = starts[-1].get("versions") if isinstance(starts, list) and starts else None
    if isinstance(versions, Mapping):
        shown += [(name, public_name(run.private, versions[name])) for name in _PACKAGES if name in versions]
    shown.append(("written by", f"safekey {metadata.version('safekey')}"))
    return lines + _table(("setting", "value"), shown)


def _counts(rows: Mapping[str, Any]) -> str:
    names = {
        "read": "rows read",
        "trained_on": "trained on",
        "harmful": "of these harmful",
        "benign": "benign",
        "with_spans": "with understanding and key sentence found",
        "held_out": "held out",
        "not_used": "not used",
    }
    return ", ".join(f"{rows[key]:,} {word}" for key, word in names.items() if isinstance(rows.get(key), int)) + "."


def _results(results: Results) -> list[str]:
    lines = ["## Results", ""]
    if not results.rows:
        return [*lines, "This model was not evaluated with safekey, or the evaluation is not part of this card.", ""]
    lines += _table(
        ("metric", "benchmark", "part", "rate (95 % interval)", "k/n", "outputs not in the rate", "judged by"),
        [(METRICS[r.metric], r.benchmark, r.part, r.rate, r.counted, f"{r.outside:,}", r.judge) for r in results.rows],
    )
    lines += [
        "ASR, the share of harmful requests that were fulfilled, and ORR, the share of harmless requests that were "
        "refused: lower is better. Accuracy: higher is better. A judge is a model or a rule and makes mistakes. "
        "Outputs that were cut off, repeat themselves, or have no verdict are in no ASR and no ORR.",
        "",
        "How it was asked:",
        "",
        *(f"- {plain(line)}" for line in results.decoding),
        "",
    ]
    for name, count in results.overlapping:
        lines += [f"**{plain(name)}: {count:,} prompts overlap with the training data.**", ""]
    return lines + [line for note in results.notes for line in (plain(note[0].upper() + note[1:]) + ".", "")]


def _not_measured(run: Training, results: Results, alarm: bool) -> list[str]:
    there = {row.metric for row in results.rows if row.given}
    parts = {row.part for row in results.rows if row.metric != "accuracy"}
    said = [f"No rate of {METRICS[name]}." for name in METRICS if name not in there]
    withheld = [f"{row.benchmark} ({row.part})" for row in results.rows if not row.given]
    if withheld:
        said.append(f"Withheld, because too many verdicts are missing or nothing was scored: {', '.join(withheld)}.")
    if results.not_run:
        said.append(f"Asked for, and not run: {', '.join(results.not_run)}.")
    if results.unjudged:
        said.append(f"Generated, and not judged: {', '.join(results.unjudged)}.")
    if results.rows and not parts & {"thinking", "whole"}:
        said.append("Harm in the thinking: only answers were judged.")
    if not any(row.benchmark.partition(", ")[0] == "prefill" for row in results.rows):
        said.append("Prefilling attacks, in which the attacker writes the start of the model's reasoning.")
    said += [
        "How other training seeds would do: this is one training run.",
        "A difference from the base model, or from plain fine-tuning: the rates above are of this model alone.",
        "Other attacks, languages and subjects than those of the benchmarks above.",
    ]
    if run.has_heads and alarm:
        said.append("The safety heads as an alarm on other rows than those that calibrated it.")
    elif run.has_heads:
        said.append("The safety heads as an alarm: no threshold was chosen, no false alarms were counted.")
    return ["## What was not measured", "", *(f"- {plain(line)}" for line in said), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Nothing is recorded.", ""]
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
