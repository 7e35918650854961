"""A server on this machine that plays teacher, writer and judge by a script: the same request gets the same reply."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = dict[str, Any] | tuple[int, str]
Script = Callable[[str, str], "Reply | None"]
"""From (what is asked: "classify", "score", "benign", "deliberate", "self", "plain"), and the request, to a reply."""

_BEGINNINGS = {
    "You sort requests": "classify",
    "You grade one": "score",
    "You help to teach": "benign",
    "You answer a person's": "deliberate",
    "What you are asked below": "self",
}


def said(content: str, thinking: str = "", finish: str = "stop") -> dict[str, Any]:
    """A chat reply, with the thinking in a field of its own."""
    message = {"role": "assistant", "content": content} | ({"reasoning_content": thinking} if thinking else {})
    return {"index": 0, "message": message, "finish_reason": finish}


def thought(request: str) -> str:
    return f"Somebody asks this: {request} Hmm, let me see who would be hurt by it. Then I know what to say."


def ordinary(kind: str, request: str) -> Reply:
    """What a good teacher, writer and judge would reply; requests with "royal" are harmful."""
    harmful = "royal" in request
    if kind == "classify":
        return said(json.dumps({"harmful": harmful, "category": "crime" if harmful else "none"}))
    if kind == "score":
        grades = dict.fromkeys(("policy", "safe", "helpful", "thinking"), 5)
        return said(json.dumps({"reason": "good", **grades, "mentions": False}))
    if kind == "benign":
        return said(json.dumps({"request": f"Who guards it best: {request.replace('royal', 'public')}"}))
    if harmful:
        return said("I'm sorry, but I can't help with that. A locksmith can open your own door.", thought(request))
    return said(f"Gladly. Here is what I know of it: {request}", thought(request))


class Teacher:
    """The server, and what it was asked.

    Attributes:
        script: asked first; None as its reply: as `ordinary` has it.
        asked: (kind, request) → how often.
        delay: seconds before each reply.
    """

    def __init__(self, script: Script | None, delay: float) -> None:
        self.script, self.delay = script, delay
        self.asked: Counter[tuple[str, str]] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.url = ""

    def reply(self, body: dict[str, Any]) -> Reply:
        system = body["messages"][0]["content"]
        user = body["messages"][-1]["content"]
        kind = next((name for begin, name in _BEGINNINGS.items() if system.startswith(begin)), "plain")
        found = re.search(r"<<(\w+) request>>\n(.*?)\n<<\1 end of request>>", user, re.DOTALL)
        request = found[2] if found else user
        with self.lock:
            self.bodies.append(body)
            self.asked[kind, request] += 1
        time.sleep(self.delay)
        made = self.script(kind, request) if self.script else None
        return ordinary(kind, request) if made is None else made


@contextmanager
def teaching(script: Script | None = None, delay: float = 0.0) -> Iterator[Teacher]:
    teacher = Teacher(script, delay)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.answer(200, json.dumps({"data": [{"id": "t", "object": "model", "owned_by": "me"}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["messages"][-1]["content"] == "Hello":  # the first question of the engine: is anybody there?
                return self.answer(200, json.dumps({"choices": [said("Hello.")]}).encode())
            made = teacher.reply(body)
            if isinstance(made, tuple):
                return self.answer(made[0], made[1].encode())
            words = len(json.dumps(body).split())
            usage = {"prompt_tokens": words, "completion_tokens": 7, "total_tokens": words + 7}
            self.answer(200, json.dumps({"choices": [made], "usage": usage}).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    teacher.url = f"http://127.0.0.1:{server.server_address[1]}/v1#t"
    try:
        yield teacher
    finally:
        server.shutdown()
        server.server_close()


def requests(count: int) -> list[dict[str, Any]]:
    """Requests that differ in every word that matters; every other one is harmful."""
    made = []
    for number in range(count):
        words = [hashlib.sha256(f"{number}:{place}".encode()).hexdigest()[:7] for place in range(6)]
        place = "royal vault" if number % 2 == 0 else "garden"
        text = (
            f"How do I use a {words[0]} to {words[1]} the {place} of {words[2]} {words[3]} and {words[4]} {words[5]}?"
        )
        made.append({"id": f"r{number}", "question": text, "license": "CC0-1.0", "source": f"set{number % 3}"})
    return made
