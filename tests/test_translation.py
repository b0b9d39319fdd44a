"""Every sentence of the pages goes through the catalogues, and every catalogue has them all."""

import ast
import html.parser
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import read_po

from app.core.language import TRANSLATIONS
from app.runs.handlers.base import RunType
from app.runs.option_titles import DERIVED_TITLES
from app.runs.run_types import RUN_TYPES
from ml.option_fields import option_fields, option_title
from tests.support import REPOSITORY

# Templates that are translated. The rest is in English, whole pages at a time.
FOLDERS = (
    "accounts",
    "datasets",
    "gallery",
    "layout",
    "monitoring",
    "quiz",
    "registry",
    "runs",
    "screenings",
    "site",
    "validation",
)
_JINJA2 = {
    "keywords": DEFAULT_KEYWORDS,
    "options": {"newstyle_gettext": "true", "silent": "false", "trimmed": "true"},
}
CATALOGUES = sorted(TRANSLATIONS.glob("*.po"))
MessageId = str | tuple[str, ...]
PLACEHOLDER = re.compile(r"%\(\w+\)s")
# Names, units and symbols that are the same in every language.
SAME = re.compile(
    r"AUROC|API|CSV|Ctrl|DICOM|ECE|F1|FID|GPU|JSON|JSON lines|KID|MB|ONNX|p|n|PNG|px|ms|SHA-256"
    r"|SYNTHETIC|UTC|xray [\w -]+|/data/images"
)


