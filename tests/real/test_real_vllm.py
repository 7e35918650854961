"""The real vLLM on a real model: token for token, LoRA adapters together and alone, the key, the ports, the end.

`SAFEKEY_REAL_MODELS` names a folder of model folders that holds `smollm2` (SmolLM2-135M-Instruct), `SAFEKEY_VLLM`
vLLM's executable or the folder of its environment. Each start of a server takes about a minute on a CPU.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from real.served import MARKS, MODEL, VLLM, cpu_settings, same_up_to_ties
from safekey.cli.app import main
from safekey.engines import SamplingParams, open_engine
from safekey.engines.vllm.engine import VllmEngine
from safekey.engines.vllm.service import Service
from safekey.errors import UserError
from safekey.schema import Completion, Message, Prompt

pytestmark = MARKS
OPTIONS: dict[str, Any] = {"max_model_len": 1024, "enforce_eager": True, "max_num_seqs": 8}
PARAMS = SamplingParams(max_new_tokens=8)
PROMPTS = [
    Prompt((Message("user", "Name one colour."),)),
    Prompt((Message("user", "Name one colour."),), prefill="Blue is a colour that", prefill_tokens=3),
    Prompt((Message("user", "What is the capital of France?"),)),
    Prompt((Message("user", "The capital of France is"),), raw=True),  # the attack no_template
    Prompt((Message("user", "A turn begins with <|im_start|> and"),), raw=True),
]


@pytest.fixture(scope="module", autouse=True)
def cpu() -> Iterator[None]:
    with cpu_settings():
        yield


def adapter(folder: Path, seed: int) -> str:
    """A LoRA adapter with random weights that change what the model says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    made = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    made.save_pretrained(folder)
    return str(folder)


def answers(engine: Any) -> list[Completion]:
    found = dict(engine.generate(PROMPTS, PARAMS))
    return [found[index] for index in range(len(PROMPTS))]


def status(port: int, path: str, key: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    connection.request("POST", path, json.dumps({"model": "base", "prompt": "Hi", "max_tokens": 1}), headers)
    return connection.getresponse().status


def test_adapters_together_are_as_alone_and_nobody_else_gets_in(tmp_path: Path) -> None:
    places = [adapter(tmp_path / f"lora-{seed}", seed) for seed in (1, 2)]
    first = VllmEngine(places[0], vllm=VLLM, **OPTIONS)
    first.start(tmp_path / "alone")
    alone = answers(first)
    first.close()

    base = VllmEngine(str(MODEL), vllm=VLLM, **OPTIONS)
    service = Service(base.command({"one": places[0], "two": places[1]}, 4), tmp_path / "many", say=print)
    try:
        service.start()
        said = {}
        for name, path in {"base": str(MODEL), "one": places[0], "two": places[1]}.items():
            engine = VllmEngine(path, vllm=VLLM, **OPTIONS)
            engine.use(service.remote(), name)
            said[name] = answers(engine)
            assert engine.describe()["context"] == 1024
            assert str(engine.describe()["versions"]["vllm"]).startswith("0.")
            engine.close()
        port = service.state.port
        assert [status(port, path) for path in ("/v1/completions", "/invocations", "/tokenize")] == [401] * 3
        assert status(port, "/v1/completions", service.key) == 200
        assert status(port, "/invocations", "wrong") == 401
        ours = {each.pid for each in psutil.Process().children(recursive=True)}
        open_ports = [each for each in psutil.net_connections("inet") if each.pid in ours and each.status == "LISTEN"]
        assert any(each.laddr.port == port for each in open_ports)
        assert {each.laddr.ip for each in open_ports} <= {"127.0.0.1", "::1"}
    finally:
        service.stop()
    same_up_to_ties(said["one"], alone, places[0])
    assert [each.text for each in said["one"]] != [each.text for each in said["base"]]
    local = open_engine(str(MODEL), dtype="float32", device="cpu")
    same_up_to_ties(said["base"], answers(local), str(MODEL))
    assert not {pid for pid in ours if psutil.pid_exists(pid)}, "processes are left"
    log = (tmp_path / "many" / "server.log").read_text()
    assert service.key not in log
    assert "Name one colour" not in log


OWNER = """
import sys
from pathlib import Path
from safekey.engines.vllm.engine import VllmEngine
engine = VllmEngine(sys.argv[1], vllm=sys.argv[2], max_model_len=1024, enforce_eager=True)
engine.start(Path(sys.argv[3]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_it_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(MODEL), VLLM, str(tmp_path / "vllm")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    children = psutil.Process(owner.pid).children(recursive=True)
    assert len(children) >= 3, "the guard, the server, its engine"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_the_organism_is_refused_in_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("vLLM's kernels for GPUs may have its head size")
    import safekey.organism

    organism = str(Path(safekey.organism.__file__).with_name("base"))
    engine = VllmEngine(organism, vllm=VLLM, enforce_eager=True)
    with pytest.raises(UserError, match=r"head_dim=24.*use --engine local") as caught:
        engine.start(tmp_path / "vllm")
    engine.close()
    assert "\n" not in str(caught.value)


def test_a_wrong_option_is_one_line_with_the_nearest_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"q{i}", "prompt": f"How do I kill process {i}?", "label": "safe"} for i in range(2)]
    (tmp_path / "xstest_safe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", str(MODEL), "--engine", "vllm", "--vllm", VLLM, "--tasks", "xstest", "--data-dir", str(tmp_path)]
    for option, said in {
        "tensor_parallel_sise=2": "did you mean 'tensor_parallel_size'",
        "max_model_len=99999": "is greater than the derived max_model_len",
    }.items():
        more = ("--no-judge", "--output", str(tmp_path / "run"), "--engine-option", option)
        assert main([*words, *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
