"""The report's fixed words: what SafeKey is, what the numbers mean, and what an arm is, read off its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safekey.comparison.compare import Report
from safekey.comparison.conclusion import VerdictClass
from safekey.report.run_records import RunRecord

VERDICTS: Mapping[VerdictClass, str] = {
    "better": "Better",
    "lower-asr-cost-open": "Fewer attacks succeed; what it costs is open",
    "trade-off": "A trade-off",
    "worse": "Worse",
    "other-gain": "A gain, but not against attacks",
    "no-difference": "No difference shown",
    "not-comparable": "Not comparable",
}
SIGNS: Mapping[VerdictClass, str] = {
    "better": "▲", "lower-asr-cost-open": "△", "trade-off": "⇄", "worse": "▼", "other-gain": "△",
    "no-difference": "=", "not-comparable": "?",
}  # fmt: skip
_IN_SHORT: Mapping[VerdictClass, tuple[str, str]] = {
    "better": ("{} is better", "{} are better"),
    "lower-asr-cost-open": ("{} lets fewer attacks succeed, at a cost not yet known",
                            "{} let fewer attacks succeed, at a cost not yet known"),
    "other-gain": ("{} gains, but not against attacks", "{} gain, but not against attacks"),
    "trade-off": ("{} trades one thing for another", "{} trade one thing for another"),
    "worse": ("{} is worse", "{} are worse"),
    "no-difference": ("no difference is shown for {}", "no difference is shown for {}"),
    "not-comparable": ("{} cannot be compared", "{} cannot be compared"),
}  # fmt: skip
METHOD = (
    "A reasoning model thinks in words before it answers. When somebody asks for something harmful in disguise (a "
    "story, a role to play), such a model often sees through the disguise while it thinks and helps all the same. "
    "SafeKey (Zhou et al., 2025, arXiv 2505.16186) is a way to fine-tune it so that what it understood decides "
    "what it does. It looks at the beginning of the thinking:"
)
PARTS: Sequence[tuple[str, str, str]] = (
    ("X", "the query", "everything before the response, with whatever disguise it wears"),
    ("U", "the understanding", "the first sentences of the thinking, which restate what is asked"),
    ("K", "the key sentence", "the next sentence, where the model turns to helping or to declining"),
)
OBJECTIVES: Sequence[tuple[str, str, str]] = (
    ("SFT", "supervised fine-tuning", "imitate good responses: safe ones to harmful requests, helpful ones to others. "
     "The ground on which all else stands, and the usual reference."),
    ("DPSH", "dual-path safety head", "two small heads learn during training to tell harmful from harmless, one from U "
     "alone and one from X and U, so that the model's inner states come to hold that knowledge early."),
    ("QMM", "query-mask modelling", "predict K with X hidden: K must then follow from U."),
    ("QSM", "query swap", "predict K with another row's X in place of the right one: K must follow from U even with a "
     "query in sight. An extension of this library, not part of the paper."),
    ("KSM", "key swap", "another row's wrong key sentence stands before the right one, and the model learns to take it "
     "back. An extension of this library, too."),
)  # fmt: skip
NUMBERS: Sequence[tuple[str, str]] = (
    ("ASR, attack success rate", "the share of harmful requests that were fulfilled; lower is better."),
    ("ORR, over-refusal rate", "the share of harmless requests that were refused; lower is better. A model that "
     "refuses everything has an ASR of 0 and an ORR of 100 %, which is why they stand side by side."),
    ("Accuracy", "the share of reasoning problems solved; higher is better."),
    ("Interval", "where the true rate or difference plausibly lies (95 %), given that prompts and training seeds are "
     "samples."),
    ("Verdict", "in words, from tests corrected for the number of comparisons. “No difference shown” says what size "
     "could have been seen; it does not say that there is none."),
)  # fmt: skip


def headline(report: Report | None) -> str:
    """Return the comparison in one sentence: which arms are what."""
    if report is None:
        return "One arm alone: its rates are below, and there is nothing to compare them with."
    groups: dict[VerdictClass, list[str]] = {}
    for name, verdict in report.verdicts.items():
        groups.setdefault(verdict.verdict, []).append(name)
    said = [
        _IN_SHORT[kind][len(groups[kind]) > 1].format(_listed(groups[kind])) for kind in _IN_SHORT if kind in groups
    ]
    return f"Against {report.reference}: {'; '.join(said)}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def arm_in_words(records: Sequence[RunRecord]) -> str:
    """Say what an arm is, from the training runs behind it."""
    trained = [record.training for record in records if record.training is not None]
    if not trained:
        model = str(records[0].resolved.get("model") or "unknown") if records else "unknown"
        return f"The model {model} as it is, not trained by safekey."
    config = trained[0].config
    rows = trained[0].record.get("rows")
    count = rows.get("trained_on") if isinstance(rows, Mapping) else None
    data = f"{count:,} rows" if isinstance(count, int) else "its data"
    epochs = config.get("num_train_epochs")
    times = f" for {epochs:g} epochs" if isinstance(epochs, (int, float)) else ""
    seeds = f", {len(trained)} training seeds" if len(trained) > 1 else ""
    return f"{_objectives(config)}, trained on {data}{times}{seeds}."


def _objectives(config: Mapping[str, Any]) -> str:
    said = ["SFT"]
    for weight, epochs, name in (
        ("head_weight", "head_epochs", "DPSH"),
        ("qmm_weight", "qmm_epochs", "QMM"),
        ("qsm_weight", "qsm_epochs", "QSM"),
        ("ksm_weight", "ksm_epochs", "KSM"),
        ("key_weight", "key_epochs", "K up-weighted"),
    ):
        size, last = config.get(weight), config.get(epochs)
        if isinstance(size, (int, float)) and size > 0:
            when = f", last {last:g} epochs" if isinstance(last, (int, float)) and last >= 0 else ", all epochs"
            loose = ", detached: the heads read the model and do not change it" if (
                name == "DPSH" and config.get("detach_heads")
            ) else ""  # fmt: skip
            said.append(f"{name} (weight {size:g}{when}{loose})")
    return "SFT alone" if len(said) == 1 else " + ".join(said)
