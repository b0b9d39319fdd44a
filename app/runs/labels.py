"""What people call a run: its name, tags and notes."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.errors import InvalidForm
from app.runs.tables import Run
from ml.texts import msg

LONGEST_RUN_NAME = 100
LONGEST_TAGS = 300
LONGEST_NOTES = 10_000
_LONGEST_TAG = 30


def split_tags(text: str) -> list[str]:
    """The tags in a text with commas between, each once."""
    tags = (" ".join(tag.split()) for tag in text.split(","))
    return list(dict.fromkeys(tag for tag in tags if tag))


def joined_tags(tags: Iterable[str]) -> str:
    """Tags as a row stores them and a form shows them."""
    return ", ".join(tags)


def label_run(session: Session, run: Run, name: str, tags: str, notes: str, *, by: str) -> None:
    """Give a run a name, tags and notes; empty ones remove what was there.

    Raises:
        InvalidForm: a text is too long.
    """
    # PostgreSQL takes no NUL in a text.
    name, tags, notes = (text.replace("\0", "").strip() for text in (name, tags, notes))
    listed = split_tags(tags)
    faults = {}
    if len(name) > LONGEST_RUN_NAME:
        faults["name"] = msg(
            "Enter at most %(longest_run_name)s characters.", longest_run_name=LONGEST_RUN_NAME
        )
    if len(joined_tags(listed)) > LONGEST_TAGS or any(len(tag) > _LONGEST_TAG for tag in listed):
        faults["tags"] = msg(
            "Enter tags of at most %(longest_tag)s characters, %(longest_tags)s in all, "
            "with commas between.",
            longest_tag=_LONGEST_TAG,
            longest_tags=LONGEST_TAGS,
        )
    if len(notes) > LONGEST_NOTES:
        faults["notes"] = msg(
            "Enter at most %(longest_notes)s characters.", longest_notes=LONGEST_NOTES
        )
    if faults:
        raise InvalidForm(faults)
    run.name, run.tags, run.notes = name, joined_tags(listed), notes
    session.add(AuditEvent(actor=by, action="run.labelled", subject=str(run.id)))
