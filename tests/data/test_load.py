"""Every layout and file type to examples; every defect to a reported row."""

import csv
import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safekey.data import Examples, canonical, load_examples, segment, summarize, write_jsonl
from safekey.data.formats import COLUMNS
from safekey.errors import DataError, UserError
from safekey.schema import Example, Message
from toys import SHARED

THINKING = "The user asks how to brew tea. That is harmless. Start with water."
ANSWER = "Boil water, then steep for 3 minutes."
LITERAL = canonical(THINKING, ANSWER)
U_END, K_END = 8 + len("The user asks how to brew tea."), 8 + len("The user asks how to brew tea. That is harmless.")
ROW = {"question": "How do I brew tea?", "response": LITERAL}
SPANS = {"understanding_end": U_END, "key_sentence_end": K_END}
USER = {"role": "user", "content": "How do I brew tea?"}


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def load_one(tmp_path: Path, row: Any, **options: Any) -> Example:
    loaded = load_examples(write(tmp_path / "rows.jsonl", [row]), **options)
    assert not loaded.problems, loaded.describe_problems()
    return loaded[0]


def reason(tmp_path: Path, row: Any, **options: Any) -> tuple[str, str]:
    loaded = load_examples(write(tmp_path / "rows.jsonl", [row]), **options)
    assert not loaded
    (problem,) = loaded.problems
    assert (problem.file, problem.row) == (str(tmp_path / "rows.jsonl"), 1)
    with pytest.raises(DataError) as error:
        load_examples(tmp_path / "rows.jsonl", strict=True, **options)
    assert str(error.value) == str(problem)
    return problem.field, problem.reason


# Layouts


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {"prompt": "How do I brew tea?", "completion": f"{THINKING}</think>{ANSWER}"},
        {"instruction": "How do I brew tea?", "input": "", "output": f"<think>{THINKING}</think>\n{ANSWER}"},
        {"query": "How do I brew tea?", "answer": ANSWER, "reasoning_content": THINKING},
        {"question": "How do I brew tea?", "answer": ANSWER, "thinking": f"<think>\n{THINKING}\n</think>"},
        {"question": "How do I brew tea?", "response": LITERAL, "reasoning": THINKING},
        {"prompt": [USER], "completion": [{"role": "assistant", "content": LITERAL}]},
        {"messages": [USER, {"role": "assistant", "content": LITERAL, "thinking": None}]},
        {"messages": [USER, {"role": "assistant", "content": ANSWER, "reasoning_content": THINKING}]},
        {"messages": [USER, {"role": "assistant", "content": ANSWER}], "reasoning": THINKING},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": LITERAL}]}], "prompt": "other"},
        {"conversations": [{"from": "human", "value": "How do I brew tea?"}, {"from": "gpt", "value": LITERAL}]},
    ],
)
def test_layouts_give_the_same_example(tmp_path: Path, row: dict[str, Any]) -> None:
    example = load_one(tmp_path, row)
    assert example.prompt == (Message("user", "How do I brew tea?"),)
    assert example.response == LITERAL
    assert example.harmful is None
    assert example.fields == row
    assert (example.id, example.row) == ("1", 1)


def test_the_rows_in_the_docs_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (tmp_path / "docs.jsonl").write_text(text.partition("```json\n")[2].partition("```")[0])
    loaded = load_examples(tmp_path / "docs.jsonl", strict=True)
    assert len(loaded) == 8
    assert [example.harmful for example in loaded[:3]] == [False, False, True]
    assert {example.key_sentence for example in loaded[:2]} == {"That is harmless."}


def test_a_quoted_closing_tag_does_not_end_the_thinking(tmp_path: Path) -> None:
    response = "<think>\nThe user asks what `</think>` means. It ends the thinking.\n</think>\n\nIt ends the thinking."
    example = load_one(tmp_path, ROW | {"response": response})
    assert example.response == response
    assert segment(example).understanding == "The user asks what `</think>` means."
    assert segment(example).key_sentence == "It ends the thinking."


