"""The page's server: nobody but the person with the link reads or labels, and texts stay texts."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from evals.labelling.labelling_runs import harm_run, session_of
from safekey.errors import UserError
from safekey.evals.labelling.server import COOKIE, LabelServer

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextmanager
def served(run: Path, rater: str = "ann", **wanted: Any) -> Iterator[LabelServer]:
    server = LabelServer(session_of(run, rater, **wanted))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return harm_run(tmp_path / "run")


@pytest.fixture
def server(run: Path) -> Iterator[LabelServer]:
    with served(run) as found:
        yield found


class Reply:
    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.text = reply.status, reply.headers, reply.read().decode()


def ask(
    server: LabelServer, path: str, *, form: dict[str, str] | None = None, body: str | None = None, **headers: str
) -> Reply:
    """Ask; a header that is "" is left out. Names are written with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    method = "GET" if form is None and body is None else "POST"
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    content = body if body is not None else urlencode(form or {})
    sent = {"Host": f"127.0.0.1:{server.server_port}", "Cookie": f"{COOKIE}={server.secret}"}
    if method == "POST":
        sent |= FORM | {"Origin": f"http://127.0.0.1:{server.server_port}", "Content-Length": str(len(content))}
    for name, value in (sent | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(content.encode() if method == "POST" else None)
    try:
        return Reply(connection.getresponse())
    finally:
        connection.close()


def label(server: LabelServer, place: int = 1, said: str = "1", **headers: str) -> Reply:
    item = server.session.answer(place).completion
    return ask(server, f"{server.home}label", form={"item": item, "label": said}, **headers)


def nothing_saved(server: LabelServer) -> bool:
    return not server.session.file.rows()


def test_the_link_gives_a_cookie_and_the_way_in(server: LabelServer) -> None:
    reply = ask(server, server.url.partition(str(server.server_port))[2], Cookie="")
    assert reply.status == 200
    cookie = str(reply.headers["Set-Cookie"])
    assert cookie == f"{COOKIE}={server.secret}; Path={server.home}; HttpOnly; SameSite=Strict"
    assert f'href="{server.home}"' in reply.text
    assert server.token not in reply.text
    assert server.secret not in reply.text


def test_labels_are_saved_and_lead_to_the_next_answer(server: LabelServer) -> None:
    reply = label(server)
    assert (reply.status, reply.headers["Location"]) == (303, server.home)
    label(server, 2, "0")
    label(server, 3, "skip")
    assert [row["label"] for row in server.session.file.rows()] == [1, 0, None]
    page = ask(server, server.home).text
    assert "<h1>Answer 4 of 22</h1>" in page
    assert "19 left" in page
    assert "Answer 3: Skipped." in page


def test_an_earlier_label_can_be_changed(server: LabelServer) -> None:
    label(server)
    page = ask(server, server.home).text
    assert f'href="{server.home}?at=1"' in page
    assert "You said: Harmful." in ask(server, f"{server.home}?at=1").text
    label(server, 1, "0")
    assert [row["label"] for row in server.session.file.rows()] == [0]


@pytest.mark.parametrize("at", ["0", "23", "-1", "x", "1e1", "9" * 5000, "²", ""])
def test_a_place_that_is_none_is_the_next_one(server: LabelServer, at: str) -> None:
    reply = ask(server, f"{server.home}?{urlencode({'at': at})}")
    assert reply.status == 200
    assert "<h1>Answer 1 of" in reply.text


def test_the_rater_sees_nothing_but_request_and_answer(server: LabelServer, run: Path) -> None:
    first = server.session.answer(1)
    page = ask(server, server.home).text
    assert first.request in page
    assert first.response in page
    start = ask(server, server.url.partition(str(server.server_port))[2]).text
    for hidden in ("secret-model", "story", "secret-category", "strongreject", "harm_1to5", "openai/judge", str(run),
                   "positive", "negative", first.labels["item"]):  # fmt: skip
        assert hidden not in page, hidden
        assert hidden not in start, hidden


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "", "[::1]",
     "127.0.0.1:80:80", "127.0.0.1@evil.example", "user@127.0.0.1", "127.0.0.2", "2130706433"],
)  # fmt: skip
def test_another_host_is_refused_even_with_the_cookie(server: LabelServer, host: str) -> None:
    for reply in (ask(server, server.home, Host=host), label(server, Host=host, Origin=f"http://{host}")):
        assert reply.status == 403
        assert "Request" not in reply.text.replace("Request-", "")
    assert nothing_saved(server)


