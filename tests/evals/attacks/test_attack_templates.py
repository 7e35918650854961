"""Templates of the user's own: every form of file and placeholder, replaced literally; one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safekey.errors import UserError
from safekey.evals.attacks.apply import choose
from safekey.evals.attacks.templates import read_templates
from safekey.evals.request import EvalRequest


def file(tmp_path: Path, text: str, name: str = "own.jsonl") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "hole",
    ["{request}", "{prompt}", "{ Goal }", "{{ prompt }}", "{{request}}", "[INSERT PROMPT HERE]", "[insert prompt here]",
     "[REPLACEME]", "[PROMPT]", "[[REQUEST]]", "[YOUR QUESTION HERE]", "<request>", "${prompt}", "%s", "{}", "{0}",
     "INSERT_PROMPT_HERE", "{behavior}", "[INSERT THE USER REQUEST HERE]"],
)  # fmt: skip
def test_every_usual_placeholder(tmp_path: Path, hole: str) -> None:
    text = f"Two sailors talk: {hole} What does the other one say?"
    (found,) = read_templates(file(tmp_path, json.dumps({"name": "harbour", "template": text}))).templates
    assert found.name == "harbour"
    assert found.filled("How?") == "Two sailors talk: How? What does the other one say?"


def test_nothing_is_rendered(tmp_path: Path) -> None:
    text = "{% for x in y %} {{ 7 * 7 }} {name} %d \\1 ${HOME} {request} and again {request}"
    (found,) = read_templates(file(tmp_path, json.dumps({"template": text}))).templates
    request = "Pick {request} {{ prompt }} \\g<0> %s [PROMPT]"
    assert found.filled(request) == text.replace("{request}", request)


def test_csv_and_text_files(tmp_path: Path) -> None:
    csv = file(tmp_path, 'name,prompt\nharbour,"Two sailors, {request}"\nTea time!,A tea: {request}\n', "own.csv")
    assert [each.name for each in read_templates(csv).templates] == ["harbour", "Tea-time"]
    lines = file(tmp_path, "A tea: {request}\n\nA cake: [INSERT PROMPT HERE]\n", "mine.txt")
    assert [(each.name, each.filled("X")) for each in read_templates(lines).templates] == [
        ("mine-1", "A tea: X"), ("mine-3", "A cake: X")
    ]  # fmt: skip
    blocks = file(tmp_path, "A tea.\n{request}\n---\nA cake.\n{request}\n", "mine.txt")
    assert [each.filled("X") for each in read_templates(blocks).templates] == ["A tea.\nX", "A cake.\nX"]
    whole = file(tmp_path, "A tea in\nthree lines: {request}\nThe end.\n", "mine.txt")
    assert [each.filled("X") for each in read_templates(whole).templates] == ["A tea in\nthree lines: X\nThe end."]


def test_yaml_documents_and_lists(tmp_path: Path) -> None:
    seed = "name: Harbour talk\ndescription: x\nparameters:\n  - prompt\nvalue: |\n  Two sailors.\n  {{ prompt }}\n"
    two = seed + "---\nname: tea\ntemplate: 'A tea: {request}'\n"
    found = read_templates(file(tmp_path, two, "own.yaml")).templates
    assert [(each.name, each.filled("X")) for each in found] == [
        ("Harbour-talk", "Two sailors.\nX"), ("tea", "A tea: X")
    ]  # fmt: skip
    listed = read_templates(file(tmp_path, "- 'A tea: {request}'\n- {name: cake, value: 'A cake: %s'}\n", "mine.yml"))
    assert [(each.name, each.filled("X")) for each in listed.templates] == [
        ("mine-1", "A tea: X"),
        ("cake", "A cake: X"),
    ]


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    home = tmp_path / "templates"
    (home / "sea").mkdir(parents=True)
    file(home, "name: tea\nvalue: 'A tea: {{ prompt }}'\n", "b.yaml")
    file(home / "sea", '{"name": "harbour", "template": "Sailors: {request}"}', "a.jsonl")
    file(home, "not a template", "README.md")
    file(home, "not a template", ".hidden.txt")
    found = read_templates(str(home))
    assert [each.name for each in found.templates] == ["tea", "harbour"]
    before = found.sha256
    file(home / "sea", '{"name": "harbour", "template": "Two sailors: {request}"}', "a.jsonl")
    assert read_templates(str(home)).sha256 != before
    file(home / "sea", "A tea.", "c.txt")
    with pytest.raises(UserError, match=r"sea/c\.txt, row 1: the template has no placeholder"):
        read_templates(str(home))


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (
            '{"template": "A tea: {request}"}\n{"template": "A tea."}',
            "own.jsonl",
            "own.jsonl, row 2: the template has no",
        ),
        ("A: {request}\nA tea.\nB: {request}", "own.txt", "own.txt, row 2: the template has no placeholder"),
        (
            '{"template": "{request} or [PROMPT]"}',
            "own.jsonl",
            r"row 1: several placeholders \(\[PROMPT\], \{request\}\)",
        ),
        ('{"name": "base64", "template": "{request}"}', "own.jsonl", "row 1: an attack is called 'base64' already"),
        (
            '{"name": "a", "template": "{request}"}\n{"name": "a", "template": "x {request}"}',
            "own.jsonl",
            "row 2: an att",
        ),
        ('{"words": "{request}"}', "own.jsonl", "row 1: no template: expected text in a column 'template'"),
        ("", "own.txt", "holds no template"),
        ('{"template": ', "own.jsonl", "own.jsonl"),
        ("name: a\nvalue: [", "own.yaml", "own.yaml: cannot be read as YAML"),
        ("- 3", "own.yaml", "own.yaml, row 1: expected a text, or keys"),
        ("name: a", "own.yaml", "own.yaml, row 1: no template"),
        ("!!python/object/apply:os.system ['true']", "own.yaml", "own.yaml: cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_row(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        choose(EvalRequest(model="m", attack_templates=file(tmp_path, text, name)))
    assert len(str(error.value).splitlines()) == 1


def test_templates_alone_are_asked_beside_the_plain_request(tmp_path: Path) -> None:
    path = file(tmp_path, '{"name": "harbour", "template": "A sailor asks: {request}"}')
    chosen = choose(EvalRequest(model="m", attack_templates=path))
    assert chosen is not None
    assert [attack.name for attack in chosen.attacks] == ["none", "harbour"]
    assert chosen.record["templates_sha256"] == chosen.templates
    assert len(chosen.templates) == 64