def test_multi_turn_with_system_and_earlier_thinking(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHello!"},
        {"role": "user", "content": "Tea?"},
        {"role": "assistant", "content": LITERAL},
    ]
    example = load_one(tmp_path, {"messages": turns})
    assert example.prompt == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello!", "A greeting."),
        Message("user", "Tea?"),
    )
    assert example.question == "Tea?"


def test_system_column_and_alpaca_input(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "instruction": "Translate.", "input": "tea", "output": LITERAL}
    assert load_one(tmp_path, row).prompt == (Message("system", "Be brief."), Message("user", "Translate.\n\ntea"))


def test_named_columns(tmp_path: Path) -> None:
    row = {"q": "Tea?", "a": ANSWER, "cot": THINKING, "prompt": "not this", "messages": "not this"}
    example = load_one(tmp_path, row, columns={"prompt": "q", "response": "a", "thinking": "cot"})
    assert (example.question, example.response) == ("Tea?", LITERAL)
    with pytest.raises(UserError, match="did you mean 'prompt'"):
        load_examples(tmp_path / "rows.jsonl", columns={"promt": "q"})


def test_reference_layout(tmp_path: Path) -> None:
    """The reference's offsets refer to the normalised literal, whatever white space the row has."""
    base = {"question": "Tea?", "response": f"<think>\n\n {THINKING}\n\n</think>\n{ANSWER}\n"}
    idx = {"summary_end_idx": U_END, "next_sentence_end_idx": K_END}
    rows = [base | idx | {"source": "4o_rewrite"}, base | idx | {"source": "ALERT"}]
    loaded = load_examples(write(tmp_path / "sft_mix_2k.json", rows))
    assert [example.harmful for example in loaded] == [False, True]
    assert loaded[0].understanding == "The user asks how to brew tea."
    assert loaded[0].key_sentence == "That is harmless."
    assert loaded[0].span_source == "given"
    assert loaded.layouts == {"safekey-reference": 2}


def test_escaped_slashes_of_the_reference_layout(tmp_path: Path) -> None:
    r"""The published code reads `\/` as `/` before it splits a response, so its offsets count that text."""
    thinking = "The user asks for tea and/or coffee. That is harmless. Start with water."
    plain = canonical(thinking, "1/2 litre of water.")
    end = plain.index(" That is")
    idx = {"summary_end_idx": end, "next_sentence_end_idx": plain.index(" Start with"), "source": "4o_rewrite"}
    row = {"question": r"Tea \/ coffee?", "response": plain.replace("/", r"\/")} | idx
    loaded = load_examples(write(tmp_path / "mix.json", [row, row | {"response": plain}]))
    assert [example.response for example in loaded] == [plain, plain]  # also the closing tag, `<\/think>` in the row
    assert [example.key_sentence for example in loaded] == ["That is harmless."] * 2
    assert loaded[0].question == r"Tea \/ coffee?"  # the published code leaves prompts as they are
    assert [note for note in loaded.notes if r"1 responses hold '\/'" in note] == loaded.notes
    assert write_jsonl(loaded, tmp_path / "out.jsonl") == 2
    assert [example.key_sentence for example in load_examples(tmp_path / "out.jsonl")] == ["That is harmless."] * 2

    other = {"question": "Tea?", "response": canonical(r"One \/ two.", "Yes."), "source": "4o_rewrite"}
    assert load_one(tmp_path, other).response == other["response"]  # without the offsets it is another layout


def test_key_sentence_in_the_answer_is_accepted(tmp_path: Path) -> None:
    end = LITERAL.index("</think>")
    example = load_one(tmp_path, ROW | {"understanding_end": end, "key_sentence_end": len(LITERAL)})
    assert example.key_sentence.endswith(ANSWER)


# Labels

STAR1 = ROW | {"id": "68", "category": ["Self-Harm"], "source": "ALERT", "score": {"Relevancy": 10}}


