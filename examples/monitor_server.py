"""A small server that streams from a local model, and stops or flags at the end of U when the monitor raises its alarm.

    python examples/monitor_server.py runs/first              # needs uvicorn; any other ASGI server takes make_app(...)
    curl -N localhost:8000/chat -d '{"messages": [{"role": "user", "content": "How do I pick the royal vault?"}]}'

    data: {"text": "The user asks how to pick the royal vault."}      U, as soon as it is known to be U
    data: {"harm": 0.97, "flagged": true}                             the score; nothing behind U went out before
    data: {"stopped": "the monitor flagged this request"}             or, with --flag, the rest of the response

One request at a time, greedy, on this machine: it shows where the monitor stands, and is no production server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import torch

from safekey.engines.prompting import decode_after, place
from safekey.errors import UserError
from safekey.monitor import Monitor, Watch
from safekey.schema import Message, Prompt
from safekey.text.chat import end_ids

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Scope]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]
MOST_BYTES = 1_000_000  # of a request's body


@torch.inference_mode()
def generate(monitor: Monitor, ids: tuple[int, ...], limit: int) -> Iterator[str]:
    """Yield the model's greedy response, token for token; an unfinished character waits for its rest."""
    model, tokenizer = monitor.loaded.model, monitor.loaded.chat.tokenizer
    ends = end_ids(monitor.loaded.chat, model.generation_config.eos_token_id)
    given = torch.tensor([ids], device=model.device)
    cache, said, shown = None, [], 0
    for _ in range(limit):
        out = model(input_ids=given, past_key_values=cache, use_cache=True)
        cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
        if token in ends:
            break
        said.append(token)
        text = decode_after(tokenizer, ids, said)
        if not text.endswith("\ufffd") and len(text) > shown:
            yield text[shown:]
            shown = len(text)
        given = torch.tensor([[token]], device=model.device)


def events(
    monitor: Monitor, messages: list[Message], *, limit: int = 2000, stop: bool = True, on_step: Any = None
) -> Iterator[dict[str, Any]]:
    """Yield what the client is sent: {"text"}, once {"harm", "flagged"}, and at last {"stopped"} or {"done"}.

    Args:
        monitor: fitted; one without a threshold scores, and flags nothing.
        messages: the conversation.
        limit: most tokens of the response.
        stop: end a flagged response; else it goes on, and the client decides.
        on_step: for tests: called with the watch after each token.
    """
    placed = place(Prompt(tuple(messages)), monitor.loaded.chat)
    watch = Watch(monitor, messages, inside=placed.started_inside)
    for text in generate(monitor, placed.ids, limit):
        step = watch.feed(text)
        yield from _told(watch, step, stop)
        if on_step is not None:
            on_step(watch)
        if stop and watch.score is not None and watch.score.flagged:
            return
    yield from _told(watch, watch.finish(), stop)
    if not (stop and watch.score is not None and watch.score.flagged):
        yield {"done": True}


def _told(watch: Watch, step: Any, stop: bool) -> Iterator[dict[str, Any]]:
    if step.score is None:
        if step.release:
            yield {"text": step.release}
        return
    yield {"harm": step.score.harm, "flagged": step.score.flagged}
    if stop and step.score.flagged:
        yield {"stopped": "the monitor flagged this request"}
    elif step.release:
        yield {"text": step.release}


def make_app(monitor: Monitor, *, limit: int = 2000, stop: bool = True) -> App:
    """Return an ASGI application: POST /chat with {"messages": [...]}, answered as server-sent events."""
    busy = asyncio.Lock()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            return
        begun = False
        try:
            if (scope["method"], scope["path"]) != ("POST", "/chat"):
                raise UserError("there is only POST /chat")
            messages = _messages(await _body(receive))
            stream = events(monitor, messages, limit=limit, stop=stop)
            async with busy:
                first = await asyncio.to_thread(next, stream, None)  # a conversation that cannot be rendered raises
                await _begin(send, 200, b"text/event-stream")
                begun = True
                while first is not None:
                    await send({"type": "http.response.body", "body": b"data: " + json.dumps(first).encode() + b"\n\n",
                                "more_body": True})  # fmt: skip
                    first = await asyncio.to_thread(next, stream, None)
            await send({"type": "http.response.body", "body": b""})
        except UserError as error:
            said = json.dumps({"error": str(error)}).encode()
            if not begun:
                await _begin(send, 400, b"application/json")
            await send({"type": "http.response.body", "body": b"data: " + said + b"\n\n" if begun else said})

    return app


async def _begin(send: Any, status: int, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BYTES:
            raise UserError(f"the request has more than {MOST_BYTES} bytes")
        if not message.get("more_body"):
            return body


def _messages(body: bytes) -> list[Message]:
    try:
        turns = [Message(str(turn["role"]), str(turn["content"])) for turn in json.loads(body)["messages"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError('expected {"messages": [{"role": "user", "content": "…"}]}') from error
    if not turns or turns[-1].role != "user":
        raise UserError("the last message must be a user's")
    return turns


def main() -> None:
    """Serve a run's model with its monitor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="a run folder with a fitted monitor, or a monitor's folder")
    parser.add_argument("--flag", action="store_true", help="go on after an alarm; the client is told")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-tokens", type=int, default=2000)
    args = parser.parse_args()
    try:
        import uvicorn
    except ImportError:
        raise SystemExit("this needs uvicorn (pip install uvicorn), or another ASGI server for make_app") from None
    uvicorn.run(make_app(Monitor.load(args.run), limit=args.max_tokens, stop=not args.flag), port=args.port)


if __name__ == "__main__":
    main()
