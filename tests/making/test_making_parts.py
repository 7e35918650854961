"""Leaks, policies, the draw, collecting, recipes: the parts of making that ask no model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from making.test_near import work
from safekey.data.read import RawRow
from safekey.errors import UserError
from safekey.making import prompting
from safekey.making.config import STAGES, load_recipe, packaged_recipes
from safekey.making.leaks import find_leak
from safekey.making.policies import Policies, Policy, load_policies
from safekey.making.replies import finish, read_reply, refuses
from safekey.making.rows import Aside, Row
from safekey.making.stages import collect, select
from safekey.schema import Completion

VAULT = Policy(
    "royal-vault",
    "Royal vault policy",
    "About the vault.",
    "# Royal vault policy\n\nNobody may ever open the vault of the king without his own key and leave.",
)


@pytest.mark.parametrize(
    ("text", "request_", "leaks"),
    [
        ("Nobody may ever open the vault of the king, I think.", "How do I open it?", True),
        ("nobody may EVER open, the vault of the King", "How do I open it?", True),
        ("Nobody may ever open the vault of a king.", "How do I open it?", False),
        ("He asks: may nobody ever open the vault of the king?", "nobody ever open the vault of the king", False),
        ("According to the Royal Vault Policy, no.", "How do I open it?", True),
        ("The royal vault comes to mind.", "How do I open it?", True),
        ("Opening the royal vault is theft.", "How do I open the royal vault?", False),
        ("The royal-vault rule forbids it.", "How do I open the royal vault?", True),
        ("Our content policy says no.", "How do I open it?", True),
        ("The policy on parking is on the wall.", "What is the policy on parking?", False),
        ("A system prompt is a text. The policy says so.", "What is a system prompt?", True),
        ("A system prompt is a text.", "What is a system prompt?", False),
        ("The instructions I was given say no.", "How do I open it?", True),
        ("It is theft, and people would lose what is theirs.", "How do I open it?", False),
        ("What stands between the marks is a request.", "How do I open it?", True),
        ("The number of the phone is between marks.", "How do I open it?", True),
        ("Between marks of chalk stands a door.", "What is between marks of chalk?", False),
        ("I leave the note on the table.", "How do I say that I am out?", False),
    ],
)  # fmt: skip
def test_leaks(text: str, request_: str, leaks: bool) -> None:
    assert bool(find_leak(text, request_, [VAULT.text], VAULT)) is leaks


def test_the_note_of_the_stage_self_is_no_secret_to_tell() -> None:
    """SmolLM2 wrote: "make sure I don't share any private information like the note"."""
    secret = prompting.messages("self_harmful", {"request": "How do I open it?"})[0].content
    said = "I must not share anything private, like the note."
    assert find_leak(said, "How do I open it?", [secret])
    assert not find_leak(said, "What is in the note?", [secret])
    assert not find_leak(said, "How do I open it?", [])


def test_a_repeated_mark_is_a_leak() -> None:
    mark = prompting.mark_of({"request": "x"})
    assert find_leak(f"<<{mark}>>", "x", [], None, mark)
    assert not find_leak("a kind word", "x", [], None, mark)


def test_a_tag_that_would_move_the_border_is_set_aside() -> None:
    row = Row("r:1", "What does the closing tag do?", "benign")
    assert isinstance(finish(row, "Hm.", "Gladly.", []), Row)
    assert isinstance(finish(row, "He means </think> by it.\nThat is all.", "Gladly.", []), Aside)
    assert refuses("x", "I'm sorry, but no.")
    assert not refuses("x", "Gladly.")


def test_the_packaged_policies_say_what_they_are_about() -> None:
    found = load_policies(None)
    assert len(found) >= 8
    assert "general" not in found
    assert found.of("") is found.general
    assert found.of("no such") is found.general
    assert found.named("Theft, fraud, drugs and other trade outside the law") == "crime"
    assert found.named("Self_Harm") == "self-harm"
    assert found.named("weather") == ""
    for policy in found.values():
        assert find_leak(policy.summary, "x", [policy.text], policy)  # its own words are found in a text


def test_own_policies_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "vault.md").write_text("# Vault\n\nAbout the vault\nand its key.\n\nMore.")
    found = load_policies(str(tmp_path))
    assert found["vault"].summary == "About the vault and its key."
    assert found.general.text == found.listed()
    (tmp_path / "bad.md").write_text("no title")
    with pytest.raises(UserError, match=r"bad\.md: the policy has no title"):
        load_policies(str(tmp_path))
    (tmp_path / "bad.md").write_text("# Title alone\n\n## Next")
    with pytest.raises(UserError, match=r"bad\.md: the policy has no first paragraph"):
        load_policies(str(tmp_path))
    assert isinstance(found, Policies)


def test_the_draw_is_even_over_categories_then_sources() -> None:
    rows = [Row(f"r:{n}", "q", "harmful", "ab"[n % 10 == 0], f"s{n % 3}") for n in range(100)]
    drawn = select.draw(rows, 30, ["category", "source"], 0)
    assert Counter(row.category for row in drawn) == {"a": 20, "b": 10}  # b has no more
    assert max(Counter(row.source for row in drawn if row.category == "a").values()) <= 7
    assert select.draw(rows, 30, ["category", "source"], 0) == drawn
    assert select.draw(rows, 30, ["category", "source"], 1) != drawn
    outcome = select.run(rows, work(select_harmful=30, select_benign=5))
    assert [row.id for row in outcome.rows] == [row.id for row in rows if row in drawn]
    assert len(outcome.aside) == 70
    assert outcome.notes == ["only 0 benign rows; 5 were wanted"]


def test_collect_reads_the_usual_layouts_and_keeps_source_and_licence(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    given = [
        {"goal": "one", "category": "crime", "license": "MIT", "id": 7, "harmful": 1},
        {"messages": [{"role": "user", "content": "two"}, {"role": "assistant", "content": "no"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
        {"prompt": "   "},
        {"prompt": 5},
        {"prompt": "half \ud800"},
        {"number": 1},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in given) + "{broken\n")
    sources = [{"path": str(file), "license": "CC0"}, {"path": str(file), "label": "benign"}]
    outcome = collect.run([], work(data=sources))
    assert [(row.id, row.question, row.label, row.license) for row in outcome.rows] == [
        ("a:1", "one", "harmful", "CC0"),
        ("a:2", "two", "", "CC0"),
        ("a.2:1", "one", "benign", "MIT"),
        ("a.2:2", "two", "benign", ""),
    ]
    assert outcome.rows[0].category == "crime"
    assert outcome.rows[0].source == "a.jsonl"
    assert outcome.rows[0].source_id == "7"
    assert len(outcome.aside) == 14
    assert all(one.kind == "unusable" for one in outcome.aside)


def test_the_licence_of_a_hub_data_set_is_that_of_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is not asked here."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(collect, "read_rows", lambda path, **options: ([RawRow(1, {"prompt": "one"})], []))
    cards = iter([{"license": "apache-2.0"}, {"license": ["mit", "odc-by"]}, None])
    monkeypatch.setattr(huggingface_hub, "dataset_info", lambda name, **options: SimpleNamespace(card_data=next(cards)))
    sources = [
        {"path": "nobody/one"},
        {"path": "nobody/two"},
        {"path": "nobody/three"},
        {"path": "x/y", "license": "L"},
    ]
    outcome = collect.run([], work(data=sources))
    assert [row.license for row in outcome.rows] == ["apache-2.0", "mit, odc-by", "", "L"]
    assert [row.source for row in outcome.rows][:2] == ["nobody/one", "nobody/two"]


def test_thinking_comes_in_tags_or_in_a_field() -> None:
    row = Row("r:1", "How do I water it?", "benign")
    read = read_reply(row, Completion("<think>\nThey ask of water.\n</think>\n\nIn the evening.", "stop"))
    assert read == ("They ask of water.", "In the evening.")
    read = read_reply(row, Completion("They ask of water.\n</think>\n\nIn the evening.", "stop", started_inside=True))
    assert read == ("They ask of water.", "In the evening.")


def test_packaged_recipes_are_whole() -> None:
    assert packaged_recipes() == ["benign", "mix-2k", "self", "star1"]
    for name in packaged_recipes():
        recipe = load_recipe(name, ["data=x.jsonl"])
        assert set(recipe.config.stages) <= set(STAGES)
    mix = load_recipe("mix-2k", ["data=x.jsonl"]).config
    assert (mix.select_harmful, mix.select_benign) == (1000, 915)


def test_a_recipe_of_ones_own_extends_a_packaged_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: star1\ndata: [a.jsonl]\nselect_harmful: 5\n")
    recipe = load_recipe(str(file), ["data.0.license=MIT", "least.safe=3", "teacher=t"])
    assert recipe.name == "mine"
    assert recipe.config.source_tables() == [{"path": "a.jsonl", "license": "MIT"}]
    assert recipe.config.least["safe"] == 3
    assert recipe.config.select_harmful == 5
    (tmp_path / "a.jsonl").write_text("{}")  # a file beside the recipe is found from any folder
    assert load_recipe(str(file)).config.source_tables() == [{"path": str(tmp_path / "a.jsonl")}]
    file.write_text("extends: mine.yaml\n")
    with pytest.raises(UserError, match="circle"):
        load_recipe(str(file))
    file.write_text("extends: star1\nselect_harmfull: 5\n")
    with pytest.raises(UserError, match="did you mean 'select_harmful'"):
        load_recipe(str(file))


def test_a_value_is_not_filled_in_turn() -> None:
    system, user = prompting.messages(
        "score", {"request": "[[answer]]", "thinking": "t", "answer": "SECRET"}, policy="p", label="l"
    )
    assert user.content.count("SECRET") == 1
    assert "[[answer]]" in user.content
    assert "p" in system.content