@pytest.mark.parametrize(
    ("extra", "options", "harmful"),
    [
        ({}, {}, True),
        ({"source": "4o_rewrite"}, {}, False),
        ({"harmful": False}, {}, False),
        ({"harmful": None}, {}, True),
        ({"is_harmful": "0"}, {}, False),
        ({"label": "benign"}, {}, False),
        ({"label": 0}, {}, True),  # 0 could mean anything in a column called "label"
        ({"label": 0}, {"label_column": "label"}, False),
        ({"label": ""}, {"label_column": "label"}, None),
        ({"is_safe": True}, {"label_column": "is_safe"}, False),
        ({"is_safe": "unsafe"}, {"label_column": "is_safe"}, True),
        ({"harmful": True}, {"label": "benign"}, False),
        ({}, {"label": False}, False),
    ],
)
def test_label_rules(tmp_path: Path, extra: dict[str, Any], options: dict[str, Any], harmful: bool | None) -> None:
    assert load_one(tmp_path, STAR1 | extra, **options).harmful is harmful


def test_label_errors(tmp_path: Path) -> None:
    assert reason(tmp_path, STAR1 | {"harmful": "maybe"})[0] == "harmful"
    with pytest.raises(UserError, match="columns found: question"):
        load_examples(tmp_path / "rows.jsonl", label_column="danger")
    with pytest.raises(UserError, match="expected 'harmful' or 'benign'"):
        load_examples(tmp_path / "rows.jsonl", label="bad")


# Rows that cannot be used


@pytest.mark.parametrize(
    ("row", "field", "text"),
    [
        ({"question": "Tea?"}, "response", "the row has question"),
        ({"response": LITERAL}, "prompt", "the row has response"),
        (ROW | {"question": ""}, "question", "empty prompt"),
        (ROW | {"question": " \n"}, "question", "empty prompt"),
        (ROW | {"system": ["Be brief."]}, "system", "expected a string, found list"),
        (ROW | {"question": 3}, "question", "expected a string, found int"),
        (ROW | {"response": "Boil water."}, "response", "no </think>"),
        (ROW | {"response": "<think>\nThe user"}, "response", "cut off"),
        (ROW | {"response": "<think>\nx\n</think>\n"}, "response", "no answer"),
        (ROW | {"reasoning": "Something else."}, "response", "two thinkings"),
        (ROW | {"response": "A.", "reasoning": "a</think>b"}, "response", "within the thinking"),
        (ROW | {"understanding_end": 9}, "key_sentence_end", "one offset alone"),
        (ROW | {"understanding_end": 40, "key_sentence_end": 20}, "key_sentence_end", "offsets reversed"),
        (ROW | {"understanding_end": 9, "key_sentence_end": 9999}, "key_sentence_end", "outside the text"),
        (ROW | {"understanding_end": -1, "key_sentence_end": 20}, "understanding_end", "outside the text"),
        (ROW | {"understanding_end": "9", "key_sentence_end": 20}, "understanding_end", "not an integer"),
        (ROW | {"understanding_end": True, "key_sentence_end": 20}, "understanding_end", "not an integer"),
        (ROW | {"understanding_end": 9.5, "key_sentence_end": 20}, "understanding_end", "not an integer"),
        ({"messages": []}, "messages", "expected a list of turns"),
        ({"messages": "hello"}, "messages", "not a JSON list"),
        ({"messages": [USER]}, "messages", "ends with a turn of 'user'"),
        ({"messages": [{"role": "assistant", "content": LITERAL}]}, "messages", "the prompt is empty"),
        ({"messages": [USER, {"role": "wizard", "content": "x"}]}, "messages[1]", "unknown role: 'wizard'"),
        ({"messages": [USER, "x"]}, "messages[1]", "not a turn"),
        ({"messages": [USER, {"role": ["user"], "content": "x"}]}, "messages[1]", "unknown role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0]", "'image'"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [1]}]}, "messages[1]", "tool calls"),
        (ROW | {"question": "\ud800"}, "question", "broken text"),
        (ROW | {"note": {"deep": ["\udcff"]}}, "note", "broken text"),
        (ROW | {"note": json.loads("[" * 700 + "]" * 700)}, "note", "nested too deeply"),
        ("text", "", "not an object"),
    ],
)
def test_unusable_rows_are_reported(tmp_path: Path, row: Any, field: str, text: str) -> None:
    found_field, found_reason = reason(tmp_path, row)
    assert found_field == field
    assert text in found_reason


