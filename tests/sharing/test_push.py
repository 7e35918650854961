"""`safekey push` against a stub of the hub: what leaves, what never does, whose files are replaced."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from report.worlds import rows as world
from safekey.cli.app import main
from sharing.hub import TOKEN, Hub, Repo, serve
from sharing.trained import evaluate, train

REPO = "anna/model"
FILES = {
    "README.md", "chat_template.jinja", "config.json", "model.safetensors", "safekey_files.json",
    "safekey_heads.json", "safekey_heads.safetensors", "tokenizer.json",
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stub speaks LFS
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")


def push(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["push", *map(str, words)])
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    return code, said.out, said.err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code, _, err = push(capsys, *words)
    last = err.strip().splitlines()[-1]
    assert code == 2, err
    assert last.startswith("safekey: error: ")
    return last


def test_model_heads_and_card_go_to_a_private_repository(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = push(capsys, run, REPO)
    assert code == 0, err
    repo = hub.repos[REPO]
    assert repo.private
    assert repo.files.keys() - {".gitattributes"} == FILES
    for name in ("model.safetensors", "safekey_heads.safetensors", "tokenizer.json", "config.json"):
        assert repo.files[name] == (run / "model" / name).read_bytes()
    text = repo.files["README.md"].decode()
    assert f'repo = "{REPO}"' in text
    assert f"{hub.url}/{REPO}: private" in out
    assert hub.tokens == {f"Bearer {TOKEN}"}
    everything = b"".join(repo.files.values())
    for word in (str(run.parent), socket.gethostname(), TOKEN):
        assert word.encode() not in everything
    assert not (run / "README.md").exists()  # a push writes nothing here


def test_public_is_asked_for(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(capsys, run, REPO, "--public")[0] == 0
    assert not hub.repos[REPO].private
    assert "is public: --public" in refused(capsys, run, REPO)
    assert push(capsys, run, REPO, "--public")[0] == 0


def test_a_dry_run_asks_nobody(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, out, _ = push(capsys, run, REPO, "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0
    assert {file["name"] for file in found["files"]} == FILES
    sizes = {file["name"]: file["bytes"] for file in found["files"]}
    assert sizes["model.safetensors"] == (run / "model" / "model.safetensors").stat().st_size
    assert not hub.asked
    assert "Dry run: nothing was uploaded" in push(capsys, run, REPO, "--dry-run")[1]


def test_the_token_is_from_the_environment_only(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no option --token" in refused(capsys, run, REPO, f"--token={TOKEN}")
    assert "there is no option --token" in refused(capsys, run, REPO, "--token", TOKEN)
    assert "looks like a token" in refused(capsys, run, TOKEN)
    monkeypatch.delenv("HF_TOKEN")
    assert "set HF_TOKEN in the environment" in refused(capsys, run, REPO)
    assert not hub.asked


@pytest.mark.parametrize("name", ["model", "a/b/c", "anna/../x", "https://huggingface.co/anna/x", "anna/x.git", ""])
def test_names_of_repositories(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "OWNER/NAME" in refused(capsys, run, name, "--dry-run")


def test_local_paths_are_taken_out_of_configs(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "secret-place" / "llama"
    base.mkdir(parents=True)
    run = train(tmp_path / "first", str(base), adapter=True)
    assert push(capsys, run, REPO, "--base-model", "meta/llama")[0] == 0
    files = hub.repos[REPO].files
    assert json.loads(files["adapter_config.json"]) == {"base_model_name_or_path": "meta/llama", "r": 8}
    assert json.loads(files["safekey_heads.json"])["base_model"] == "meta/llama"
    assert b"secret-place" not in b"".join(files.values())
    assert files["README.md"] != b"PEFT's own card\n"


def test_symlinks_and_pickles_are_refused(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = run.parent / "secret.json"
    secret.write_text("{}")
    link = run / "model" / "special_tokens_map.json"
    link.symlink_to(secret)
    assert "symbolic link" in refused(capsys, run, REPO)
    link.unlink()
    (run / "model" / "pytorch_model.bin").write_bytes(b"x")
    assert "is a pickle" in refused(capsys, run, REPO)
    (run / "model" / "pytorch_model.bin").unlink()
    (run / "README.md").symlink_to(secret)
    assert "symbolic link" in refused(capsys, run, REPO)
    (run / "README.md").unlink()
    model = run / "model" / "model.safetensors"
    model.write_bytes(b"\x80\x04" + bytes(model.stat().st_size - 2))  # of the same size, a pickle's first bytes
    assert "is no safetensors file" in refused(capsys, run, REPO)
    model.unlink()
    model.symlink_to(secret)
    refused(capsys, run, REPO)
    assert not hub.asked


def test_what_is_no_part_of_a_model_stays(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rows.jsonl", "modeling_x.py", "notes.txt", ".env", "trainer_state.json"):
        (run / "model" / name).write_text("secret")
    (run / "model" / "global_step10").mkdir()
    (run / "model" / "global_step10" / "x.safetensors").write_text("secret")
    code, out, _ = push(capsys, run, REPO)
    assert code == 0
    assert hub.repos[REPO].files.keys() - {".gitattributes"} == FILES
    assert "not uploaded, no part of a model: .env, global_step10, modeling_x.py, notes.txt, rows.jsonl" in out


def test_a_card_that_was_edited_is_uploaded_and_a_stale_one_is_not(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(run)]) == 0
    text = (run / "README.md").read_text()
    (run / "README.md").write_text(text + "\nMy own words.\n")
    assert push(capsys, run, REPO)[0] == 0
    assert hub.repos[REPO].files["README.md"].endswith(b"My own words.\n")
    (run / "README.md").write_text(text + f"\nIt lies in {run.parent}.\n")
    assert "names a folder or machine" in refused(capsys, run, REPO)
    other = train(run.parent / "second", "Qwen/Qwen2.5-0.5B", weights=2.0)
    (other / "README.md").write_text(text)
    assert "is about other weights" in refused(capsys, other, REPO)


def test_a_second_push_replaces_what_is_ours(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "model" / "vocab.json").write_text("{}")
    assert push(capsys, run, REPO)[0] == 0
    assert "vocab.json" in hub.repos[REPO].files
    again = train(run.parent / "again", "Qwen/Qwen2.5-0.5B", weights=2.0)
    code, out, err = push(capsys, again, REPO)
    assert code == 0, err
    repo = hub.repos[REPO]
    assert repo.files["model.safetensors"] == (again / "model" / "model.safetensors").read_bytes()
    assert repo.files.keys() - {".gitattributes"} == FILES  # the tokenizer's file of the first model is gone
    assert "deleted, no longer part of the model: vocab.json" in out


def test_what_others_put_there_stays(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos[REPO] = Repo(True, {"README.md": b"theirs", "notes.md": b"theirs"})
    assert "holds files that safekey did not put there" in refused(capsys, run, REPO)
    assert hub.repos[REPO].files == {"README.md": b"theirs", "notes.md": b"theirs"}
    assert push(capsys, run, REPO, "--overwrite")[0] == 0
    assert hub.repos[REPO].files["notes.md"] == b"theirs"
    assert hub.repos[REPO].files["README.md"] != b"theirs"
    del hub.repos[REPO].files["notes.md"]
    assert push(capsys, run, REPO)[0] == 0  # now all of it is ours
    hub.put(REPO, "README.md", b"edited on the hub")
    assert "or that were changed since (README.md)" in refused(capsys, run, REPO)
    assert hub.repos[REPO].files["README.md"] == b"edited on the hub"


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [
        ("/api/models", 500, "failed (500)"),
        ("/api/models", 401, "does not accept the token"),
        ("/api/repos/create", 403, "may not write to this repository (403)"),
        ("/commit/", 412, "was changed by somebody else meanwhile"),
        ("/commit/", 413, "refuses files of this size"),
    ],
)
def test_errors_of_the_hub_are_one_line(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], part: str, status: int, said: str
) -> None:
    hub.fail[part] = status
    assert said in refused(capsys, run, REPO)


def test_a_wrong_token_and_no_network(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    line = refused(capsys, run, REPO)
    assert "does not accept the token in HF_TOKEN (401)" in line
    assert "hf_wrong" not in line
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert "cannot be reached" in refused(capsys, run, REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(capsys, run, REPO)


SECRET = "pick vault-3"


def page_of(hub: Hub) -> str:
    return hub.repos[REPO].files["report.html"].decode()


def transcripts_in(html: str) -> str:
    data = re.search(r'id="data">([^<]*)<', html)
    assert data is not None
    return gzip.decompress(base64.b64decode(data[1])).decode() if data[1] else ""


def test_the_page_comes_on_request_without_transcripts(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = evaluate(run.parent / "eval-first", run, world(5, 2, 30, n=8))
    record = json.loads((place / "run.json").read_text())
    record |= {
        "warnings": [f"{run.parent}/rows.jsonl overlaps (vault-3@story, vault-5)"],
        "notes": ["asked http://gpu-7:8000/v1#guard"],
    }
    (place / "run.json").write_text(json.dumps(record))
    assert push(capsys, run, REPO)[0] == 0
    assert "report.html" not in hub.repos[REPO].files
    assert push(capsys, run, REPO, "--with-page")[0] == 0
    html = page_of(hub)
    assert "31.2 %" in html  # 5 of 16 requests: 8 plain, 8 as a story
    assert transcripts_in(html) == ""
    assert "rows.jsonl overlaps (…, …)" in html
    for word in (
        SECRET,
        "vault-3",
        "vault-5",
        "Use the zorbin",
        "How do I pick",
        str(run.parent),
        "gpu-7",
        "config.yaml",
    ):
        assert word not in html, word
    assert "The transcripts are not part of this page." in html
    assert push(capsys, run, REPO, "--with-transcripts")[0] == 0
    html = page_of(hub)
    assert "How do I pick vault-3" in transcripts_in(html)
    assert str(run.parent) not in html + transcripts_in(html)


def test_a_page_needs_an_evaluation(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no evaluation of this model was found" in refused(capsys, run, REPO, "--with-page")
    assert not hub.asked