def templates(folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """The templates that have to be translated."""
    root = REPOSITORY / "templates"
    found = (path for folder in folders for path in (root / folder).glob("*.html"))
    # The description of the API is in English, which programs speak.
    return sorted(path for path in found if path.name != "_openapi.html")


@cache
def sentences() -> frozenset[MessageId]:
    """What the templates and the code can show."""
    found: set[MessageId] = set()
    for path in templates():
        found.update(message for _, message, *_ in extract_from_file("jinja2", path, **_JINJA2))
    for folder in ("app", "ml"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            found.update(_sentences_of_code(path))
    return frozenset(found)


def _sentences_of_code(path: Path) -> Iterator[MessageId]:
    """As Babel finds them, which reads every token and takes several seconds."""
    source = path.read_text()
    if path.name == "texts.py" or not re.search(r"\b(msg|plural)\(", source):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            count = {"msg": 1, "plural": 2}.get(node.func.id, 0)
            found = tuple(one.value for one in node.args[:count] if isinstance(one, ast.Constant))
            assert len(found) == count, f"{path}:{node.lineno}: the sentence is no plain text"
            if count:
                yield found if count > 1 else found[0]


@cache
def catalogue(path: Path) -> Catalog:
    """A catalogue as translators write it."""
    with path.open("rb") as file:
        return read_po(file, locale=path.stem)


def translations(path: Path) -> dict[MessageId, Message]:
    """The entries of a catalogue; the empty id is that of its head."""
    return {message.id: message for message in catalogue(path) if message.id}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_catalogue_has_every_sentence_and_no_other(path: Path) -> None:
    entries = translations(path)
    missing = {one for one in sentences() if one not in entries or not _text(entries[one])}
    assert not missing, f"not translated; run make messages: {sorted(map(str, missing))}"
    obsolete = set(entries) - sentences()
    assert not obsolete, f"shown nowhere; run make messages: {sorted(map(str, obsolete))}"
    assert not catalogue(path).obsolete, "run make messages"
    fuzzy = [one for one, entry in entries.items() if entry.fuzzy]
    assert not fuzzy, f"to be looked at: {fuzzy}"


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_placeholders_and_elements_are_those_of_the_english_sentence(path: Path) -> None:
    wrong = [
        (sentence, text)
        for sentence, entry in translations(path).items()
        for text in _texts(entry)
        if _skeleton(text) not in [_skeleton(one) for one in _ids(sentence)]
    ]
    assert not wrong


def test_visible_text_of_templates_is_translated() -> None:
    found = [line for path in templates() for line in untranslated(path)]
    assert not found, "\n".join(found)
    # After that it would translate nothing.
    assert not [path.name for path in templates() if "set _ " in path.read_text()]


def test_untranslated_text_is_found(tmp_path: Path) -> None:
    template = tmp_path / "page.html"
    template.write_text(
        '{{ _("Good") }} {% trans name=user.name %}Hello {{ name }}{% endtrans %} 12 px\n'
        '<p title="Bad title">Bad text {{ value }}</p> {{ "Bad literal" if value else other }}'
        '{{ "{} bad ones".format(value) }}'
    )
    assert [line.rsplit(": ", 1)[1] for line in untranslated(template)] == [
        "Bad literal",
        "{} bad ones",
        "Bad title",
        "Bad text",
    ]


def test_texts_of_run_forms_are_translated() -> None:
    shown = {text for run_type in RUN_TYPES.values() for text in _texts_of_form(run_type)}
    assert not shown - sentences()
    assert not set(DERIVED_TITLES) - shown


def _texts_of_form(run_type: RunType) -> Iterator[str]:
    yield from (run_type.title, run_type.summary)
    for field in option_fields(run_type.Options):
        if not field.is_hidden:
            yield from (field.title, field.help)
    for wanted in run_type.inputs:
        yield from (option_title(wanted.name), wanted.help, wanted.none)


def _ids(id: MessageId) -> tuple[str, ...]:
    return (id,) if isinstance(id, str) else id


def _texts(entry: Message) -> tuple[str, ...]:
    return (entry.string,) if isinstance(entry.string, str) else tuple(entry.string)


def _text(entry: Message) -> bool:
    return all(_texts(entry))


def _skeleton(text: str) -> tuple[Counter[str], Counter[str], int, int]:
    """What a translation must keep: placeholders, elements, and signs that end an attribute."""
    elements = Counter(re.findall(r"<[^>]+>", text))
    return Counter(PLACEHOLDER.findall(text)), elements, text.count("%%"), _quotes(text)


def _quotes(text: str) -> int:
    return re.sub(r"<[^>]+>", "", text).count('"')


# --- text outside of translations ---------------------------------------------------------------

_JINJA = re.compile(
    r"\{%-?\s*trans\b.*?endtrans\s*-?%\}|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL
)
_LITERAL = re.compile(
    r"""(?<!_\()(?<!== )(["'])((?:[A-Z][a-z]+|[a-z]+ |[\d{][^"'<>=]* [a-z]+)[^"'{}<>=]*)\1"""
)
_SHOWN_ATTRIBUTES = {"title", "aria-label", "placeholder", "alt", "aria-valuetext"} | {
    # For scripts.
    *("data-none", "data-one", "data-many", "data-done", "data-failed", "data-position"),
}


def untranslated(path: Path) -> list[str]:
    """Text that a template shows and does not translate, with its file and line."""
    source = path.read_text()
    found = []

    def without(match: re.Match[str]) -> str:
        code = match.group()
        line = source.count("\n", 0, match.start()) + 1
        code = re.sub(r"ngettext\(.*?, \w+\)", "", code)
        if not re.match(r"\{%-?\s*(trans|extends|from|include|import|block|macro)\b|\{#", code):
            found.extend(f"{path.name}:{line}: {text}" for _, text in _LITERAL.findall(code))
        return "\n" * match.group().count("\n")

    reader = _TextReader()
    classes = r"\{% block main_class %\}.*?\{% endblock %\}"
    reader.feed(_JINJA.sub(without, re.sub(classes, "", source)))
    found += [f"{path.name}:{line}: {text}" for line, text in reader.found]
    return found


class _TextReader(html.parser.HTMLParser):
    """Collects what people read of a page, or hear of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._english = 0
        self._open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in _SHOWN_ATTRIBUTES and value:
                self._look_at(value)
        if tag == "pre":
            self._english += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._english -= 1

    def handle_data(self, data: str) -> None:
        self._look_at(data)

    def _look_at(self, text: str) -> None:
        # A macro may give attributes alone.
        text = " ".join(re.sub(r'[\w-]+="[^"]*"', "", text).split())
        if not self._english and re.search(r"[A-Za-z]{2}", SAME.sub("", text)):
            self.found.append((self.getpos()[0], text))