def test_answers_alone_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [
        {"prompt": "How do I brew tea?", "response": "Boil water."},
        {"prompt": "How do I brew tea?", "response": "<think>\nTea.\n</think>\n\nBoil water."},
        {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Boil water."}]},
        {"prompt": "How do I brew tea?", "response": "<think>\nIt was cut off"},
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    found = load_examples(file, answers_alone=True)
    alone = "<think>\n\n</think>\n\nBoil water."
    assert [row.response for row in found] == [alone, rows[1]["response"], alone]
    assert [problem.row for problem in found.problems] == [4]
    assert [problem.row for problem in load_examples(file).problems] == [1, 3, 4]


def test_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(ROW), "", "{broken", json.dumps(ROW | {"response": "x"}), json.dumps(ROW)]
    path.write_text("\n".join(lines))
    loaded = load_examples(path)
    assert [example.row for example in loaded] == [1, 5]
    assert [problem.row for problem in loaded.problems] == [3, 4]
    assert "wrong JSON" in loaded.problems[0].reason
    assert loaded.rows_read == len(loaded) + len(loaded.problems) == 4
    assert loaded.describe_problems(1).endswith("+1 more")


def test_broken_bytes_and_nul(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ROW).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\n" + good.replace(b"brew tea?", b"br\xffew?") + b"\n\0\0\n" + good)
    loaded = load_examples(path)
    assert [problem.row for problem in loaded.problems] == [2, 3]
    assert "UTF-8" in loaded.problems[0].reason
    assert len(loaded) == 2
    assert load_one(tmp_path, ROW | {"question": "nul \0 kept"}).question == "nul \0 kept"


def test_long_rows(tmp_path: Path) -> None:
    text = canonical("Tea. " * 40_000, ANSWER)
    assert load_one(tmp_path, ROW | {"response": text}).response == text
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "response"])
        writer.writeheader()
        writer.writerow({"question": "Tea?", "response": text})
    assert load_examples(path)[0].response == text


# Files


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.json", b"", "is empty"),
        ("a.jsonl", b" \n", "is empty"),
        ("a.json", b"[]", "holds no rows"),
        ("a.csv", b"question,response\n", "holds no rows"),
        ("a.json", b'[{"a": 1},\n{"a": }]', "line 2"),
        ("a.json", b"3", "expected a list of objects"),
        ("a.json", b"[" * 100_000, "wrong JSON"),
        ("a.json", '[{"a": 1}]'.encode("utf-16"), "UTF-16"),
        ("a.json", '[{"a": 1}]'.encode("utf-16-le"), "UTF-16"),
        ("a.jsonl", '{"a": 1}'.encode("utf-32"), "UTF-32"),
        ("a.csv", b'question,response\n"a,b\n', "wrong CSV"),
        ("a.csv", b"question,question,response\na,b,c\n", "two columns are called 'question'"),
        ("a.csv", b"question;response\na;b\n", "separated by ';'"),
        ("a.tsv", b"question,response\na,b\n", "separated by ','"),
        ("a.parquet", b"PAR1 no", "Parquet"),
        ("a.json.gz", b"not gzip", "cannot be read"),
        ("a.txt", b"x", "unknown file type '.txt'"),
    ],
)
def test_unreadable_files_are_one_clear_error(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")) as error:
        load_examples(tmp_path / name)
    assert text in str(error.value)


def test_missing_file_and_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_examples(tmp_path / "missing.json")
    with pytest.raises(UserError, match="'split' applies to hub"):
        load_examples(write(tmp_path / "a.json", [ROW]), split="train")


def test_file_types_read_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [ROW | SPANS | {"harmful": True, "id": "a"}, ROW | {"harmful": False, "id": "b"}]
    paths = [write(tmp_path / "a.json", rows), write(tmp_path / "a.jsonl", rows)]
    paths.append(tmp_path / "lines.json")  # JSON lines under the wrong name
    paths[-1].write_text(paths[1].read_text())
    paths.append(tmp_path / "list.jsonl")  # and the other way round
    paths[-1].write_text(json.dumps(rows, indent=1))
    paths.append(tmp_path / "wrapped.json")
    paths[-1].write_text(json.dumps({"data": rows}))
    paths.append(tmp_path / "a.jsonl.gz")
    paths[-1].write_bytes(gzip.compress(paths[1].read_bytes()))
    paths.append(tmp_path / "a.csv")
    with paths[-1].open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    paths.append(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows), paths[-1])
    want = [(e.prompt, e.response, e.harmful, e.understanding_end, e.id) for e in load_examples(paths[0])]
    for path in paths:
        loaded = load_examples(path)
        assert not loaded.problems, path
        assert [(e.prompt, e.response, e.harmful, e.understanding_end, e.id) for e in loaded] == want, path