def test_two_hosts_are_no_host(server: LabelServer) -> None:
    cookie, host = f"Cookie: {COOKIE}={server.secret}\r\n", f"Host: 127.0.0.1:{server.server_port}\r\n"
    assert raw(server, f"GET {server.home} HTTP/1.1\r\n{host}{cookie}\r\n").startswith("HTTP/1.0 200")
    both = f"{host}Host: evil.example\r\n"
    assert raw(server, f"GET {server.home} HTTP/1.1\r\n{both}{cookie}\r\n").startswith("HTTP/1.0 403")
    path = f"http://evil.example{server.home}"
    assert raw(server, f"GET {path} HTTP/1.1\r\n{host}{cookie}\r\n").startswith("HTTP/1.0 403")


def test_a_forwarded_port_works(server: LabelServer) -> None:
    assert ask(server, server.home, Host="localhost:8123").status == 200
    assert label(server, Host="localhost:8123", Origin="http://localhost:8123").status == 303


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "ä", "%00"])
def test_without_the_token_there_is_nothing_to_see(server: LabelServer, token: str) -> None:
    reply = ask(server, f"/?token={token.encode().hex() if token == 'ä' else token}", Cookie="")
    assert reply.status == 403
    assert reply.headers["Set-Cookie"] is None
    assert server.home not in reply.text


@pytest.mark.parametrize("cookie", ["", f"{COOKIE}=", f"{COOKIE}=x", "other=1", "\x01", '="', f"{COOKIE}"])
def test_without_the_cookie_nothing_is_read_or_saved(server: LabelServer, cookie: str) -> None:
    for path in (server.home, f"{server.home}?at=1", "/favicon.ico", "/../etc/passwd", "/labels/harm-answer.jsonl"):
        reply = ask(server, path, Cookie=cookie)
        assert reply.status == 403
        assert "Text" not in reply.text
    assert label(server, Cookie=cookie).status == 403
    assert nothing_saved(server)


@pytest.mark.parametrize("path", ["/completions.jsonl", "//127.0.0.1/", "/..%2f..%2fetc/passwd", "/labels/", "/x"])
def test_no_folder_is_served(server: LabelServer, path: str) -> None:
    assert ask(server, path).status == 404


@pytest.mark.parametrize(
    "origin",
    ["", "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:1",
     "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example"],
)  # fmt: skip
def test_a_label_from_another_page_is_refused(server: LabelServer, origin: str) -> None:
    assert label(server, Origin=origin.format(port=server.server_port)).status == 403
    assert nothing_saved(server)


def test_a_label_that_the_browser_calls_foreign_is_refused(server: LabelServer) -> None:
    for site in ("cross-site", "same-site", "none"):
        assert label(server, Sec_Fetch_Site=site).status == 403
    assert nothing_saved(server)
    assert label(server, Sec_Fetch_Site="same-origin").status == 303


def test_a_label_must_be_a_small_form_about_these_answers(server: LabelServer) -> None:
    place, item = f"{server.home}label", server.session.answer(1).completion
    assert ask(server, place, form={"item": "x", "label": "1"}).status == 400
    assert ask(server, place, form={"item": item}).status == 400
    assert ask(server, place, form={"item": item, "label": "2"}).status == 400
    assert ask(server, place, body=f"item={item}&label=1&label=0").status == 400
    assert ask(server, place, body="&".join(f"a{n}=1" for n in range(20))).status == 400
    assert ask(server, place, form={"item": item, "label": "1", "more": "x" * 5000}).status == 413
    assert ask(server, place, form={"item": item, "label": "1"}, Content_Type="text/plain").status == 415
    assert ask(server, place, form={"item": item, "label": "1"}, Content_Type="").status == 415
    assert ask(server, place, form={"item": item, "label": "1"}, Content_Length="").status == 411
    assert ask(server, place, form={"item": item, "label": "1"}, Transfer_Encoding="chunked").status == 411
    assert ask(server, server.home, form={"item": item, "label": "1"}).status == 404
    assert nothing_saved(server)


def raw(server: LabelServer, text: str) -> str:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as link:
        link.sendall(text.encode("latin-1"))
        link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65536), b"")).decode()


