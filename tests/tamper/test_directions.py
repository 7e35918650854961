"""The refusal direction: what is measured, what is removed, and that nothing stays."""

from __future__ import annotations

import pytest
import torch

from engines.folders import real_tokenizer, save
from safekey.engines.local import LocalEngine
from safekey.engines.prompting import place
from safekey.errors import UserError
from safekey.schema import Message, Prompt
from safekey.tamper.directions import directions, layers_of, removed

torch.set_num_threads(1)


def prompts(*texts: str) -> tuple[Prompt, ...]:
    return tuple(Prompt((Message("user", text),)) for text in texts)


HARMFUL, HARMLESS = prompts("Pick the vault.", "Rob the mill."), prompts("Bake a cake.", "Mend a net.", "Sing.")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder = save(tmp_path_factory.mktemp("toy"), real_tokenizer("qwen3"))
    return LocalEngine(folder, device="cpu")


def outputs(engine: LocalEngine, prompt: Prompt) -> torch.Tensor:
    """What each layer hands on at the last token: the input of the next one, and of the final norm."""
    ids = torch.tensor([place(prompt, engine.chat).ids])
    seen: list[torch.Tensor] = []
    readers = [*layers_of(engine.model)[1:], engine.model.model.norm]
    hooks = [reader.register_forward_pre_hook(lambda _, given: seen.append(given[0][0, -1])) for reader in readers]
    with torch.no_grad():
        engine.model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


def test_the_direction_is_the_difference_of_means(engine: LocalEngine) -> None:
    found = directions(engine, HARMFUL, HARMLESS)
    means = [torch.stack([outputs(engine, prompt) for prompt in side]).mean(0) for side in (HARMFUL, HARMLESS)]
    naive = means[0] - means[1]
    assert len(found) == len(layers_of(engine.model))
    torch.testing.assert_close(found, naive / naive.norm(dim=-1, keepdim=True), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))


@pytest.mark.parametrize("layer", ["all", 0])
def test_what_is_removed_is_gone_while_it_is_removed_and_no_longer(engine: LocalEngine, layer: int | str) -> None:
    found = directions(engine, HARMFUL, HARMLESS)
    weights = {name: value.clone() for name, value in engine.model.state_dict().items()}
    before = outputs(engine, HARMFUL[0])
    with removed(engine.model, found, layer):
        during = outputs(engine, HARMFUL[0])
    units = found if layer == "all" else found[[0] * len(found)]
    assert (during * units).sum(-1).abs().max() < 1e-5
    assert (before * units).sum(-1).abs().min() > 1e-4
    assert not torch.equal(before, during)
    assert torch.equal(outputs(engine, HARMFUL[0]), before)
    assert all(torch.equal(value, weights[name]) for name, value in engine.model.state_dict().items())


def test_wrong_input_is_said(engine: LocalEngine) -> None:
    found = directions(engine, HARMFUL, HARMLESS)
    with (
        pytest.raises(UserError, match="--ablate 99: the model has the layers 0 to "),
        removed(engine.model, found, 99),
    ):
        pass
    with pytest.raises(UserError, match="layer 0 does not tell harmful and harmless prompts apart"):
        directions(engine, HARMFUL, HARMFUL)
