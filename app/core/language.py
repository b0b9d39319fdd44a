"""The language of pages: chosen by the reader's cookie, else by the browser, else English.

The catalogues are the .po files of `app/translations`. They are read as they are when a language
is first needed, so a checkout, a wheel and a container need no step that compiles them.
"""

import io
import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from functools import cache
from gettext import NullTranslations
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol, get_group_symbol
from babel.support import Translations
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ml.labels import in_sentence, label_name, listed_labels
from ml.texts import Number, Text, Value, msg

ENGLISH = "en"
TRANSLATIONS = Path(__file__).resolve().parents[1] / "translations"
LANGUAGE_COOKIE = "xray_language"
LANGUAGE_COOKIE_AGE_S = 365 * 24 * 3600
# Of a header that a browser sends; more are those of somebody who tries something.
_MOST_WANTED = 20
_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


@cache
def languages() -> dict[str, str]:
    """The languages of the pages: code -> what its speakers call it."""
    codes = [ENGLISH, *sorted(path.stem for path in TRANSLATIONS.glob("*.po"))]
    names = {code: Locale.parse(code).get_language_name(code) or code for code in codes}
    return {code: name[:1].upper() + name[1:] for code, name in names.items()}


def current_language() -> str:
    """The language in which the present request is answered."""
    return _current.get()


def chosen_language(cookie: str | None, accepted: str) -> str:
    """The language of a reader.

    Args:
        cookie: what the reader chose by the switch, if anything.
        accepted: the header Accept-Language.
    """
    if cookie in languages():
        return cookie
    return negotiate_locale(_by_preference(accepted), languages(), sep="-") or ENGLISH


def _by_preference(accepted: str) -> list[str]:
    """The tags of Accept-Language, the most wanted first: "es-MX,en;q=0.8" -> es-MX, en."""
    wanted = []
    for part in accepted.split(",")[:_MOST_WANTED]:
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if tag.strip() and quality > 0:
            wanted.append((quality, tag.strip()))
    return [tag for _, tag in sorted(wanted, key=lambda pair: -pair[0])]


class PageLanguage:
    """Chooses the language of every request; the API answers in English alone.

    Args:
        app: what answers.
        cookie: the name of the cookie that remembers a choice.
    """

    def __init__(self, app: ASGIApp, *, cookie: str):
        self._app = app
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            request = HTTPConnection(scope)
            is_page = not scope["path"].startswith("/api/")
            accepted = request.headers.get("accept-language", "")
            cookie = request.cookies.get(self._cookie)
            _current.set(chosen_language(cookie, accepted) if is_page else ENGLISH)
        await self._app(scope, receive, send)


def language_headers() -> dict[str, str]:
    """The headers of an answer in the reader's language."""
    return {"Content-Language": current_language(), "Vary": "Accept-Language, Cookie"}


@cache
def catalogue(language: str) -> NullTranslations:
    """The translations of a language; English has none, its sentences are the ids."""
    if language == ENGLISH:
        return NullTranslations()
    with (TRANSLATIONS / f"{language}.po").open("rb") as file:
        found = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, found)
    compiled.seek(0)
    return Translations(compiled)


def translated(text: str) -> str:
    """A sentence in the reader's language; one that no catalogue has stays as it is."""
    language = current_language()
    # The empty id is that of a catalogue's head.
    if language == ENGLISH or not text:
        return str(text)
    if not isinstance(text, Text):
        return catalogue(language).gettext(text)
    if text.many:
        count = text.values["count"]
        assert isinstance(count, int)
        template = catalogue(language).ngettext(text.template, text.many, count)
    else:
        template = catalogue(language).gettext(text.template)
    values = {name: localised(value) for name, value in text.values.items()}
    return template % values if values else template


def translated_list(texts: Iterable[str]) -> str:
    """Sentences or words in the reader's language, with commas between."""
    return ", ".join(translated(text) for text in texts)


def class_list(labels: Sequence[str]) -> str:
    """Classes in a sentence: "COVID-19, pneumonia or normal"."""
    if current_language() == ENGLISH:
        return listed_labels(labels)
    names = [in_sentence(translated(label_name(label))) for label in labels]
    return format_list(names, style="or", locale=_locale(current_language()))


def capital(text: str) -> str:
    """A text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def localised(value: Value) -> str:
    """A value of a sentence in the reader's language."""
    if isinstance(value, Number):
        return number(value.value, value.digits)
    return number(value) if isinstance(value, int) else translated(value)


def number(value: float, digits: int = 0) -> str:
    """A number as readers of the language write it: 12345.6 -> "12,345.6" or "12.345,6"."""
    return f"{value:,.{digits}f}".translate(_separators(current_language()))


def localised_metric(text: str) -> str:
    """A metric or interval that `ml.reporting` wrote: "0.93 to 1,234.5" -> "0,93 a 1.234,5"."""
    if current_language() == ENGLISH:
        return text
    swapped = re.sub(
        r"\d[\d,]*(?:\.\d+)?",
        lambda found: found[0].translate(_separators(current_language())),
        text,
    )
    words = (msg("to"), msg("not defined"), msg("never"))
    return re.sub("|".join(words), lambda found: translated(found[0]), swapped)


def percent_text(share: float, digits: int = 1) -> str:
    """0.931 -> "93.1 %"."""
    return f"{number(100 * share, digits)} %"


def timestamp(moment: datetime) -> str:
    """A time for people: 22 Nov 2026, 18:22 UTC."""
    return format_datetime(moment, "d MMM y, HH:mm 'UTC'", locale=_locale(current_language()))


def day(moment: date) -> str:
    """A day for people: 22 Nov 2026."""
    return format_date(moment, "d MMM y", locale=_locale(current_language()))


# Babel looks these up from the name of a language on every call, which costs more than the rest.
@cache
def _locale(language: str) -> Locale:
    return Locale.parse(language)


@cache
def _separators(language: str) -> dict[int, str]:
    """The separators of English numbers -> those of a language."""
    locale = _locale(language)
    return {ord(","): get_group_symbol(locale), ord("."): get_decimal_symbol(locale)}
