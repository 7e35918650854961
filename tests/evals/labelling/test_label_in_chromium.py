"""The labelling page in a real headless Chromium: keys, a double tap, no script of a model, other pages kept out."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.labelling.labelling_runs import harm_run
from evals.labelling.test_label_server import NASTY, served
from report.browser import chromium
from safekey.evals.labelling.server import LabelServer

READ = 500  # milliseconds: longer than the page calls too soon


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabelServer]:
    text = "T</think>\n\n" + NASTY + "\n".join(f"Line {number**3} of a long text." for number in range(60))
    run = harm_run(tmp_path / "run", positive=2, negative=2, unscored=0, request=NASTY, text=text)
    with served(run) as found:
        yield found


class Page:
    """A page with all that it said, and all that it asked for elsewhere."""

    def __init__(self, browser: Any, server: LabelServer, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        mine = f"http://127.0.0.1:{server.server_port}/"
        self.page.on("request", lambda asked: asked.url.startswith(mine) or self.said.append(asked.url))
        self.page.goto(server.url)

    def press(self, key: str, wait_for: str) -> None:
        self.page.wait_for_load_state("load")  # the page's script has begun to count by then
        self.page.wait_for_timeout(READ)
        self.page.keyboard.press(key)
        self.page.wait_for_selector(f"text={wait_for}")


def labels(server: LabelServer) -> list[int | None]:
    return [server.session.said(place)[1] for place in range(1, len(server.session) + 1)]


@pytest.mark.slow
def test_keys_label_go_back_and_reach_the_end(browser: Any, server: LabelServer) -> None:
    one = Page(browser, server)
    one.press("Enter", "Answer 1")
    one.press("1", "Answer 2")
    one.press("0", "Answer 3")
    one.press("u", "You said: Not harmful.")
    one.press("u", "You said: Harmful.")
    one.press("0", "Answer 3")
    one.press("s", "Answer 4")
    one.press("1", "All answers are done")
    one.press("s", "You said: Skipped.")
    one.press("1", "All answers are done")
    assert labels(server) == [0, 0, 1, 1]
    assert one.said == []
    one.context.close()


def test_a_double_tap_and_a_held_key_label_once(browser: Any, server: LabelServer) -> None:
    one = Page(browser, server)
    one.press("Enter", "Answer 1")
    one.page.add_init_script("""(() => {  // a clock that stands, and what a second tap does
        let time = 0;
        performance.now = () => time;
        window.wait = () => { time = 1000; };
        addEventListener("DOMContentLoaded", () => {
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "1", bubbles: true}));
            document.querySelector("button[value='0']").click(); }); })()""")
    one.press("1", "Answer 2")
    one.page.wait_for_load_state("load")
    assert labels(server) == [1, None, None, None]
    one.page.evaluate("""() => { wait(); document.body.dispatchEvent(  // the system repeats a held key
        new KeyboardEvent("keydown", {key: "1", bubbles: true, repeat: true})); }""")
    one.page.wait_for_timeout(READ)
    assert labels(server) == [1, None, None, None]
    one.press("0", "Answer 3")
    assert labels(server) == [1, 0, None, None]
    one.context.close()


def test_markup_of_a_model_does_nothing_and_is_shown(browser: Any, server: LabelServer) -> None:
    one = Page(browser, server)
    one.press("Enter", "Answer 1")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}" in one.page.inner_text(".request")
    assert one.page.locator("img").count() == 0
    assert one.said == []
    one.page.evaluate("document.querySelector('.response').innerHTML = '<img src=x onerror=alert(3)>'")
    one.page.wait_for_timeout(200)
    assert all("alert" not in said or "Content Security Policy" in said for said in one.said), "even if it were markup"
    one.context.close()


def test_it_works_without_scripts(browser: Any, server: LabelServer) -> None:
    one = Page(browser, server, java_script_enabled=False)
    one.page.click("a.main")
    one.page.click("button[value='1']")
    one.page.wait_for_selector("text=Answer 2")
    one.page.click("a[data-key='u']")
    one.page.wait_for_selector("text=You said: Harmful.")
    assert labels(server)[0] == 1
    one.context.close()


def test_another_site_in_the_same_browser_cannot_read_or_label(browser: Any, server: LabelServer) -> None:
    """A page of another port of this machine, opened in the browser that has the cookie."""
    item, target = server.session.answer(1).completion, f"http://127.0.0.1:{server.server_port}{server.home}"
    evil = f"""<!doctype html><form method="post" action="{target}label" target="out">
        <input name="item" value="{item}"><input name="label" value="1"></form>
        <iframe name="out"></iframe><iframe id="framed" src="{target}"></iframe>
        <script>document.forms[0].submit();
        fetch("{target}", {{credentials: "include"}}).then(r => r.text())
            .then(t => document.title = t, () => document.title = "none")
        </script>""".encode()
    seen: list[str] = []

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers.get("Cookie")))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(evil)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    one = Page(browser, server)
    one.press("Enter", "Answer 1")
    two = one.context.new_page()
    two.goto(f"http://127.0.0.1:{other.server_port}/")
    two.wait_for_function("document.title !== ''")
    two.wait_for_timeout(300)
    assert two.title() == "none", "it read nothing"
    assert not server.session.file.rows(), "it labelled nothing"
    assert all("Answer 1" not in frame.content() for frame in two.frames), "it is in no frame"
    assert seen
    assert all("safekey" not in cookie for cookie in seen), "it was not sent the cookie"
    one.context.close()
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_narrow_and_wide_and_can_be_read(browser: Any, server: LabelServer, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    one = Page(browser, server, viewport={"width": width, "height": 700}, color_scheme=scheme, bypass_csp=True)
    for key, text in (("Enter", "Answer 1"), ("1", "Answer 2")):
        found = axe.Axe().run(one.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        one.press(key, text)
    button = one.page.locator("button[value='1']").bounding_box()
    assert button["y"] + button["height"] <= 700, "the buttons are in sight, however long the answer is"
    one.context.close()