def test_csv_row_with_too_many_values(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'question,response\nTea?,"{LITERAL}"\nTea, or coffee?,"{LITERAL}"\n')
    loaded = load_examples(path)
    assert len(loaded) == 1
    assert "too many values" in loaded.problems[0].reason


# Folders and the hub


def test_saved_folder_and_splits(tmp_path: Path) -> None:
    import datasets

    train, test = (datasets.Dataset.from_list([ROW | {"id": name}]) for name in ("a", "b"))
    datasets.DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "both"))
    train.save_to_disk(str(tmp_path / "one"))
    loaded = load_examples(tmp_path / "both")
    assert loaded[0].id == "a"
    assert "split 'train'" in loaded.notes[0]
    assert load_examples(tmp_path / "both", split="test")[0].id == "b"
    with pytest.raises(DataError, match="it has test, train"):
        load_examples(tmp_path / "both", split="dev")
    assert load_examples(tmp_path / "one")[0].response == LITERAL


def test_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls = []

    def load_dataset(path: str, name: str | None, **options: Any) -> Any:
        calls.append((path, name, options))
        if path == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist on the Hub")
        return datasets.DatasetDict(train=datasets.Dataset.from_list([STAR1]))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    loaded = load_examples("owner/STAR-1", revision="abc")
    assert loaded[0].harmful is True
    assert loaded[0].file == "owner/STAR-1"
    assert calls == [("owner/STAR-1", None, {"revision": "abc"})]
    with pytest.raises(DataError, match="doesn't exist on the Hub"):
        load_examples("no/such")


