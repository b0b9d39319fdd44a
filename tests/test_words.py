"""Words that the product no longer uses, and what to write instead (docs/glossary.md)."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPOSITORY

# A pattern of whole words, in any case -> what to write instead.
RETIRED = {
    r"films?": "image, X-ray",
    r"keepers?": "supervisor",
    r"doorbells?|rings? the bell": "broker, notify",
    r"(in|into|out of) service": "active",
    r"gates?|gated": "promotion checks, passed, failed",
    r"seal(s|ed|ing)?": "freeze",
    r"nobody (ever )?took": "synthetic",
    r"(what )?(came|comes|becomes|became) of (it|them)": "result",
    r"arms?": "condition",
    r"novelty|novel": "out-of-distribution score",
    r"certificates?|certif(y|ies|ied)": "privacy check",
    r"asked for by": "started by",
    r"figures": "metrics, numbers",
    r"(puts?|putting) (it |one |a classifier |the classifier )?active": "activate",
    r"(goes|go|going|went) active": "is activated",
    r"a image": "an image",
    r"twins?": "near-duplicate",
    r"retire(s|d)?|retiring": "archive",
    r"whoever": "the person or caller, named",
    r"(goes|go|going|went) on": "continues, resumes",
    r"anew|all the same": "again, anyway",
    r"(grow|grows|grew|grown) out of": "is based on",
    r"(come|comes|came) of": "result of",
    r"mend(s|ed)?": "fix",
    r"by heart": "memorise",
    r"at hand": "available",
    r"of (its|their) own": "its own, separate",
    r"(is|are) worth": "describe the result",
    r"(tell|tells|told) (of|that|which|what|whether)": "report, notify, state",
    r"hang(s|ing)? (in|them|it)": "publish",
    r"(image|sample|set|error|fault|seed|file|minute|row)\(s\)": "counted() of ml.errors",
}
# (file, word): why the word may stand there. A file may be a folder.
ALLOWED = {
    ("tests/test_words.py", ""): "names the words",
    ("README.md", "figures"): "figures of a table",
    ("docs/generator-card.md", "film"): "generated from the card in the released file",
    ("docs/model-card.md", "film"): "part of the rule in the released graph",
    ("CHANGELOG.md", ""): "lists the names of 0.1.0",
    ("ml/legacy.py", ""): "reads the names of 0.1.0",
    ("app/migrations", ""): "migrations are history",
    ("tests/app/test_upgrade.py", ""): "upgrades a database of 0.1.0",
    ("ml/classifier/card.py", "novelty"): "the graphs of 0.1.0 carry this name",
    ("ml/gan/synthesis/folder.py", "certificates"): "a file of 0.1.0",
    ("app/screenings/stored_images.py", "film"): "stored keys never change",
    ("app/screenings/stored_images.py", "films"): "stored keys never change",
    ("tests/app/core/test_migrations.py", "novelty"): "a column of 0.1.0",
    ("tests/app/screenings/test_uploads.py", "film"): "the form field of 0.1.0",
    ("tests/ml/data/test_versioning.py", "films"): "a summary of 0.1.0",
    ("tests/ml/data/test_versioning.py", "certificates"): "a file of 0.1.0",
    ("tests/ml/test_legacy.py", ""): "reads the names of 0.1.0",
    ("ml/data/versioning.py", "film"): "the words of 0.1.0 are part of the hash",
    ("ml/data/versioning.py", "certificate"): "the words of 0.1.0 are part of the hash",
}
SUFFIXES = {".html", ".md", ".js", ".css", ".example", ".yml"}
FOLDERS = ("templates", "static", "docs", "app", "ml", "tests", "benchmarks", "scripts")
_PATTERN = re.compile(
    "|".join(rf"(?P<w{number}>\b(?:{words})\b)" for number, words in enumerate(RETIRED)),
    re.IGNORECASE,
)
_INSTEAD = list(RETIRED.values())


def test_retired_words_are_not_used() -> None:
    found = [line for path in _files() for line in _faults(path)]
    assert not found, f"{len(found)} retired words:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [("Drop a film here", "film"), ("x_film = 1", None), ("The bundle is SEALED.", "SEALED")],
)
def test_words_are_found_as_whole_words_in_any_case(text: str, word: str | None) -> None:
    match = _PATTERN.search(text)
    assert (match[0] if match else None) == word


def _files() -> Iterator[Path]:
    yield from (REPOSITORY / name for name in ("README.md", "CHANGELOG.md", ".env.example"))
    yield REPOSITORY / "docker-compose.yml"
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in SUFFIXES or path.suffix == ".py":
                yield path


def _faults(path: Path) -> Iterator[str]:
    name = path.relative_to(REPOSITORY).as_posix()
    for line, text in _texts(path):
        for match in _PATTERN.finditer(text):
            if not _is_allowed(name, match[0].lower()):
                at = line + text.count("\n", 0, match.start())
                instead = _INSTEAD[int((match.lastgroup or "w0")[1:])]
                yield f"{name}:{at}: {match[0]!r}: write {instead}"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """(first line, text) of what people read: of Python the strings and the comments."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, content
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        # From Python 3.12 on an f-string is several tokens.
        if tokenize.tok_name[token.type] in ("STRING", "COMMENT", "FSTRING_MIDDLE"):
            yield token.start[0], token.string


def _is_allowed(name: str, word: str) -> bool:
    return any(
        (name == where or name.startswith(f"{where}/")) and word.startswith(allowed)
        for where, allowed in ALLOWED
    )
