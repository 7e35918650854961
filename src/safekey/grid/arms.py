"""The arms of a grid: each is a set of overrides of one recipe, so that nothing else differs between arms."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safekey.errors import UserError

BASE = "base"
"""The arm that is not trained: the model itself."""

REFERENCE = "sft"
"""The arm that the others are compared with, by default."""

MARGIN = 0.03
"""How much worse over-refusal and reasoning accuracy may be, 0–1, by default."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm.

    Attributes:
        name: letters, digits and `.+_-`; also the name of its folder.
        overrides: `key=value`s on the recipe, as `safekey train` takes them.
        about: one line about it, for the report.
    """

    name: str
    overrides: tuple[str, ...]
    about: str


OBJECTIVES = ("qmm", "head", "qsm", "ksm", "key")
"""The auxiliary objectives, as `safekey.training.loop.config` names them (a test compares; that module loads torch)."""


def _off(*kept: str) -> tuple[str, ...]:
    """Switch every auxiliary objective off but those named, which stay as the recipe says."""
    return tuple(f"{name}_weight=0" for name in OBJECTIVES if name not in kept)


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(BASE, (), "the model as it is, not trained"),
        Arm("sft", _off(), "ordinary fine-tuning on the same rows"),
        Arm("dpsh", _off("head"), "SFT and the dual-path safety heads"),
        Arm("qmm", _off("qmm"), "SFT and query-mask modelling"),
        Arm("safekey", _off("qmm", "head"), "SFT, DPSH and QMM: the published method"),
        Arm("qsm", (*_off("qsm"), "qsm_weight=1.0", "qsm_epochs=-1"), "SFT and query swap (ours), from the first step"),
        Arm(
            "safekey-qsm",
            (*_off("qmm", "head", "qsm"), "qsm_weight=1.0", "qsm_epochs=-1"),
            "the published method and query swap",
        ),
        Arm("ksm", (*_off("ksm"), "ksm_weight=1.0", "ksm_epochs=-1"), "SFT and key swap (ours), from the first step"),
        Arm("key", (*_off("key"), "key_weight=0.2"), "control: the key sentence weighted up, nothing masked"),
        Arm("detached", (*_off("head"), "detach_heads=true"), "control: heads whose gradients do not reach the model"),
    )
}
"""The packaged arms, controls included."""


def choose(names: Sequence[str], own: Sequence[str] = ()) -> dict[str, Arm]:
    """Return arms by name: packaged ones, and the user's own, "NAME=key=value key=value".

    Raises:
        UserError: an unknown or impossible name, or one given twice.
    """
    chosen: dict[str, Arm] = {}
    for name in names:
        if name not in ARMS:
            raise UserError(
                f"no arm '{name}'; packaged ones are {', '.join(ARMS)}, and --arm NAME='key=value …' adds one"
            )
        _add(chosen, ARMS[name])
    for word in own:
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not name or not all(sign.isalnum() or sign in ".+_-" for sign in name) or name[0] in ".-":
            raise UserError(f"--arm {word}: expected NAME='key=value key=value', the name of letters, digits and .+_-")
        if name == BASE:
            raise UserError(f"--arm {word}: '{BASE}' is the model that is not trained; give the arm another name")
        overrides = tuple(shlex.split(text))
        _add(chosen, Arm(name, overrides, f"the recipe with {' '.join(overrides) or 'nothing changed'}"))
    return chosen


def _add(chosen: dict[str, Arm], arm: Arm) -> None:
    if arm.name in chosen:
        raise UserError(f"the arm '{arm.name}' is given twice")
    chosen[arm.name] = arm
