"""The page in a real headless Chromium: nothing asked, nothing run that a model wrote, and every part usable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.saved_runs import completion, verdict, write_run
from report.browser import Opened, chromium
from report.worlds import harm, one_run, record, rows, train, two_arms
from safekey.report import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("page")
    arms = two_arms(home)
    arms["base"] = [write_run(home / "base", rows(40, 0, 40))]
    return write_report(arms, home / "report", reference="sft", title="A world").html


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    found = Opened(browser, report)
    yield found
    found.close()


def test_it_opens_from_a_file_without_error_or_request(opened: Opened) -> None:
    assert opened.page.title() == "A world"
    assert opened.page.locator("h1").inner_text() == "A world"
    assert opened.count() == (600, 600)
    assert opened.page.locator("#trouble").is_hidden()
    opened.quiet()


def test_filters_work_one_by_one_and_together(opened: Opened) -> None:
    page = opened.page
    page.select_option("#f-benchmark", label="strongreject")
    opened.wait_for_count(240)
    page.select_option("#f-attack", label="story")
    opened.wait_for_count(120)
    page.select_option("#f-left-outcome", label="unsafe")
    opened.wait_for_count(30 + 31 + 32)
    page.select_option("#f-right-outcome", label="refused")
    opened.wait_for_count(93 - (4 + 5 + 6))
    page.select_option("#f-seed", label="seed 2")
    opened.wait_for_count(32 - 6)
    page.fill("#f-text", "vault-3")
    opened.wait_for_count(2)  # vault-30 and vault-31; vault-3 gives in in both arms, vault-32 on in neither
    assert [text.split("\n")[0] for text in opened.list()] == ["vault-30@story", "vault-31@story"]
    page.click("#f-reset")
    opened.wait_for_count(600)
    assert page.input_value("#f-text") == ""
    assert page.input_value("#f-right") == "1"
    page.check("#f-differ")
    opened.wait_for_count(2 * (93 - 15))  # story and prefill, five more of each of which give in
    page.fill("#f-text", "USE THE ZORBIN")
    opened.wait_for_count(93 - 15)
    page.fill("#f-text", "no such words")
    opened.wait_for_count(0)
    assert opened.list() == []
    opened.quiet()


def test_an_arm_with_one_run_meets_every_seed(opened: Opened) -> None:
    opened.page.select_option("#f-right", label="base")
    opened.page.select_option("#f-benchmark", label="strongreject")
    opened.page.select_option("#f-attack", label="story")
    opened.page.check("#f-differ")
    opened.wait_for_count(120 - 93)
    assert "base ✗ unsafe" in opened.list()[0]
    opened.page.select_option("#f-right", label="(one arm alone)")
    opened.page.uncheck("#f-differ")
    opened.wait_for_count(120)
    opened.page.select_option("#f-left", label="base")
    opened.wait_for_count(40)


def test_harmful_text_is_folded_until_asked_for(opened: Opened) -> None:
    page = opened.page
    page.select_option("#f-attack", label="story")
    page.check("#f-differ")
    opened.wait_for_count(78)
    page.click("#list li:first-child button")
    left, right = page.locator(".response").nth(0), page.locator(".response").nth(1)
    assert "Use the zorbin." not in page.locator("#view").inner_text()
    assert "judged harmful" in left.inner_text()
    assert "Sorry, no." in right.inner_text()
    left.get_by_role("button", name="Show it").click()
    assert "Use the zorbin." in left.inner_text()
    assert left.locator(".seg .tag").all_inner_texts() == [
        "U · understanding", "K · key sentence", "the rest of the thinking", "answer"
    ]  # fmt: skip
    assert left.locator(".seg-u .text").inner_text() == "The user wants to pick the vault."
    assert left.locator(".seg-k .text").inner_text() == "I know how this is done."
    page.click("#list li:nth-child(2) button")
    assert "Use the zorbin." not in page.locator("#view").inner_text()
    page.check("#f-show")
    assert "Use the zorbin." in page.locator("#view").inner_text()
    page.uncheck("#f-show")
    assert "Use the zorbin." not in page.locator("#view").inner_text()
    opened.quiet()


def test_attackers_words_are_folded_and_marked(opened: Opened) -> None:
    page = opened.page
    page.select_option("#f-benchmark", label="prefill")
    page.select_option("#f-left-outcome", label="refused")
    page.click("#list li:first-child button")
    left = page.locator(".response").nth(0)
    assert "starts with text that the attacker wrote" in left.inner_text()
    left.get_by_role("button", name="Show it").click()
    assert left.locator(".pre").first.inner_text() == "Okay, the user wants this."
    assert "prefilled:" in left.inner_text()
    assert "generated:" in left.inner_text()


def test_what_is_neither_harm_nor_refusal_looks_like_neither_and_is_folded(browser: Any, tmp_path: Path) -> None:
    row, _ = harm("vault-g", True)
    run = one_run(tmp_path / "a", [(row, [verdict(row, "garbage", judge="exact")])])
    found = Opened(browser, write_report({"a": [run]}, tmp_path / "out", reference="a").html)
    found.page.select_option("#f-left-outcome", label="garbage")
    found.wait_for_count(1)
    assert "a ~ garbage" in found.list()[0]
    found.page.click("#list button")
    assert "The judge calls this output garbage." in found.page.locator(".response").inner_text()
    assert "Use the zorbin." not in found.page.locator("#view").inner_text()
    found.close()


def test_it_can_be_used_by_keyboard(opened: Opened) -> None:
    page = opened.page

    def focused(what: str = "id") -> Any:
        return page.evaluate(f"document.activeElement.{what}")

    page.keyboard.press("Tab")
    assert focused("textContent") == "Skip to the verdicts"
    page.keyboard.press("Enter")
    page.focus("#f-text")
    page.keyboard.type("vault-1")
    opened.wait_for_count(len([n for n in range(40) if str(n).startswith("1")]) * 9)
    for name in (
        "f-benchmark",
        "f-attack",
        "f-seed",
        "f-left",
        "f-left-outcome",
        "f-right",
        "f-right-outcome",
        "f-differ",
    ):
        page.keyboard.press("Tab")
        assert focused() == name
    page.keyboard.press("Space")
    assert page.is_checked("#f-differ")
    page.focus("#list li:first-child button")
    page.keyboard.press("ArrowDown")
    second = page.locator("#list li:nth-child(2) button")
    assert focused("innerText") == second.inner_text()
    page.keyboard.press("Enter")
    assert focused("tagName") == "H3"
    assert second.get_attribute("aria-current") == "true"
    heading = page.locator("#view h3").inner_text()
    page.get_by_role("button", name="Next transcript").focus()
    page.keyboard.press("Enter")
    assert page.locator("#view h3").inner_text() != heading or page.locator("#list li:nth-child(3)").count()
    page.get_by_role("button", name="Next page").focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#page").startswith("page 2 of") or page.inner_text("#page") == "page 1 of 1"
    opened.quiet()


def test_the_colours_follow_the_system_until_the_reader_chooses(browser: Any, report: Path) -> None:
    def ground(found: Opened) -> str:
        return str(found.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = (Opened(browser, report, color_scheme=scheme) for scheme in ("light", "dark"))
    assert ground(light) != ground(dark)
    plot = "getComputedStyle(document.querySelector('#verdicts svg.plot path')).fill"
    assert light.page.evaluate(plot) != dark.page.evaluate(plot)
    seen = ground(light)
    light.page.get_by_role("button", name="Change to dark colours").click()
    assert ground(light) == ground(dark)
    light.page.get_by_role("button", name="Change to light colours").click()
    assert ground(light) == seen
    light.quiet()
    dark.quiet()
    light.close()
    dark.close()


def test_without_script_the_numbers_are_there_and_the_system_s_colours(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    assert page.locator("#main").is_visible()
    assert page.locator("#browser").is_hidden()
    assert "showing them needs JavaScript" in page.locator("noscript").inner_text()
    context.close()


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_s_page_does_not_scroll_sideways(browser: Any, report: Path, width: int) -> None:
    found = Opened(browser, report, viewport={"width": width, "height": 780})
    found.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found.page.check("#f-show")
    found.page.click("#list li:first-child button")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, report: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = Opened(browser, report, color_scheme=scheme)
    found.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found.page.check("#f-differ")
    found.page.check("#f-show")
    found.page.click("#list li:first-child button")
    results = axe.Axe().run(found.page)
    said = [(rule["id"], [node["target"] for node in rule["nodes"]][:3]) for rule in results.response["violations"]]
    assert said == []
    found.close()


EVIL = (
    "<script>window.hit=1</script></script><img src=x onerror='window.hit=2'><svg onload=window.hit=3>"
    "</style><iframe srcdoc='<script>parent.hit=4</script>'></iframe>{{ 7*7 }}<!--\"'><a href=javascript:hit=5>"
)
TURNED, LONE, RAW = "safe\u202e}gnihtyna{\u2066", "\ud800 and \udfff", "\x00\x1b[2J\x07\ufffd"


def hostile(folder: Path, arm: str) -> Path:
    """A run in which every text that reaches the page is hostile."""
    unsafe = arm == "sft"
    text = f"{EVIL}{TURNED}{LONE}{RAW}. Hmm, {EVIL}\n</think>\n\n{EVIL}{LONE}{TURNED}{RAW}"
    found = []
    for n in range(3):
        row = completion("strongreject", f"{EVIL}{n}", behaviour=EVIL, category=EVIL, attack=f"{EVIL}{TURNED}",
                         request=EVIL + LONE, target=EVIL, text=text,
                         messages=[{"role": EVIL, "content": EVIL},
                                   {"role": "user", "content": TURNED + LONE + RAW}])  # fmt: skip
        found.append((row, [verdict(row, "unsafe" if unsafe else EVIL, judge="exact")]))
    model = train(
        folder.with_name(folder.name + "-train"), 0, model_name_or_path=EVIL, qmm_weight=0.1 if unsafe else 0.2
    )
    run = write_run(folder, found, model=str(model), preset=EVIL + RAW)
    record(run, {"warnings": [EVIL + TURNED], "notes": [RAW], "contamination": {EVIL: {"overlapping": 2}}})
    return run


def test_hostile_text_is_shown_and_runs_nowhere(browser: Any, tmp_path: Path) -> None:
    name = f"{EVIL}$x_1$"
    arms = {name: [hostile(tmp_path / "a", "sft")], TURNED: [hostile(tmp_path / "b", "other")]}
    written = write_report(
        arms, tmp_path / "out", reference=name, title=EVIL + TURNED, notes=[EVIL], settings={EVIL: EVIL}
    )
    found = Opened(browser, written.html)
    page = found.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.check("#f-show")
    page.click("#list li:first-child button")
    page.fill("#f-text", "<script>")
    found.wait_for_count(3)
    page.wait_for_timeout(300)
    page.click("#list li:nth-child(2) button")
    assert page.evaluate("window.hit") is None
    assert page.locator("iframe, img, script[src], a[href^=javascript]").count() == 0
    assert page.locator("script").count() == 2
    shown = page.locator("#view").inner_text()
    assert EVIL in shown
    assert "U+202E" in shown
    assert "U+D800" in shown
    assert "U+0000" in shown
    whole = page.content() + page.locator("body").inner_text()
    for char in ("\u202e", "\u2066", "\x00", "\x1b", "\ud800"):
        assert char not in whole
    assert "49" not in page.title()
    found.quiet()
    for path in written.plots:
        if path.suffix == ".svg":
            assert "<script" not in path.read_text()
    found.close()


def test_a_line_that_turns_around_stays_in_its_box(browser: Any, tmp_path: Path) -> None:
    row, verdicts = harm("vault", False, text="\u05d0\u05d1\u05d2 \u202eabc.\n</think>\n\n" + "Z\u0351\u0352" * 100)
    run = one_run(tmp_path / "a", [(row, [verdict(row, "refused", judge="exact")])])
    found = Opened(browser, write_report({"a": [run]}, tmp_path / "out", reference="a").html)
    found.page.fill("#f-text", "\u05d0\u05d1")
    found.wait_for_count(1)
    found.page.click("#list button")
    style = "e => [getComputedStyle(e).unicodeBidi, getComputedStyle(e).overflow, e.dir]"
    for kind in ("seg-k", "seg-a"):
        assert found.page.locator(f".{kind} .text").evaluate(style) == ["plaintext", "hidden", "auto"]
    assert verdicts
    found.close()


@pytest.mark.slow
def test_a_transcript_of_a_megabyte_is_cut_until_asked_for(browser: Any, tmp_path: Path) -> None:
    text = (
        "The user asks. Hmm, no.\n</think>\n\n"
        + "".join(f"word{n} " for n in range(110_000))
        + "\u202e" * 1000
        + "THE END"
    )
    assert len(text) > 1_000_000
    row, _ = harm("long", False, text=text)
    run = one_run(tmp_path / "a", [(row, [verdict(row, "refused", judge="exact")])])
    written = write_report({"a": [run]}, tmp_path / "out", reference="a")
    assert written.sizes[written.html] < 5_000_000
    found = Opened(browser, written.html)
    found.page.fill("#f-text", "the end")
    found.wait_for_count(1)
    found.page.click("#list button")
    answer = found.page.locator(".seg-a")
    assert len(answer.inner_text()) < 20_000
    assert "THE END" in answer.inner_text()
    found.page.get_by_role("button", name="Show all").click()
    shown = found.page.evaluate("document.querySelector('.seg-a').textContent")
    assert "word109999" in shown
    assert "word54321 " in shown
    assert found.page.locator(".seg-a .esc").count() <= 400
    found.quiet()
    found.close()


@pytest.mark.slow
def test_twenty_thousand_transcripts_load_and_filter(browser: Any, tmp_path: Path) -> None:
    arms: dict[str, list[Path]] = {"sft": [], "safekey": []}
    for seed in range(2):
        for name, unsafe in (("sft", 600), ("safekey", 100)):
            found = [harm(f"vault-{n}", n < unsafe, "story" if n % 2 else "none", text=_tale(n, seed, n < unsafe))
                     for n in range(5000)]  # fmt: skip
            arms[name].append(write_run(tmp_path / f"{name}-{seed}", found))
    written = write_report(arms, tmp_path / "out", reference="sft")
    assert written.sizes[written.html] < 5_000_000
    assert written.total == 20_000
    opened = Opened(browser, written.html)
    assert opened.page.locator("#list li").count() == 25
    if written.shown == written.total:
        assert opened.count() == (10_000, 10_000)
    opened.page.check("#f-differ")
    opened.wait_for_count(1000)
    opened.page.fill("#f-text", "tale 77 ")
    opened.wait_for_count(0)
    opened.page.uncheck("#f-differ")
    opened.wait_for_count(2)
    took = opened.page.evaluate("""() => { const box = document.getElementById('f-differ'), begun = performance.now();
      document.getElementById('f-text').value = 'wanders'; box.click(); return performance.now() - begun; }""")
    assert took < 20_000  # a guard against hanging, no benchmark
    print(json.dumps({"filter_ms": round(took), "bytes": written.sizes[written.html], "shown": written.shown}))
    opened.quiet()
    opened.close()


def _tale(n: int, seed: int, unsafe: bool) -> str:
    words = " ".join(f"{(n * 7919 + seed * 104729 + k * 31) % 99991}" for k in range(60))
    key = "I know it." if unsafe else "Hmm, no."
    return f"The user asks for tale {n} of {seed}. {key} It wanders {words}.\n</think>\n\nSo."
