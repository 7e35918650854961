"""Keep local paths, host names and addresses of servers out of what is shared

private = Private([Path("/home/anna/runs/first")])
private.public("harm_1to5 (http://gpu-7:8000/v1#guard)")  -> "harm_1to5 (guard)"
private.leak("… /home/anna/runs/first …")                 -> "/home/anna/runs/first"
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safekey.terminal import printable

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>()\[\]]+", re.IGNORECASE)
# A path from the root or the home folder, or of Windows, at the beginning of a word.
_PATH = re.compile(r"(?<![\w./\\*-])(?!//)(?:~|\.{1,2})?/(?:[^\s/\"'`<>|;:,()\[\]{}]+/)*[^\s/\"'`<>|;:,()\[\]{}]+/?")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\[^\s\"'`<>|;,()\[\]{}]+")
_ADDRESS = re.compile(r"(?<![\w.])(?:(?:\d{1,3}\.){3}\d{1,3}|localhost)(?::\d+)?(?![\w.])")
_PUBLIC = {"huggingface.co", "github.com", "arxiv.org", "doi.org"}
_SHORTEST = 4  # characters of a folder's or host's name that is looked for


class Private:
    """What of this machine must not be in a text that is shared."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Take the folders and files that were used; a relative name is private as it was given, too."""
        self._given = tuple(paths)
        paths = self._given
        known: dict[str, None] = {}
        for path in (*paths, Path.home(), Path.cwd()):
            for each in (path, path.expanduser().absolute(), path.expanduser().resolve()):
                known[each.as_posix()] = None
        self._paths = sorted((path for path in known if len(path) >= _SHORTEST and "/" in path), key=len, reverse=True)
        names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
        # A host called "training" cannot be told from the word.
        self._hosts = sorted(name for name in names if len(name) >= _SHORTEST and re.search(r"[\d.-]", name))

    def also(self, paths: Iterable[Path]) -> Private:
        """Return the same with more folders and files."""
        return Private((*self._given, *paths))

    def public(self, text: str) -> str:
        """Return a text in which paths are the names of their files, and servers are not named."""
        text = _ADDRESS.sub("a server", _URL.sub(_without_server, text))
        for path in self._paths:
            text = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?![\w-])(?!/)", lambda m: _name(m.group()), text)
        text = _WINDOWS.sub(lambda match: match.group().rpartition("\\")[2], text)
        text = _PATH.sub(lambda match: _name(match.group()), text)
        for host in self._hosts:
            text = re.sub(rf"\b{re.escape(host)}\b", "a machine", text)
        return text

    def leak(self, text: str) -> str:
        """Return a path or a host's name of this machine that a text holds; "" for none.

        A path is one that was used here, or any that leads to something here.
        """
        for path in self._paths:
            whole = path if path.count("/") > 1 else f"{path}/"  # "/root" alone may be a word
            if path.startswith("/") and whole in text:
                return path
        for match in _PATH.finditer(text):
            path = match.group().rstrip("/.")  # a path may end its sentence
            if path.startswith(("/", "~/")) and path.count("/") > 1 and os.path.exists(os.path.expanduser(path)):
                return path
        for host in self._hosts:
            if re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", text):
                return host
        return ""

    def public_value(self, value: Any) -> Any:
        """Return a value as JSON holds it, with `public` applied to each text in it."""
        if isinstance(value, dict):
            return {key: self.public_value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.public_value(item) for item in value]
        return self.public(value) if isinstance(value, str) else value


def public_name(private: Private, text: Any, longest: int = 120) -> str:
    """Return a short name as one line: no path, no control characters."""
    return " ".join(printable(private.public(str(text))).split())[:longest]


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path


def _without_server(match: re.Match[str]) -> str:
    url = match.group()
    try:
        found = urlsplit(url)
    except ValueError:
        return "a server"
    if found.hostname in _PUBLIC and not found.username:
        return url
    return found.fragment or "a server"
