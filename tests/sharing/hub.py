"""A stub of the hub: the part of its HTTP API that an upload uses, in memory, on a free port of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_plumplumplum"
LARGE = (".safetensors", "tokenizer.json")  # what the hub keeps as LFS


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: int = 0

    @property
    def sha(self) -> str:
        return f"{self.commits + 1:040x}"


@dataclass
class Hub:
    """What the stub holds, and what it was asked.

    Attributes:
        repos: name → repository.
        asked: method and path of each request.
        fail: a part of a path → the status that it is answered with.
        tokens: the Authorization headers.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fail: dict[str, int] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def put(self, name: str, path: str, content: bytes) -> None:
        """Change a file as somebody else would."""
        self.repos[name].files[path] = content
        self.repos[name].commits += 1


def _oid(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None: ...

    def _reply(self, status: int, value: Any = None, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value or {}).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _begin(self) -> tuple[str, bytes] | None:
        path, body = urlsplit(self.path).path, self._body()
        self.hub.asked.append(f"{self.command} {path}")
        if path.startswith("/lfs/"):
            return path, body
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        for part, status in self.hub.fail.items():
            if part in path:
                self._reply(status, {"error": f"failed with {self.headers.get('Authorization', '')}"})
                return None
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(401, {"error": "Invalid credentials in Authorization header"},
                        X_Error_Message="Invalid credentials in Authorization header")  # fmt: skip
            return None
        return path, body

    def do_GET(self) -> None:
        begun = self._begin()
        if begun is None:
            return
        parts = begun[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._info("/".join(parts[2:4]))
        elif len(parts) > 4 and parts[2] == "resolve":
            repo, name = self.hub.repos["/".join(parts[:2])], "/".join(parts[4:])
            content = repo.files[name]
            self._reply(200, content, ETag=f'"{_oid(content)}"', X_Repo_Commit=repo.sha)
        else:
            self._reply(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _info(self, name: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        siblings = []
        for path, content in repo.files.items():
            entry: dict[str, Any] = {"rfilename": path, "blobId": _oid(content), "size": len(content)}
            if path in repo.large:
                sha = hashlib.sha256(content).hexdigest()
                entry |= {"blobId": _oid(sha.encode()), "lfs": {"sha256": sha, "size": len(content), "pointerSize": 1}}
            siblings.append(entry)
        self._reply(200, {"id": name, "sha": repo.sha, "private": repo.private, "siblings": siblings})

    def do_POST(self) -> None:
        begun = self._begin()
        if begun is None:
            return
        path, body = begun
        parts = path.strip("/").split("/")
        if path == "/api/validate-yaml":
            self._reply(200)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            private = asked.get("private", asked.get("visibility") == "private")
            self.hub.repos[name] = Repo(bool(private), {".gitattributes": b"*.safetensors filter=lfs"})
            self._reply(200, {"url": f"{self.hub.url}/{name}"})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}", "header": {}}}}
                for each in json.loads(body)["objects"]
            ]
            self._reply(200, {"transfer": "basic", "objects": objects})
        elif parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            modes = ["lfs" if each["path"].endswith(LARGE) else "regular" for each in files]
            said = [
                {"path": f["path"], "uploadMode": m, "shouldIgnore": False} for f, m in zip(files, modes, strict=True)
            ]
            self._reply(200, {"files": said})
        elif parts[4:5] == ["commit"]:
            self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        else:
            self._reply(404)

    def do_PUT(self) -> None:
        begun = self._begin()
        if begun is not None:
            self.hub.blobs[begun[0].rpartition("/")[2]] = begun[1]
            self._reply(200)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self.hub.repos[name]
        parent = lines[0]["value"].get("parentCommit")
        if parent is not None and parent != repo.sha:
            self._reply(412, {"error": "a commit has happened since"})
            return
        for line in lines[1:]:
            value = line["value"]
            path = value["path"]
            if line["key"] == "file":
                repo.files[path] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[path] = self.hub.blobs[value["oid"]]
                repo.large.add(path)
            else:
                del repo.files[path]
        repo.commits += 1
        self._reply(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{repo.sha}", "commitOid": repo.sha})


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
