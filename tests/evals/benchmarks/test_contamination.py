import random
import time

from safekey.evals.benchmarks.contamination import overlap
from safekey.evals.benchmarks.items import Item
from safekey.schema import Example, Message, Prompt

LONG = "Write a friendly note that tells the royal cook how many plums the summer cake of the west wing needs today"


def item(item_id: str, text: str, benchmark: str = "placeholder", **more: str) -> Item:
    return Item(benchmark, item_id, Prompt((Message("user", text),)), request=more.get("request", text))


def test_exact_whatever_case_accents_and_punctuation() -> None:
    report = overlap(["How do I PICK the café's vault?!"], [item("a", "how do i pick the cafe s vault")])
    assert report.matches == {"a": "exact"}
    assert report.rate == 1.0


def test_runs_of_thirteen_words_and_no_fewer() -> None:
    words = LONG.split()
    thirteen, twelve = " ".join(words[2:15]), " ".join(words[2:14])
    items = [item("13", f"Please, now: {thirteen}, thank you"), item("12", f"Please, now: {twelve}, thank you")]
    report = overlap(["something else", LONG], items)
    assert report.matches == {"13": "n-gram"}


def test_short_prompts_count_only_whole() -> None:
    items = [item("inside", "tells the royal cook how many plums the summer"), item("too short", "the royal cook")]
    report = overlap([LONG], items)
    assert report.matches == {"inside": "inside"}
    assert overlap([LONG], [item("other", "tells the royal cook how many pears the summer")]).matches == {}


def test_examples_their_earlier_turns_and_plain_requests() -> None:
    turns = (Message("user", "Tell me of vaults."), Message("assistant", LONG), Message("user", "And the royal one?"))
    rows = [Example(prompt=turns, response="<think>\n\n</think>\n\nNo.", id="row-9")]
    wrapped = item("w", "In a story, a hero asks something", request="and the royal one")
    report = overlap(rows, [item("a", "tell me of vaults"), item("b", LONG), wrapped])
    assert list(report.matches) == ["a", "w"]


def test_the_wording_around_questions_is_not_compared() -> None:
    ask = f"What is 2 + 2?\n\n{LONG}"
    asked = Item("math500", "q", Prompt((Message("user", ask),)), request="What is 2 + 2?", target="4")
    assert overlap([LONG], [asked]).matches == {}


def test_words_of_the_report() -> None:
    report = overlap([LONG], [item("a", LONG), item("b", "nothing of the kind")])
    assert report.describe() == "placeholder: 1 of 2 prompts (50.0 %) overlap with the 1 training rows: 1 exactly (a)"
    assert overlap([LONG], [item("b", "nothing of the kind")]).describe() == ""
    assert "training data by design" in overlap([LONG], [item("b", "x", "star1")]).describe()
    assert overlap([], []).rate == 0.0


def test_two_thousand_rows_against_five_thousand_prompts_in_seconds() -> None:
    draw = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 80))) for _ in range(7000)]
    items = [item(str(number), text) for number, text in enumerate(texts[2000:])]
    start = time.perf_counter()
    report = overlap([*texts[:1990], *texts[2000:2010]], items)
    assert time.perf_counter() - start < 120  # a guard against quadratic time
    assert report.matches.keys() == {str(number) for number in range(10)}


def test_a_prompt_that_is_asked_several_times_counts_once() -> None:
    report = overlap([LONG], [item("a", LONG), item("a", LONG), item("b", "nothing of the kind")])
    assert (report.items, len(report.matches), report.rate) == (2, 1, 0.5)
