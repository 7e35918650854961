"""The safety heads on a model's card: how to read them, and what was fitted and promised of them as an alarm"""

from __future__ import annotations

from safekey.monitor.card import CARD, KIND, READS, Card, read_card
from safekey.monitor.request import HEADS
from safekey.sharing.facts import Training


def alarm_of(run: Training, weights_sha256: str | None) -> tuple[Card | None, str]:
    """Return what `safekey monitor fit` found for the run's own heads, or None and what the card's author should know.

    Args:
        run: the training.
        weights_sha256: of its weights, as an evaluation's record has it; None: not known.

    Raises:
        UserError: the monitor's card cannot be read.
    """
    place = run.folder / KIND
    if not run.has_heads or not (place / CARD).is_file():
        return None, ""
    card = read_card(place)
    if card.heads != "trained":
        return None, f"{KIND}/{CARD} is of heads on frozen states, which are not shared: it is not on the card"
    if card.weights_sha256 != weights_sha256:
        return None, f"{KIND}/{CARD} was fitted for other weights: it is not on the card (`safekey monitor fit` again)"
    return card, ""


def heads_section(alarm: Card | None) -> list[str]:
    """Return the lines on the two heads: what they are, the alarm that was fitted if any, and how to read them."""
    lines = [
        "### The safety heads",
        "",
        "Two linear heads, trained beside the model, read its last hidden states: one those of the understanding U, "
        "one those of the query X and U.",
        "",
        *(_fitted(alarm) if alarm else _not_fitted()),
        "```python",
        "import torch",
        "from huggingface_hub import snapshot_download",
        "from safekey.training import load_heads  # pip install safekey",
        "",
        'heads = load_heads(snapshot_download(repo, allow_patterns="safekey_heads.*"))',
        "hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]  # ids [1, tokens]: prompt and thinking",
        "borders = torch.tensor([[x_start, x_end, u_start, u_end]])  # places of X and U among the tokens",
    ]
    if alarm is None:
        lines.append(
            "probability = heads(hidden, borders).sigmoid()  # [1, 2]: that the query is harmful, by U and by X and U"
        )
    else:
        lines.append(f"flagged = heads(hidden, borders)[0, {HEADS.index(alarm.head)}] > {alarm.threshold.logit:.6g}")
    return [*lines, "```", ""]


def _not_fitted() -> list[str]:
    return [
        "Alone they are **not a monitor**: nobody chose a threshold or counted false alarms. `safekey monitor fit` "
        "does both, on rows of yours.",
        "",
    ]


def _fitted(alarm: Card) -> list[str]:
    found, rows, measured = alarm.threshold, alarm.calibration, alarm.measured
    area = measured["auroc"][alarm.head]
    return [
        "As an alarm at the end of U (`safekey monitor fit`):",
        "",
        "| | |",
        "| --- | --- |",
        f"| reads | {READS[alarm.head]} |",
        f"| flags | a logit above {found.logit:.6g} |",
        f"| promise | at most {_percent(found.fpr)} of benign rows are flagged, with confidence "
        f"{_percent(found.confidence)}, if they are drawn as the calibration rows were |",
        f"| calibration rows | {found.benign:,} benign, {found.flagged:,} of them flagged; "
        f"{rows['harmful']:,} harmful, {_percent(measured['flagged_harmful'])} of them flagged |",
        f"| AUROC on these rows | {'–' if area is None else f'{area:.3f}'} |",
        "",
        "Nothing is promised about other benign rows, or about how much harm is caught. Fit it again on rows of yours.",
        "",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
