"""The refusal direction: measured as a difference of means, and removed from what the layers write, by hooks.

With a(L, p) the output of layer L at the last token of prompt p, the direction of layer L is

    d(L) = mean over harmful p of a(L, p)  −  mean over harmless p of a(L, p),    r(L) = d(L) / |d(L)|

and its removal replaces every output x by x − (x·r) r (after Arditi et al. 2024). The weights stay as they are: hooks
do it while they are attached, and nothing is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from safekey.engines.local import LocalEngine
from safekey.engines.prompting import place
from safekey.errors import UserError
from safekey.schema import Prompt

_TOO_SMALL = 1e-6  # of a difference, beside the length of the means: nothing tells the prompts apart


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return a model's layers, in order.

    Raises:
        UserError: they cannot be found.
    """
    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise UserError(f"{type(model).__name__}: its {count} layers cannot be found, so no direction can be removed")


@torch.no_grad()
def directions(engine: LocalEngine, harmful: Sequence[Prompt], harmless: Sequence[Prompt]) -> Tensor:
    """Measure each layer's direction.

    Args:
        engine: the model, untouched.
        harmful: prompts on one side, at least one.
        harmless: prompts on the other side.

    Returns:
        [layers, hidden], rows of length 1, in fp32.

    Raises:
        UserError: a layer does not tell the two sides apart.
    """
    means = [_mean(engine, prompts) for prompts in (harmful, harmless)]
    found = means[0] - means[1]
    size = found.norm(dim=-1)
    scale = torch.maximum(means[0].norm(dim=-1), means[1].norm(dim=-1))
    if bool((size <= _TOO_SMALL * scale).any()):
        layer = int((size <= _TOO_SMALL * scale).nonzero()[0])
        raise UserError(f"layer {layer} does not tell harmful and harmless prompts apart: are the two files the same?")
    units: Tensor = found / size[:, None]
    return units


def _mean(engine: LocalEngine, prompts: Sequence[Prompt]) -> Tensor:
    """Return the mean output of each layer at the last token of the prompts: [layers, hidden]."""
    seen: list[Tensor] = []
    layers = layers_of(engine.model)

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(_states(output)[0, -1].float().cpu())

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    total = torch.zeros(0)
    try:
        for prompt in prompts:
            seen.clear()
            ids = torch.tensor([place(prompt, engine.chat).ids], device=engine.device)
            engine.model(input_ids=ids, use_cache=False)
            one = torch.stack(seen)
            total = one.double() if not total.numel() else total + one
    finally:
        for hook in hooks:
            hook.remove()
    return (total / len(prompts)).float()


@contextmanager
def removed(model: nn.Module, found: Tensor | None, layer: int | str | None) -> Iterator[None]:
    """Remove a direction from the outputs of all layers while the block runs.

    Args:
        model: the model.
        found: [layers, hidden], from `directions`; None where nothing is removed.
        layer: the layer whose direction is removed everywhere; "all": from each layer's output its own; None: nothing.

    Raises:
        UserError: there is no such layer.
    """
    if layer is None or found is None:
        yield
        return
    layers = layers_of(model)
    if layer != "all" and not 0 <= int(layer) < len(layers):
        raise UserError(f"--ablate {layer}: the model has the layers 0 to {len(layers) - 1}")
    hooks = []
    try:
        for place_, module in enumerate(layers):
            own = found[place_ if layer == "all" else int(layer)]
            hooks.append(module.register_forward_hook(_without(own)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without(direction: Tensor) -> Any:
    def change(_: nn.Module, __: Any, output: Any) -> Any:
        states = _states(output)
        unit = direction.to(states)
        states = states - (states @ unit)[..., None] * unit
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return change


def _states(output: Any) -> Tensor:
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