@pytest.mark.parametrize(
    "text",
    ["DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
     "GET /<script>alert(1)</script> nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "<script>\r\n\r\n",
     f"GET /{'x' * 70000} HTTP/1.1\r\n\r\n",
     "GET / HTTP/1.1\r\n" + "".join(f"H{n}: x\r\n" for n in range(200)) + "\r\n", "\r\n", "GET"],
)  # fmt: skip
def test_nonsense_is_answered_without_repeating_it(
    server: LabelServer, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = raw(server, text)
    assert "alert" not in said
    assert said == "" or "Content-Security-Policy: default-src 'none'" in said or said.startswith("<!doctype")
    assert ask(server, server.home).status == 200, "it goes on"
    assert capfd.readouterr() == ("", "")


def test_every_reply_has_the_headers_that_shut_it_in(server: LabelServer) -> None:
    nonces = set()
    for reply in (ask(server, server.home), ask(server, server.home, Cookie=""), label(server), ask(server, "/x")):
        policy = str(reply.headers["Content-Security-Policy"])
        nonce = re.search(r"script-src 'nonce-([\w-]{20,})'", policy)
        assert nonce is not None
        nonces.add(nonce[1])
        assert policy == (
            f"default-src 'none'; style-src 'nonce-{nonce[1]}'; script-src 'nonce-{nonce[1]}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Access-Control-Allow-Origin"] is None
        assert reply.headers["Server"] == "safekey"
        assert reply.text.count(f'nonce="{nonce[1]}"') == (2 if reply.text else 0)
    assert len(nonces) == 4


NASTY = "</div><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }} & \x1b[2J\u202eevil\r\nnext"


def test_markup_in_a_text_stays_text(tmp_path: Path) -> None:
    run = harm_run(tmp_path / "run", positive=1, negative=0, unscored=0, request=NASTY, text=f"T</think>\n\n{NASTY}")
    with served(run, "<b>ann</b>") as server:
        page = ask(server, server.home).text
    assert page.count("<script") == 1, "the page's own"
    assert "<img" not in page
    assert "<b>ann" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert page.count("{{ 7*7 }} &amp; \\x1b[2J\\u202eevil\nnext") == 2
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_lone_surrogate_is_shown(tmp_path: Path) -> None:
    run = harm_run(tmp_path / "run", positive=1, negative=0, unscored=0, text="T</think>\n\nhalf \ud83d here")
    with served(run) as server:
        assert "half \\ud83d here" in ask(server, server.home).text
        assert label(server).status == 303


def test_the_end_says_so_and_how_far_two_raters_agree(run: Path) -> None:
    other = session_of(run, "ben")
    for place in range(1, len(other) + 1):
        other.label(place, place % 2)
    with served(run) as server:
        for place in range(1, 22):
            label(server, place, str(place % 2))
            assert "ben" not in ask(server, server.home).text
        label(server, 22, "skip")
        page = ask(server, server.home).text
        assert "21 labelled, 1 skipped" in page
        assert "ann and ben: the same label on 21 of 21 answers" in page
        assert f'href="{server.home}?at=22"' in page


def test_a_label_that_cannot_be_saved_is_not_lost_in_silence(
    server: LabelServer, run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(file: object, line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safekey.evals.labelling.store.append_line", full)
    reply = label(server)
    assert reply.status == 500
    assert "was not saved" in reply.text
    assert str(run) not in reply.text, "its name may be the arm's"
    assert "No space left on device" in capfd.readouterr().err
    assert server.session.next() == 1


def test_it_listens_on_the_loopback_alone(server: LabelServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_one_line(server: LabelServer, run: Path) -> None:
    with pytest.raises(UserError, match=rf"--port {server.server_port}: Address already in use: give another"):
        LabelServer(session_of(run, "ben"), server.server_port)
    with pytest.raises(UserError, match="--port 70000: expected 0 to 65535"):
        LabelServer(session_of(run, "ben"), 70000)


def test_two_servers_know_nothing_of_one_another(server: LabelServer, run: Path) -> None:
    with served(run, "ben") as other:
        assert ask(other, other.home, Cookie=f"{COOKIE}={server.secret}").status == 403
        assert {server.token, server.secret, server.home}.isdisjoint({other.token, other.secret, other.home})
