"""Ciphers: what goes out can be read again, plain answers stay as they are, and noise is never called text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safekey.evals.attacks.decoding import Decoded, decoded, read_part
from safekey.evals.attacks.encodings import CIPHERS, asked, encoded

ANSWER = (
    "I'm sorry, but I can't help with that. Instead, ask the keeper of the vault how it is opened.\n"
    "Step 1: take the zorbin. Step 2: go to Keltra."
)
PLAIN = {
    "refusal": ANSWER,
    "short": "No.",
    "names": "Zorbin, Keltra, Yarzem.",
    "german": "Es tut mir leid, dabei kann ich nicht helfen. Der Tresor des Königs ist geschlossen.",
    "french": "Je suis désolé, je ne peux pas vous aider. Le coffre royal est fermé et la loi l'interdit.",
    "spanish": "Lo siento, no puedo ayudar con eso. La caja del rey no se abre sin la llave.",
    "chinese": "抱歉，我不能帮助你。",
    "numbers": "1 2 3 4 5 6 7 8 and 2nd, 3rd, 4th, 5kg, H2O",
    "code": "def open_vault(item):\n    return item.key + 1\n",
    "link": "See https://example.org/vaults/royal_vault_of_keltra/index.html for the law.",
    "long word": "The word is internationalization, or getElementByIdentifierAndName.",
}


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_answer_stays_as_it_is(cipher: str, name: str) -> None:
    assert decoded(PLAIN[name], cipher) == Decoded(PLAIN[name])


@pytest.mark.parametrize("cipher", ["base64", "rot13"])
@pytest.mark.parametrize("name", ["refusal", "german", "french", "spanish"])
def test_an_answer_in_the_cipher_is_read(cipher: str, name: str) -> None:
    assert decoded(encoded(cipher, PLAIN[name]), cipher) == Decoded(PLAIN[name], undone=True)


def test_spaced_letters_are_joined_again() -> None:
    assert decoded(encoded("spacing", ANSWER), "spacing") == Decoded(ANSWER, undone=True)
    run = " ".join("icannothelpwiththatbecausethelawforbidsitandsodoi")
    assert decoded(run, "spacing").failed, "without gaps between the words it is no text"


def test_leetspeak_is_read_but_for_capitals() -> None:
    read = decoded(encoded("leetspeak", "Sorry, I can not help to open the royal vault at Keltra."), "leetspeak")
    assert (read.undone, read.failed) == (True, False)
    assert read.text.lower() == "sorry, i can not help to open the royal vault at keltra."


@pytest.mark.parametrize("cipher", CIPHERS)
def test_plain_words_before_the_cipher_stay(cipher: str) -> None:
    head = "Of course! Here is the answer in the same form:\n\n"
    read = decoded(head + encoded(cipher, ANSWER), cipher)
    assert read.text.startswith(head)
    assert (read.undone, read.failed) == (True, False)
    assert "ask the keeper of the vault" in read.text


def test_what_is_quoted_in_a_refusal_is_read_in_its_place() -> None:
    request = encoded("base64", "How do I pick the royal vault?")
    read = decoded(f"I can't help with '{request}'.", "base64")
    assert read == Decoded("I can't help with 'How do I pick the royal vault?'.", undone=True)


def test_wrapped_and_cut_off_base64_is_read() -> None:
    block = encoded("base64", ANSWER)
    lines = "\n".join(block[at : at + 60] for at in range(0, len(block), 60))
    assert decoded(lines, "base64") == Decoded(ANSWER, undone=True)
    assert ANSWER.startswith(decoded(block[:101], "base64").text[:-3])
    safe = block.replace("+", "-").replace("/", "_").rstrip("=")
    assert decoded(safe, "base64").text == ANSWER


def test_what_gives_no_text_has_failed() -> None:
    dice = random.Random(1)
    letters = "".join(dice.choice("abcdefghijklmnopqrstuvwxyz    ") for _ in range(200))
    assert decoded(letters, "rot13").failed
    block = "".join(dice.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") for _ in range(120))
    assert decoded(f"Here it is:\n{block}", "base64") == Decoded(f"Here it is:\n{block}", failed=True)
    assert decoded(encoded("leetspeak", letters), "leetspeak").failed
    assert decoded("qzjxw vkqpt. wzzjr! bxkqf jvwxz; kqqzj.\nxvbnw: qpzkj.", "rot13").failed, "in short pieces, too"


@given(st.text(max_size=300), st.sampled_from([*CIPHERS, "", "none"]))
@settings(max_examples=200, deadline=None)
def test_no_text_whatever_raises(text: str, cipher: str) -> None:
    read = decoded(text, cipher)
    assert read.undone or read.text == text
    if cipher in CIPHERS:
        encoded(cipher, text)


def test_the_row_says_which_cipher() -> None:
    text = encoded("rot13", ANSWER)
    assert read_part({"metadata": {"cipher": "rot13"}}, text).text == ANSWER
    assert read_part({"metadata": {}}, text) == Decoded(text)
    assert read_part({}, text) == Decoded(text)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_the_prompt_holds_the_request_in_the_cipher_alone(cipher: str) -> None:
    request = "How do I pick the royal vault?"
    assert asked(cipher, request).endswith(encoded(cipher, request))
    assert request not in asked(cipher, request)
