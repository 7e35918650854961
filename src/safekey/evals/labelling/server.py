"""The labelling page: a server on this machine's loopback, for the one person who holds its link.

Answers are a model's, and harmful ones among them: nobody else may read them, and no other page may label. So every
request must name this server as its host (a name that was pointed at 127.0.0.1 does not pass) and carry a cookie, which
only the link's token gives; a label must also come from this server's own page. Texts are escaped, a content security
policy lets nothing but the page's own style and script run, and no folder is served.
"""

from __future__ import annotations

import hmac
import re
import secrets
import socket
import socketserver
import sys
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from safekey.errors import UserError
from safekey.evals.labelling.agreement import agreements
from safekey.evals.labelling.page import answer_page, done_page, problem_page, start_page
from safekey.evals.labelling.session import Session
from safekey.evals.labelling.wording import agreement_lines
from safekey.terminal import printable

HOST = "127.0.0.1"
COOKIE = "safekey-label"
_HOSTS = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d{1,5})?", re.IGNORECASE)  # any port: one may be forwarded
_MOST_BYTES = 4096  # of a form
_SECONDS = 30  # for a request to arrive
_LABELS = {"1": 1, "0": 0, "skip": None}
_FORM = "application/x-www-form-urlencoded"
_CLOSED = "This page is for the person who was given its link: open the link that the command has printed."
_UNSAVED = "This label was not saved: the terminal says why. Go back and try again; earlier labels are kept."


class LabelServer(ThreadingHTTPServer):
    """The server of one rater's session."""

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        """Bind to the loopback.

        Args:
            session: the rater's.
            port: 0: a free one.

        Raises:
            UserError: the port is in use, or cannot be used.
        """
        self.session = session
        self.token, self.secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        # The pages' path: a cookie is sent to every port of a host, but only to paths that begin with its own.
        self.home = f"/{secrets.token_urlsafe(16)}/"
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "expected 0 to 65535"
            raise UserError(f"--port {port}: {why}: give another, or leave it out for a free one") from error

    def server_bind(self) -> None:
        """Bind, without asking a name server for the loopback's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def url(self) -> str:
        """The link, with its token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong with a request; a browser that went away is nothing to say."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError | socket.timeout):
            print(f"safekey: a request to the page failed ({type(error).__name__})", file=sys.stderr)


class _RefusedError(Exception):
    """A request that is not answered: the status, and what the page says."""

    def __init__(self, status: int, said: str) -> None:
        self.status, self.said = status, said


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, answer: Any) -> None:
        try:
            self._check_host()
            answer()
        except _RefusedError as refused:
            self._send(refused.status, problem_page(self._nonce(), refused.said))
        except UserError as error:  # the disk is full, say. The file's path, which may name an arm, is not shown
            print(f"safekey: {printable(str(error))}", file=sys.stderr)
            self._send(500, problem_page(self._nonce(), _UNSAVED))

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOSTS.fullmatch(hosts[0].strip()) or not self.path.startswith("/"):
            raise _RefusedError(403, _CLOSED)

    def _check_cookie(self) -> None:
        try:
            found = SimpleCookie("; ".join(self.headers.get_all("Cookie") or [])).get(COOKIE)
        except CookieError:
            found = None
        if found is None or not _same(found.value, self.server.secret):
            raise _RefusedError(403, _CLOSED)

    def _get(self) -> None:
        url = urlsplit(self.path)
        query = _fields(url.query)
        if url.path == "/":
            if not _same(query.get("token", ""), self.server.token):
                raise _RefusedError(403, _CLOSED)
            cookie = f"{COOKIE}={self.server.secret}; Path={self.server.home}; HttpOnly; SameSite=Strict"
            page = start_page(self._nonce(), self.server.session, self.server.home)
            self._send(200, page, {"Set-Cookie": cookie})
            return
        self._check_cookie()
        if url.path != self.server.home:
            raise _RefusedError(404, "There is no such page.")
        self._send(200, self._page(query.get("at", "")))

    def _page(self, at: str) -> str:
        """Return the page of the answer that is asked for, or of the next one, or of the end."""
        session, home, nonce = self.server.session, self.server.home, self._nonce()
        last = session.before()
        place = int(at) if re.fullmatch(r"[0-9]{1,9}", at) and 1 <= int(at) <= len(session) else session.next()
        if place is not None:
            return answer_page(nonce, session, home, place, last)
        pairs = [pair for pair in agreements(session.file.rows()) if session.rater in (pair.first, pair.second)]
        return done_page(nonce, session, home, agreement_lines(pairs))

    def _post(self) -> None:
        host, origins = self.headers.get("Host", "").strip(), self.headers.get_all("Origin") or []
        if len(origins) != 1 or not _same(origins[0].lower(), f"http://{host.lower()}"):
            raise _RefusedError(403, "This label came from another page. It was not saved.")
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise _RefusedError(403, "This label came from another page. It was not saved.")
        self._check_cookie()
        if urlsplit(self.path).path != f"{self.server.home}label":
            raise _RefusedError(404, "There is no such page.")
        fields = self._form()
        place = self.server.session.place_of(fields.get("item", ""))
        if place is None or fields.get("label") not in _LABELS:
            raise _RefusedError(400, "This is no label of these answers. It was not saved.")
        self.server.session.label(place, _LABELS[fields["label"]])
        self._send(303, "", {"Location": self.server.home})

    def _form(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or "Transfer-Encoding" in self.headers:
            raise _RefusedError(411, "This request does not say how long it is.")
        if int(length) > _MOST_BYTES:
            raise _RefusedError(413, "This request is too long.")
        if self.headers.get_content_type() != _FORM:
            raise _RefusedError(415, "This request is no form.")
        return _fields(self.rfile.read(int(length)).decode("ascii", "replace"))

    def _nonce(self) -> str:
        if not hasattr(self, "_made_nonce"):
            self._made_nonce = secrets.token_urlsafe(16)
        return self._made_nonce

    def _send(self, status: int, page: str, more: dict[str, str] | None = None) -> None:
        body = page.encode("utf-8", "backslashreplace")
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'nonce-{self._nonce()}'; script-src 'nonce-{self._nonce()}'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",  # with "no-referrer", a browser sends its form with "Origin: null"
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        for name, value in (headers | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is no request of this page, without repeating any of it."""
        self._send(code, problem_page(self._nonce(), "This request was not understood."))

    def version_string(self) -> str:
        """Name no versions."""
        return "safekey"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: lines of the log would hold the token."""


def _same(one: str, other: str) -> bool:
    """Compare in a time that tells nothing about the texts."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _fields(text: str) -> dict[str, str]:
    """Return a query's or a form's fields; one that is there twice is nobody's."""
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise _RefusedError(400, "This request was not understood.") from None
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def serve(server: LabelServer) -> None:
    """Answer requests until Ctrl-C; a label that is being saved is saved."""
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        server.session.file.wait()
