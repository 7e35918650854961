"""A stand-in for vLLM's executable: it serves the endpoints that safekey uses, and misbehaves on demand.

`STUB_SEEN` names a file to which each start adds a line of JSON: its arguments, its environment, its processes. `STUB`
says what goes wrong: `help` of what the real one prints in that case, a number of completions after which it dies.
"""

# ruff: noqa: E501 - lines of logs

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOW = os.environ.get("STUB", "")
KEY = os.environ.get("VLLM_API_KEY", "")
SAID = {
    "unknown": "vllm: error: unrecognized arguments: --tensor-parallel-sise=2",
    "cache": "(EngineCore pid=5) ERROR 11-25 19:01:48 [core.py:1510] ValueError: To serve at least one request with the "
    "model's max seq len (8192), (0.35 GiB KV cache is needed, which is larger than the available KV cache memory (0.0 "
    "GiB). Try increasing `gpu_memory_utilization`.\n(APIServer pid=4) RuntimeError: Engine core initialization failed. "
    "See root cause above. Failed core proc(s): {}",
    "memory": "(EngineCore pid=5) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "port": "OSError: [Errno 98] Address already in use",
    "nonsense": "what is this",
}
HEAD = "(EngineCore pid=5) ERROR 11-25 19:05:20 [core.py:1063] RuntimeError: Unsupported CPU attention: head_dim=24"


def value(flag):
    return next((word.split("=", 1)[1] for word in sys.argv if word.startswith(f"--{flag}=")), "")


def adapters():
    if "--lora-modules" not in sys.argv:
        return {}
    rest = sys.argv[sys.argv.index("--lora-modules") + 1 :]
    found = [json.loads(word) for word in rest if word.startswith("{")]
    return {each["name"]: each["path"] for each in found}


ADAPTERS = adapters()
asked = 0
lock = threading.Lock()


def start_number():
    seen = os.environ.get("STUB_SEEN")
    if not seen:
        return 1
    engine = subprocess.Popen(["sleep", "600"])  # as vLLM's EngineCore: a process of its own
    apart = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(seen, "a+") as file:
        file.seek(0)
        number = len(file.read().splitlines()) + 1
        line = {"argv": sys.argv, "env": dict(os.environ), "pids": [os.getpid(), engine.pid, apart.pid]}
        file.write(json.dumps(line) + "\n")
    return number


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            nonce = self.headers.get("x-safekey-asked", "").encode()
            key = "another" if HOW == "stranger" else KEY
            return self.answer(200, {}, x_safekey_proof=hmac.new(key.encode(), nonce, "sha256").hexdigest())
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(401, {"error": "Unauthorized"})
        if self.path == "/version":
            return self.answer(200, {"version": "0.32.0"})
        base = {"id": "base", "object": "model", "owned_by": "vllm", "max_model_len": 512}
        more = [{"id": name, "object": "model", "owned_by": "vllm", "parent": "base"} for name in ADAPTERS]
        self.answer(200, {"object": "list", "data": [base, *more]})

    def do_POST(self):
        global asked
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(401, {"error": "Unauthorized"})
        with lock:
            asked += 1
            mine = asked
        if HOW == "head":
            print(HEAD, flush=True)
            os._exit(1)
        deaths = [int(word) for word in HOW.split(",") if word.isdigit()]
        if len(deaths) >= NUMBER and mine > deaths[NUMBER - 1]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("STUB_SLOW", "0")))
        prompt = body["prompt"]
        weights = ADAPTERS.get(body["model"], "base") if body["model"] != "base" else "base"
        if weights != "base":  # another adapter, another answer
            with open(os.path.join(weights, "adapter_model.safetensors"), "rb") as file:
                weights = hashlib.sha256(file.read()).hexdigest()
        digest = hashlib.sha256(json.dumps([weights, prompt]).encode()).digest()
        ids = [100 + byte for byte in digest][: min(body["max_tokens"], 6)]
        choice = {"index": 0, "text": "", "finish_reason": "length", "token_ids": ids, "prompt_token_ids": prompt}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        self.answer(200, {"id": "c", "object": "text_completion", "choices": [choice], "usage": usage})


if "--help=all" in sys.argv:
    print("  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE\n  --max-model-len MAX_MODEL_LEN")
    sys.exit(0)
NUMBER = start_number()
if HOW in SAID:
    print(SAID[HOW], flush=True)
    sys.exit(2 if HOW == "unknown" else 1)
if HOW == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if HOW == "hang":
    print("loading", flush=True)
    time.sleep(600)
server = ThreadingHTTPServer((value("host"), int(value("port"))), Handler)
server.daemon_threads = True
server.serve_forever(poll_interval=0.05)
