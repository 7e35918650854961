"""A real headless Chromium for page tests, or a reason why there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Debian's Chromium; skips, with the reason, where it or playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs /usr/bin/chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGS)
        yield browser
        browser.close()


class Opened:
    """A page that was opened, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("popup", lambda page: self.said.append(f"popup: {page.url}"))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_selector("#browser:not([hidden])", timeout=60_000)

    def quiet(self) -> None:
        """Check that nothing was said and nothing asked for but the page itself."""
        assert self.said == []
        assert [url for url in self.asked if url != self.page.url.partition("#")[0]] == []

    def count(self) -> tuple[int, int]:
        """Return how many transcripts were found, of how many."""
        words = self.page.inner_text("#count").replace(",", "").split()
        return int(words[0]), int(words[2])

    def wait_for_count(self, expected: int) -> None:
        self.page.wait_for_function(
            "n => document.getElementById('count').textContent.replaceAll(',', '').startsWith(n + ' of')", arg=expected
        )

    def list(self) -> list[str]:
        return list(self.page.locator("#list button").all_inner_texts())

    def close(self) -> None:
        self.context.close()
