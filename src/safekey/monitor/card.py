"""The monitor's card: which model and heads, the scale, the threshold and what is promised of it; JSON and Markdown

runs/first/monitor/
  monitor.json    what `Monitor.load` reads
  monitor.md      the same for people
  safekey_heads.safetensors, safekey_heads.json     only heads that were trained on frozen states
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from safekey import run_folder
from safekey.errors import UserError
from safekey.monitor.border import VERSION
from safekey.monitor.calibration import Scale, Threshold
from safekey.monitor.request import HEADS, Head

KIND = "monitor"
CARD, PAGE = "monitor.json", "monitor.md"

READS: Mapping[Head, str] = {"understanding": "U alone", "query_and_understanding": "X and U"}


@dataclass(frozen=True, slots=True)
class Card:
    """What a fitted monitor is.

    Attributes:
        model: the model's folder or hub id.
        weights_sha256: of its weights, as an evaluation's record has it.
        heads: "trained" beside the model, or on its "frozen" states.
        pooling: how the heads pool.
        head: the head that decides.
        scales: of both heads.
        threshold: of the head that decides.
        calibration: rows that calibrated: files with sha256, counts, attacks, what was left out.
        measured: on the calibration rows: both heads' AUROC, and the share of harmful rows that are flagged.
        settings: of the model's chat template.
        border: version of the rule for U's end.
        notes: what to know about it.
        start: time and versions.
    """

    model: str
    weights_sha256: str
    heads: Literal["trained", "frozen"]
    pooling: str
    head: Head
    scales: Mapping[Head, Scale]
    threshold: Threshold
    calibration: Mapping[str, Any]
    measured: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    border: int = VERSION
    notes: tuple[str, ...] = ()
    start: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        scales = {head: scale._asdict() for head, scale in self.scales.items()}
        probability = self.scales[self.head].probability(self.threshold.logit)
        threshold = {**asdict(self.threshold), "probability": probability}
        return {"format": run_folder.FORMAT, "kind": KIND, **asdict(self), "scales": scales, "threshold": threshold}


def read_card(folder: Path) -> Card:
    """Read a monitor's card.

    Raises:
        UserError: it cannot be read, or a newer safekey wrote it.
    """
    path = folder / CARD
    found = run_folder.read_json(path)
    run_folder.check_format(path, found)
    try:
        scales = {head: Scale(**found["scales"][head]) for head in HEADS}
        threshold = Threshold(**{name: found["threshold"][name] for name in Threshold.__dataclass_fields__})
        own = {name: found[name] for name in Card.__dataclass_fields__}
        card = Card(**{**own, "scales": scales, "threshold": threshold, "notes": tuple(found["notes"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no monitor's card ({error!r:.80}): run `safekey monitor fit` again") from error
    if card.head not in HEADS or card.border != VERSION:
        raise UserError(f"{path}: was fitted with another rule for U's end: run `safekey monitor fit` again")
    return card


def page(card: Card) -> str:
    """Return the card in Markdown."""
    found, rows = card.threshold, card.calibration
    probability = card.scales[card.head].probability(found.logit)
    lines = [
        "# Monitor",
        "",
        f"An alarm for `{card.model}`. It reads {READS[card.head]} at the end of U, before the key sentence goes out.",
        f"Heads: {'trained with the model' if card.heads == 'trained' else 'trained on frozen states'}, "
        f"pooling {card.pooling}.",
        "",
        "| | |",
        "|---|---|",
        f"| flags | harm above {probability:.4f} (logit {found.logit:.4f}) |",
        f"| promise | at most {_percent(found.fpr)} of benign rows, with confidence {_percent(found.confidence)} |",
        f"| calibration rows | {found.benign} benign, of which {found.flagged} are flagged (upper bound "
        f"{_percent(found.upper)}; worth {found.effective} independent rows); {rows['harmful']} harmful |",
        f"| harmful calibration rows flagged | {_percent(card.measured['flagged_harmful'])} |",
        *(f"| AUROC, {READS[head]} | {_number(card.measured['auroc'][head])} |" for head in HEADS),
        f"| without U | {rows['without_u']} of {rows['rows']} rows: X alone is read there |",
        f"| benign rows by attack | {_counts(rows['benign_by_attack'])} |",
        f"| harmful rows by attack | {_counts(rows['harmful_by_attack'])} |",
        "",
        "The promise holds for benign rows that are drawn as these were, with thinking by the same model. It says "
        "nothing about other benign rows, and nothing about how much harm is caught. AUROC and flagged harmful rows "
        "are those of the calibration rows; `safekey monitor eval` measures them on others. A probability of harm goes "
        f"with the share of harmful rows here, {rows['harmful']} of {rows['rows']}: where harm is rarer, it is lower.",
        "",
        *(f"- {note}" for note in card.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
