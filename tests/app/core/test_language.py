"""The language of a request, and what it changes in sentences, numbers and times."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from app.core import language
from app.core.language import (
    catalogue,
    chosen_language,
    class_list,
    number,
    percent_text,
    timestamp,
    translated,
)
from ml.texts import Number, Text, msg, plural


@pytest.fixture
def spanish() -> Iterator[None]:
    """A request that is answered in Spanish."""
    before = language._current.set("es")
    yield
    language._current.reset(before)


@pytest.mark.parametrize(
    ("cookie", "accepted", "expected"),
    [
        (None, "", "en"),
        (None, "es-MX,es;q=0.9,en;q=0.8", "es"),
        (None, "fr, es;q=0.1", "es"),
        (None, "en;q=0.2, es;q=0.7", "es"),
        (None, "es;q=0, de", "en"),
        (None, "es;q=many, ,;", "en"),
        (None, "fr" + ",fr" * 50 + ",es", "en"),
        ("es", "en", "es"),
        ("xx", "es", "es"),
        ("../es", "de", "en"),
    ],
)
def test_language_is_the_cookie_s_then_the_browser_s(
    cookie: str | None, accepted: str, expected: str
) -> None:
    assert chosen_language(cookie, accepted) == expected


def test_english_needs_no_catalogue() -> None:
    text = msg("%(share)s %% of %(count)s images", share=Number(12.345, 1), count=1234)
    assert text == translated(text) == "12.3 % of 1,234 images"
    assert [plural("one image", "%(count)s images", count) for count in (1, 2)] == [
        "one image",
        "2 images",
    ]
    assert percent_text(0.931) == "93.1 %"
    assert class_list(["covid", "pneumonia", "normal"]) == "COVID-19, pneumonia or normal"


@pytest.mark.usefixtures("spanish")
def test_spanish_sentences_have_spanish_values() -> None:
    assert translated("Pneumonia") == translated(msg("Pneumonia")) == "Neumonía"
    # Values that can be translated are.
    text = msg("By %(by)s, %(when)s.", by=msg("Uncertain"), when=Number(1234.5, 1))
    assert translated(text) == "Por No concluyente, 1.234,5."
    assert translated("a sentence that no catalogue has") == "a sentence that no catalogue has"
    assert translated("") == ""
    assert number(1_234_567.891, 2) == "1.234.567,89"
    assert timestamp(datetime(2026, 1, 2, 3, 4, tzinfo=UTC)) == "2 ene 2026, 03:04 UTC"
    assert class_list(["covid", "pneumonia", "normal"]) == "COVID-19, neumonía o normal"


def test_catalogue_is_read_once() -> None:
    assert catalogue("es") is catalogue("es")


@pytest.mark.parametrize("template", ["%(a)1000000000s", "%(b)s", "%d", "100 % %(a)s"])
def test_sentence_of_a_stranger_has_plain_placeholders(template: str) -> None:
    with pytest.raises(ValueError, match="placeholder"):
        Text.read(template, {"a": "x"})


def test_sentence_survives_another_process() -> None:
    text = msg("%(share)s %% of %(name)s", share=Number(5), name="it")
    assert isinstance(text, Text)
    assert Text.read(text.template, {"share": "5", "name": "it"}) == text == "5 % of it"
