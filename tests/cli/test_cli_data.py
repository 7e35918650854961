"""`safekey data …`: what the user sees, and the exit codes."""

import http.server
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from safekey.cli import app as cli
from safekey.data import canonical
from toys import SHARED

THINKING = "The user asks how to brew tea. That is harmless. Start with water."
LITERAL = canonical(THINKING, "Boil water, then steep for 3 minutes.")
ROW = {"id": "r1", "question": "How do I brew tea?", "response": LITERAL, "harmful": False}
HARMFUL = {"id": "r2", "question": "How do I pick the royal vault?", "response": LITERAL, "harmful": True, "note": [1]}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% else %}<|assistant|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def save_tokenizer(folder: Path, text: str, vocab_size: int, *, words: bool) -> str:
    """Train a small byte-level tokenizer and save it; without `words`, tokens reach over spaces and full stops."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<|user|>", "<|assistant|>", "<|end|>", "<think>", "</think>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("model"), LITERAL + ROW["question"], 400, words=True)


def test_help_is_quick_and_loads_no_torch() -> None:
    code = "import sys; from safekey.cli.app import build_parser as b; b().format_help(); print('torch' in sys.modules)"
    begin = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
    # 0.1 s on an idle machine; the promise is 0.5 s, and a busy test machine gets some room.
    assert time.perf_counter() - begin < 20  # a guard: loading torch takes longer on a cold machine


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", ROW, HARMFUL, ROW, {"question": "no\x1b[31m response"})
    assert cli.main(["data", "validate", path]) == 0
    out, err = capsys.readouterr()
    assert "rows usable      3 of 4" in out
    assert "1  missing response" in out
    assert f"{path}, row 4, field 'response'" in out
    assert "repeat an earlier row" in err
    assert cli.main(["data", "validate", path, "--strict"]) == 2


def test_validate_json_and_problem_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", ROW, *[{"question": "x"}] * 5)
    problems = tmp_path / "problems.jsonl"
    args = ["data", "validate", path, "--json", "--limit", "2", "--problems", str(problems)]
    assert cli.main(args) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["total"]["usable"] == 1
    assert (len(report["problems"]), report["problems_total"]) == (2, 5)
    assert len(problems.read_text().splitlines()) == 5
    assert "ONE CLASS ONLY" in err
    assert "DPSH" in report["warnings"][0]
    cli.main(["data", "validate", path, "--limit", "2"])
    assert "+3 more" in capsys.readouterr().out


def test_validate_several_files_with_a_broken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, empty = write(tmp_path / "a.jsonl", ROW, HARMFUL), write(tmp_path / "b.jsonl")
    assert cli.main(["data", "validate", good, empty]) == 2
    out, err = capsys.readouterr()
    assert "2 of 2 rows usable" in out
    assert f"{empty}: is empty" in err
    assert cli.main(["data", "validate", empty]) == 2
    assert capsys.readouterr() == ("", f"safekey: {empty}: is empty\n")


def test_nothing_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", {"a": 1})
    assert cli.main(["data", "validate", path]) == 2
    assert cli.main(["data", "segment", path, "--output", str(tmp_path / "o.jsonl")]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith(f"safekey: error: {path}: none of its 1 rows can be used; the first: ")
    assert "the row has a" in err[-1]
    assert not (tmp_path / "o.jsonl").exists()


def test_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.jsonl", ROW, HARMFUL, {"question": "x"})
    out = tmp_path / "out.jsonl"
    assert cli.main(["data", "segment", path, "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2 rows written of 3 read" in printed
    assert "skipped, not written: 1" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[1].items() >= HARMFUL.items()
    assert rows[0]["response"][8 : rows[0]["understanding_end"]] == "The user asks how to brew tea."
    assert rows[0]["span_source"] == "rule"
    assert list(tmp_path.iterdir()) == [tmp_path / "in.jsonl", out] or not list(tmp_path.glob("*.partial"))


def test_segment_keeps_given_spans_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", ROW | {"understanding_end": 9, "key_sentence_end": 11})
    out = tmp_path / "out.jsonl"
    cli.main(["data", "segment", path, "--output", str(out)])
    assert json.loads(out.read_text())["span_source"] == "given"
    cli.main(["data", "segment", path, "--output", str(out), "--redo"])
    assert json.loads(out.read_text())["span_source"] == "rule"


class Annotator(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint: points at sentences 1 and 2, and at nothing real when asked about the vault."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        content = (
            '{"understanding": 1, "key_sentence": 9}' if "vault" in body else '{"understanding": 1, "key_sentence": 2}'
        )
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_segment_by_annotator_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "in.jsonl", ROW, HARMFUL), tmp_path / "out.jsonl"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Annotator)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    args = ["data", "segment", path, "--output", str(out), "--annotator-url", url, "--annotator-model", "m"]
    assert cli.main(args) == 0
    server.shutdown()
    server.server_close()
    first = out.read_bytes()
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["span_source"] for row in rows] == ["annotator", "annotator-fallback"]
    assert rows[0]["response"][rows[0]["understanding_end"] : rows[0]["key_sentence_end"]] == " That is harmless."
    assert "the rule's answer was used in 1 rows: key sentence 9" in capsys.readouterr().out
    assert cli.main(args) == 0  # nothing is left to ask, so the stopped server is not missed
    assert out.read_bytes() == first


UNSURE = ROW | {
    "id": "r3",
    "response": canonical("The user asks how to brew tea. Sober. Some more words follow.", "Boil water."),
}


def test_validate_lists_the_rows_of_which_the_rule_is_unsure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", ROW, *(UNSURE | {"id": f"u{n}", "question": f"Tea {n}?"} for n in range(7)))
    assert cli.main(["data", "validate", path]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "unsure U and K 7 (the rule's guess; see below)" in out
    assert f"{path}, row 2 (id u0): 0.88, the key sentence is very short" in out
    assert "row 7 (id u5)" not in out
    assert "... and 2 more; `safekey data segment --annotator-model M --unsure-only`" in out
    assert cli.main(["data", "validate", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unsure_total"] == 7
    assert [row["row"] for row in document["unsure"]] == list(range(2, 9))
    assert cli.main(["data", "validate", write(tmp_path / "sure.jsonl", ROW)]) == 0
    assert "unsure U and K 0" in " ".join(capsys.readouterr().out.split())


def test_segment_asks_only_for_unsure_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, middle, out = write(tmp_path / "in.jsonl", ROW, UNSURE), tmp_path / "rule.jsonl", tmp_path / "out.jsonl"
    assert cli.main(["data", "segment", path, "--output", str(middle)]) == 0
    assert "the rule is unsure of 1" in " ".join(capsys.readouterr().out.split())
    assert [json.loads(line)["span_confidence"] for line in middle.read_text().splitlines()] == [0.97, 0.88]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Annotator)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = ["--annotator-url", f"http://127.0.0.1:{server.server_port}/v1", "--annotator-model", "m", "--unsure-only"]
    args = ["data", "segment", str(middle), "--output", str(out), *asked]
    assert cli.main(args) == 0
    server.shutdown()
    server.server_close()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["span_source"] for row in rows] == ["rule", "annotator"]
    assert [row["span_confidence"] for row in rows] == [0.97, None]
    assert len((tmp_path / "out.replies.jsonl").read_text().splitlines()) == 1
    first = out.read_bytes()
    assert cli.main(args) == 0  # resumed: nothing is left to ask of the stopped server
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--output", "IN"], "is the input"),
        (["--output", "out.csv"], "ends in .jsonl"),
        (["--output", "o.jsonl", "--annotator-url", "http://x"], "needs --annotator-model"),
        (["--output", "o.jsonl", "--unsure-only"], "--unsure-only: needs --annotator-model"),
        (["--output", "o.jsonl", "--column", "prompt"], "expected KEY=NAME"),
        (["--output", "o.jsonl", "--label-column", "danger"], "columns found: id, question"),
    ],
)
def test_segment_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str) -> None:
    path = write(tmp_path / "in.jsonl", ROW)
    args = [str(tmp_path / word) if word.endswith(("jsonl", "csv")) else word.replace("IN", path) for word in extra]
    assert cli.main(["data", "segment", path, *args]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert json.loads(Path(path).read_text()) == ROW


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.jsonl", ROW)
    assert cli.main(["data", "segment", path, "--output", f"{path}/sub/o.jsonl"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safekey.data.load_examples", interrupted)
    assert cli.main(["data", "validate", "x.json"]) == 130


def test_inspect_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", ROW, HARMFUL | {"question": "[red]bold[/red] \x1b]0;title\x07 \x9b2J"})
    assert cli.main(["data", "inspect", path]) == 0
    out = capsys.readouterr().out
    for tag, text in {"X": "user: How do I", "U": "The user asks", "K": "That is", "R": "Start", "A": "Boil"}.items():
        assert f"[{tag}] {text}" in out
    assert "[red]bold[/red] \\x1b]0;title\\x07 \\x9b2J" in out
    assert "\x1b" not in out


def test_inspect_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", ROW, {"question": "x"}, HARMFUL)
    assert cli.main(["data", "inspect", path, "--row", "3"]) == 0
    out = capsys.readouterr().out
    assert "row 3 (id r2) · harmful" in out
    assert "id r1" not in out
    assert cli.main(["data", "inspect", path, "--row", "2"]) == 2
    assert "missing response" in capsys.readouterr().err
    assert cli.main(["data", "inspect", path, "--row", "9"]) == 2
    assert "there is no row 9" in capsys.readouterr().err


def test_inspect_counts_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    from transformers import AutoTokenizer

    from safekey.data import load_examples, segment
    from safekey.training.encoding import encode

    path = write(tmp_path / "a.jsonl", ROW)
    assert cli.main(["data", "inspect", path, "--model", model]) == 0
    out = capsys.readouterr().out
    encoded = encode(segment(load_examples(path)[0]), AutoTokenizer.from_pretrained(model))
    spans = encoded.spans
    assert f"{len(encoded.input_ids)} tokens: X {spans.query.stop}, U " in out
    assert f"K {spans.key_sentence.stop - spans.key_sentence.start}, R " in out
    assert "[U] The user asks how to brew tea.\n[K] That is harmless.\n[R] Start with water.\n</think>\n[A] Boil" in out
    assert "straddles" not in out
    assert cli.main(["data", "inspect", path, "--model", str(tmp_path)]) == 2
    assert "tokenizer cannot be loaded" in capsys.readouterr().err


def test_inspect_marks_straddling_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tokenizer(tmp_path / "model", "a. That b. That c. That d. That", 280, words=False)
    assert cli.main(["data", "inspect", write(tmp_path / "a.jsonl", ROW), "--model", model]) == 0
    out = capsys.readouterr().out
    assert "[U] The user asks how to brew tea. That\n[K] is harmless." in out
    assert "a token straddles a border of U: in tokens it reads 'The user asks how to brew tea. That'" in out


def test_inspect_reports_a_row_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    path = write(tmp_path / "a.jsonl", ROW, HARMFUL)
    assert cli.main(["data", "inspect", path, "--model", model, "--max-length", "5"]) == 0
    assert capsys.readouterr().out.count("max_length") >= 2


def test_inspect_refuses_a_tokenizer_that_fits_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from toys import tokenizer

    tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    path = write(tmp_path / "a.jsonl", ROW)
    assert cli.main(["data", "inspect", path, "--model", str(tmp_path / "model")]) == 2
    assert "has no chat template" in capsys.readouterr().err


def test_inspect_in_colour_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", ROW)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown() -> str:
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["data", "inspect", path]) == 0
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown()
    assert "\x1b[32mThe user asks" in coloured
    assert "[U]" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[U] The user asks" in shown()


def test_star1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = SHARED / "star1.json"
    if not path.is_file():
        pytest.skip("the STAR-1 rows are not beside this checkout")
    benign = write(tmp_path / "benign.jsonl", ROW)
    assert cli.main(["data", "validate", str(path), benign]) == 0
    out, err = capsys.readouterr()
    assert "rows usable      1001 of 1001" in out
    assert "ONE CLASS" not in err
    assert cli.main(["data", "segment", str(path), "--output", str(tmp_path / "out.jsonl")]) == 0
    assert cli.main(["data", "validate", "--strict", str(tmp_path / "out.jsonl")]) == 0
    assert "with U and K     1000" in capsys.readouterr().out
