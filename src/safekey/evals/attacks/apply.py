"""Put attacks around the prompts of a benchmark: every prompt becomes one for each attack, and N for best_of_n.

    chosen = choose(EvalRequest(model="m", attack=("base64", "best_of_n"), best_of=4))
    attack_items(items, chosen)     # "row-1", "row-1@base64", "row-1#1@best_of_n", …, "row-1#4@best_of_n"

The last user turn is attacked. The judge is told what it was told before, the plain request; the behaviour stays, so
all attacks on it are one cluster. A prompt with an attack of its own keeps that inside: "story+base64".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from inspect_ai.model import Model

from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.evals.attacks.best_of_n import DRAWS, augmented, draw_id
from safekey.evals.attacks.decoding import CIPHER
from safekey.evals.attacks.table import ATTACKS, BEST_OF_N, PLAIN, Attack, find_attack
from safekey.evals.attacks.templates import read_templates
from safekey.evals.benchmarks.behaviours import plain_id, same_text
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.load import Items
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.request import EvalRequest
from safekey.schema import Message

_NAMED = 4  # attacks of a file that a note names


@dataclass(frozen=True, slots=True)
class Chosen:
    """The attacks of a run.

    Attributes:
        attacks: in the order in which they are asked.
        draws: how many of each behaviour best_of_n makes.
        seed: decides the draws.
        templates: sha256 of the file of templates; "" for none.
    """

    attacks: tuple[Attack, ...]
    draws: int = DRAWS
    seed: int = 0
    templates: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What decides the prompts, for resolved.yaml."""
        found: dict[str, Any] = {"names": [attack.name for attack in self.attacks]}
        if any(attack.kind == "draws" for attack in self.attacks):
            found["best_of"] = self.draws
        return found | ({"templates_sha256": self.templates} if self.templates else {})


def choose(request: EvalRequest) -> Chosen | None:
    """Return the attacks that a request names, the plain request first; None where it names none.

    Raises:
        UserError: there is no such attack, a template cannot be used, or an option has nothing to act on.
    """
    if not request.attack and not request.attack_templates:
        for given, flag in ((request.best_of, "--best-of"), (request.no_plain, "--no-plain")):
            if given:
                raise UserError(f"{flag} belongs to --attack NAME: there is no attack here")
        return None
    named = [find_attack(name) for name in request.attack]
    digest = ""
    if request.attack_templates:
        taken = [*(attack.name for attack in ATTACKS), *request.adaptive]
        file = read_templates(request.attack_templates, taken)
        named += [Attack(each.name, "template", "of your own", each.filled) for each in file.templates]
        digest = file.sha256
    if request.best_of and all(attack.name != BEST_OF_N for attack in named):
        raise UserError("--best-of belongs to the attack best_of_n: add it to --attack, or leave --best-of out")
    if request.no_plain:
        named = [attack for attack in named if attack.name != PLAIN]
        if not named:
            raise UserError("--no-plain leaves nothing: name an attack with --attack")
    else:
        named.insert(0, find_attack(PLAIN))
    return Chosen(tuple(dict.fromkeys(named)), request.best_of or DRAWS, request.seed or 0, digest)


def can_be_attacked(benchmark: Benchmark) -> bool:
    """Whether a benchmark's prompts are harmful requests, which attacks are for."""
    return benchmark.scoring == "harm"


def check_benchmarks(chosen: Chosen | None, benchmarks: list[Benchmark]) -> None:
    """Refuse attacks where no benchmark takes them.

    Raises:
        UserError: no benchmark is harmful.
    """
    if chosen is not None and not any(map(can_be_attacked, benchmarks)):
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise UserError(f"--attack: attacks are for harmful requests, and none of these benchmarks has any: {names}")