def test_a_hub_id_without_a_connection_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client would try again for half a minute; the cache is asked, and the message says so."""
    import datasets
    from huggingface_hub import constants

    from safekey import hub

    def refused(*address: Any, **options: Any) -> None:
        raise socket.gaierror("Name or service not known")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", refused)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"owner/rows: neither a file nor .* no connection to https.* local cache"):
        load_examples("owner/rows")
    assert time.monotonic() - began < 20  # the hub client would retry for 25 s
    assert not hub.hub_reachable()


def test_a_folder_of_files_is_read_without_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows" / "a.jsonl", [ROW])
    assert len(load_examples(tmp_path / "rows")) == 1
    assert capsys.readouterr().err == ""


# Round trip

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
sentence = words | st.sampled_from(["The user asks about tea.", "Hmm, wait.", "First, …\n\n1. Water", "他问茶。"])


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    thinking = "\n".join(draw(st.lists(sentence, max_size=5))).replace("</think>", "")
    answer, prompt = draw(sentence).replace("</think>", "x"), draw(sentence)
    layout = draw(st.sampled_from(["question", "messages", "separate", "custom"]))
    label = draw(st.sampled_from([{}, {"harmful": True}, {"harmful": "no"}, {"label": "safe"}]))
    if layout == "question":
        return {"question": prompt, "response": canonical(thinking, answer), **label}
    if layout == "separate":
        return {"query": prompt, "answer": answer, "reasoning": thinking or "x", "id": 7, **label}
    if layout == "custom":
        return {"q": prompt, "prompt": "other", "a": canonical(thinking, answer), "source": "s", **label}
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": canonical(thinking, answer)}]
    return {"messages": turns, **label}


CHANGED = {"harmful", "response"}  # the label as a bool, the response as the literal


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(rows(), min_size=1, max_size=4), st.sampled_from([None, "harmful"]))
def test_segment_output_loads_back_identical(tmp_path: Path, drawn: list[dict[str, Any]], label: str | None) -> None:
    for row in drawn:
        columns = {"prompt": "q", "response": "a"} if "q" in row else {}
        loaded = load_examples(write(tmp_path / "in.jsonl", [row]), columns=columns, label=label)
        segmented = [segment(example) for example in loaded]
        if not segmented:  # a drawn row may be unusable: white space only, say
            assert loaded.problems
            continue
        out = tmp_path / "out.jsonl"
        assert write_jsonl(segmented, out) == 1
        again = load_examples(out)
        assert not again.problems
        assert [_portable(example) for example in again] == [_portable(example) for example in segmented]
        written = json.loads(out.read_text())
        assert written["response"] == segmented[0].response
        assert all(written.get(name) == row[name] or name in CHANGED or f"source_{name}" in written for name in row)


def _portable(example: Example) -> tuple[Any, ...]:
    return (
        example.prompt,
        example.response,
        example.harmful,
        example.understanding_end,
        example.key_sentence_end,
        example.span_source,
        example.id,
        example.source,
    )


def test_a_column_in_the_way_is_kept_under_another_name(tmp_path: Path) -> None:
    row = {"q": "Tea?", "prompt": "other", "response": LITERAL}
    loaded = load_examples(write(tmp_path / "in.jsonl", [row]), columns={"prompt": "q"})
    write_jsonl(loaded, tmp_path / "out.jsonl")
    written = json.loads((tmp_path / "out.jsonl").read_text())
    assert written["source_prompt"] == "other"
    row = {"messages": [USER, {"role": "assistant", "content": LITERAL}], "response": "another model's"}
    write_jsonl(load_examples(write(tmp_path / "in.jsonl", [row])), tmp_path / "out2.jsonl")
    assert json.loads((tmp_path / "out2.jsonl").read_text())["source_response"] == "another model's"
    assert written["prompt"] == [{"role": "user", "content": "Tea?"}]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")

    def interrupted() -> Any:
        yield load_one(tmp_path, ROW)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(interrupted(), out)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([LITERAL, "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "thinking"]), inner, max_size=3)
    ),
    max_leaves=6,
)
names = sorted({name for group in COLUMNS.values() for name in group} | {"harmful", "label", "category", "score"})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(names), json_values, max_size=6), min_size=1, max_size=5))
def test_any_row_is_used_or_reported(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    loaded = load_examples(write(tmp_path / "in.jsonl", drawn))
    assert len(loaded) + len(loaded.problems) == loaded.rows_read == len(drawn)
    write_jsonl([segment(example) for example in loaded], tmp_path / "out.jsonl")


# Counts


def test_summary(tmp_path: Path) -> None:
    loaded = load_examples(
        write(tmp_path / "a.jsonl", [ROW | {"harmful": True}, ROW | {"harmful": True}, ROW | {"harmful": False}, {}])
    )
    summary = summarize(loaded)
    assert (summary.usable, summary.harmful, summary.benign, summary.duplicates, summary.conflicts) == (3, 2, 1, 2, 1)
    assert summary.skipped == {"missing prompt": 1}
    assert isinstance(loaded, Examples)
    one = summarize(load_examples(write(tmp_path / "b.jsonl", [STAR1])))
    assert "ONE CLASS ONLY" in one.warnings()[0]
    none = summarize(load_examples(write(tmp_path / "c.jsonl", [ROW])))
    assert "NO LABELS" in none.warnings()[0]


def test_star1(tmp_path: Path) -> None:
    path = SHARED / "star1.json"
    if not path.is_file():
        pytest.skip("the STAR-1 rows are not beside this checkout")
    loaded = load_examples(path, strict=True)
    assert len(loaded) == 1000
    assert all(example.harmful for example in loaded)
    segmented = [segment(example) for example in loaded]
    write_jsonl(segmented, tmp_path / "out.jsonl")
    again = load_examples(tmp_path / "out.jsonl", strict=True)
    assert [_portable(example) for example in again] == [_portable(example) for example in segmented]
