"""The audit log as its page shows it: filtered, with names instead of ids, as CSV."""

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from urllib.parse import urlencode

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from app.accounts.tables import Clinic
from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.days import start_of_day, within_days
from app.core.errors import InvalidForm
from app.core.pagination import Page, paginate
from ml.data.table_text import csv_line
from ml.texts import msg

PAGE_SIZE = 50
_ROWS_AT_ONCE = 500
# Kinds of actions: the first word of an action, and what people call it.
KINDS = {
    "screening": msg("Screenings"),
    "run": msg("Runs"),
    "data": msg("Data sets"),
    "model": msg("Models"),
    "image": msg("Gallery"),
    "schedule": msg("Schedules"),
    "user": msg("Users"),
    "key": "API keys",
    "clinic": msg("Clinics"),
    "storage": msg("Storage"),
}
# All but the many that every upload makes.
WITHOUT_SCREENINGS = "no-screenings"
# A SHA-256 or a UUID.
_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b|\b([0-9a-f]{8})-[0-9a-f-]{27}\b")
_CLINIC_ACTOR = "clinic:"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries of the audit log.

    Attributes:
        about: a whole actor, action or subject; empty for all.
        kind: a key of `KINDS`, `WITHOUT_SCREENINGS` or empty for all.
        since: the first day, UTC, as 2026-11-22; empty: from the beginning.
        until: the last day, UTC, included; empty: to the end.
    """

    about: str = ""
    kind: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, about: str, kind: str, since: str, until: str) -> Self:
        """The filter in an address.

        Raises:
            InvalidForm: a value is not one that the page knows.
        """
        faults = {}
        if kind not in ("", WITHOUT_SCREENINGS, *KINDS):
            faults["kind"] = msg("Choose a kind of the list.")
        for name, day in (("since", since), ("until", until)):
            try:
                start_of_day(day or "2000-01-01")
            except ValueError:
                faults[name] = msg("Enter a day as 2026-11-22.")
        if faults:
            raise InvalidForm(faults)
        return cls(about.replace("\0", "").strip(), kind, since, until)

    @property
    def query(self) -> str:
        """It as the query of an address; empty values are left out."""
        values = {
            "about": self.about,
            "kind": self.kind,
            "since": self.since,
            "until": self.until,
        }
        return urlencode({name: value for name, value in values.items() if value})

    def applied(self) -> Select[AuditEvent]:
        """The entries that fulfil it."""
        query = select(AuditEvent)
        if self.about:
            columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.subject)
            query = query.where(or_(*(column == self.about for column in columns)))
        if self.kind == WITHOUT_SCREENINGS:
            query = query.where(~AuditEvent.action.startswith("screening."))
        elif self.kind:
            query = query.where(AuditEvent.action.startswith(f"{self.kind}."))
        return query.where(*within_days(AuditEvent.at, self.since, self.until))


def audit_page(
    session: Session, chosen: AuditFilter, cursor: str | None, size: int = PAGE_SIZE
) -> Page[AuditEvent]:
    """One page of the audit log, newest first.

    Raises:
        NotFound: the cursor is not valid.
    """
    return paginate(session, chosen.applied(), (AuditEvent.at, AuditEvent.id), cursor, size)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the log.

    Attributes:
        actor_name: the actor, with the name of a clinic instead of its id.
        subject_name: the subject; a long id is cut to its first digits.
        detail: the details as one text, with long ids cut.
    """

    at: datetime
    actor: str
    actor_name: str
    action: str
    subject: str
    subject_name: str
    detail: str


def audit_entries(session: Session, events: Iterable[AuditEvent]) -> list[AuditEntry]:
    """Events with the names of what they refer to."""
    events = list(events)
    clinics = _clinic_names(session, {event.actor for event in events})
    return [
        AuditEntry(
            at=event.at,
            actor=event.actor,
            actor_name=clinics.get(event.actor, event.actor),
            action=event.action,
            subject=event.subject,
            subject_name=_cut(event.subject),
            detail=_cut(_detail_text(event)),
        )
        for event in events
    ]


def _clinic_names(session: Session, actors: Iterable[str]) -> dict[str, str]:
    ids = {}
    for actor in actors:
        try:
            ids[uuid.UUID(actor.removeprefix(_CLINIC_ACTOR))] = actor
        except ValueError:
            continue
    found = session.scalars(select(Clinic).where(Clinic.id.in_(ids))) if ids else ()
    return {ids[clinic.id]: f"clinic {clinic.name}" for clinic in found}


def _cut(text: str) -> str:
    return _LONG_ID.sub(lambda found: f"{found[1] or found[2]}…", text)


def _detail_text(event: AuditEvent) -> str:
    return ", ".join(f"{name}: {_value_text(value)}" for name, value in event.detail.items())


def _value_text(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def audit_csv(database: Database, chosen: AuditFilter) -> Iterator[str]:
    """The filtered log as CSV, newest first, with whole ids."""
    yield csv_line(("at", "actor", "action", "subject", "details"))
    cursor: str | None = None
    while True:
        with database.sessions() as session:
            found = audit_page(session, chosen, cursor, _ROWS_AT_ONCE)
        for event in found.rows:
            at = event.at.isoformat(timespec="seconds")
            texts = (event.actor, event.action, event.subject, _detail_text(event))
            yield csv_line((at, *texts))
        cursor = found.next_cursor
        if cursor is None:
            return