def check_raw(items: Iterable[Item], model: Model) -> None:
    """Refuse a model that cannot be given a bare text, where an item is one; it is never approximated.

    Raises:
        UserError: it cannot.
    """
    raw = next((item.prompt for item in items if item.prompt.raw), None)
    if raw is None:
        return
    if not isinstance(model.api, SafeKeyAPI):
        raise UserError(f"--attack no_template: {model}: only safekey's own engines ask without a chat template")
    try:
        model.api.engine.generate([raw], SamplingParams(max_new_tokens=1))  # checks the prompt; generates nothing yet
    except UserError as error:
        raise UserError(f"--attack no_template: {error}") from error


def attack_items(items: Items, chosen: Chosen) -> None:
    """Put every attack around every prompt of a loaded benchmark, in place; notes say what was done.

    Raises:
        UserError: an attack cannot be put around these prompts, or two prompts would have one id.
    """
    benchmark = items.benchmark
    if not can_be_attacked(benchmark):
        items.notes.append(f"{benchmark.name}: asked without attacks: they are for harmful requests")
        return
    _note_own(items)
    before = len(items)
    items[:] = [made for item in items for attack in chosen.attacks for made in _attacked(item, attack, chosen)]
    twice = next((name for name, count in Counter(item.id for item in items).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{items.source}: two prompts would be called '{twice}': give the template another name")
    names = ", ".join(
        f"{attack.name} ({chosen.draws} draws)" if attack.kind == "draws" else attack.name for attack in chosen.attacks
    )
    items.notes.append(f"{benchmark.name}: {before} prompts under attack by {names}: {len(items)} prompts")


def _attacked(item: Item, attack: Attack, chosen: Chosen) -> Iterator[Item]:
    if attack.kind == "plain":
        yield item
        return
    alone = item.attack in ("", PLAIN)
    label = attack.name if alone else f"{item.attack}+{attack.name}"
    home = plain_id(item.id, item.attack)
    more: dict[str, Any] = {CIPHER: attack.name} if attack.kind == "cipher" else {}
    if attack.kind == "raw":
        if len(item.prompt.messages) > 1 or item.prompt.prefill:
            what = "a prefill" if item.prompt.prefill else f"{len(item.prompt.messages)} turns"
            raise UserError(
                f"{item.file}, row {item.row}: {attack.name} asks a bare text, and this prompt has {what}: leave "
                f"{attack.name} out for the benchmark {item.benchmark}"
            )
        yield replace(item, id=f"{home}@{label}", attack=label, prompt=replace(item.prompt, raw=True))
    elif attack.kind == "draws":
        for draw in range(1, chosen.draws + 1):
            text = augmented(item.text, item.behaviour or home, draw, chosen.seed)
            yield _with_turn(item, draw_id(home, draw, label), label, text, {"draw": draw})
    else:
        yield _with_turn(item, f"{home}@{label}", label, attack.apply(item.text), more)


def _with_turn(item: Item, name: str, attack: str, text: str, more: dict[str, Any]) -> Item:
    """Return the item with another last user turn."""
    messages = (*item.prompt.messages[:-1], Message("user", text))
    metadata = {**item.metadata, **more} if more else item.metadata
    return replace(item, id=name, attack=attack, prompt=replace(item.prompt, messages=messages), metadata=metadata)


def _note_own(items: Items) -> None:
    """Note prompts that are attacks already, and turns that stay as they are."""
    name = items.benchmark.name
    own = [attack for attack in dict.fromkeys(item.attack for item in items) if attack not in ("", PLAIN)]
    wrapped = sum(item.attack in ("", PLAIN) and same_text(item.request) != same_text(item.text) for item in items)
    if own:
        listed = ", ".join(own[:_NAMED]) + (", …" if len(own) > _NAMED else "")
        items.notes.append(
            f"{name}: the file brings attacks of its own ({listed}); the others go around them, as '{own[0]}+base64'"
        )
    if wrapped:
        items.notes.append(
            f"{name}: {wrapped} prompts differ from the request that the judge is told: attacks go around the prompt"
        )
    if any(len(item.prompt.messages) > 1 for item in items):
        items.notes.append(f"{name}: the last user turn is attacked; earlier turns stay as they are")
