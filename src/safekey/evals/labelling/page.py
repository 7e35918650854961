"""Render the pages of the labelling server: texts by models are never markup, and nothing is loaded."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from safekey.evals.labelling.session import Session
from safekey.evals.labelling.wording import TOLD, plain

TITLE = "safekey: label answers"


def start_page(nonce: str, session: Session, home: str) -> str:
    """Return the first page: what is asked, and a link to the answers."""
    return _render("start", nonce, session=session, progress=session.progress(), home=home, told=TOLD)


def answer_page(nonce: str, session: Session, home: str, place: int, last: int | None) -> str:
    """Return the page of one answer.

    Args:
        nonce: of the page's style and script.
        session: the rater's.
        home: the path of the pages, with slashes around it.
        place: the answer's.
        last: the place that was labelled last, for the line that says so; None: none.
    """
    been, label = session.said(place)
    return _render(
        "answer", nonce, session=session, progress=session.progress(), home=home, place=place,
        answer=session.answer(place), been=been, label=label, back=session.before(place), last=last,
        last_said=session.in_words(session.said(last)[1]) if last else "",
    )  # fmt: skip


def done_page(nonce: str, session: Session, home: str, agreement: list[str]) -> str:
    """Return the page behind the last answer, with the agreement with other raters."""
    return _render(
        "done", nonce, session=session, progress=session.progress(), home=home, back=session.before(),
        skipped=session.skipped(), agreement=agreement,
    )  # fmt: skip


def problem_page(nonce: str, said: str) -> str:
    """Return a page that says one thing."""
    return _render("problem", nonce, said=said)


def _render(kind: str, nonce: str, **values: Any) -> str:
    css, js = Markup(_asset("page.css")), Markup(_asset("page.js"))  # noqa: S704 - files of this package
    return _template().render(kind=kind, nonce=nonce, title=TITLE, css=css, js=js, **values)


@cache
def _asset(name: str) -> str:
    return resources.files("safekey.evals.labelling").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.j2"))


def _finalize(value: object) -> object:
    """Spell out control characters in every value but the page's own style and script."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
