"""Notifications by signed webhook and by e-mail: recorded with the event, sent with retries.

An event is one row for each channel, added in the transaction of what it is about, so none is lost
and none is sent of what did not happen. A server sends the rows in the background; of several
servers one sends each, and a receiver that is down gets it later. Bodies hold no personal data.
"""

import hashlib
import hmac
import json
import logging
import urllib.request
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any

from pydantic import JsonValue
from sqlalchemy import JSON, String, Text, Uuid, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.database import Base, Database, UtcDateTime, affected_rows, enum_values, now
from app.core.email import message_of, send_email
from app.notification_settings import Channel
from app.settings import Settings
from ml.json_model import JsonObject

logger = logging.getLogger(__name__)
SIGNATURE_HEADER = "X-Xray-Signature"
TIMESTAMP_HEADER = "X-Xray-Timestamp"
# Seconds until the next attempt; after the last one the notification is given up.
RETRY_S = (10, 60, 600, 3600, 6 * 3600)
# A server that dies while it sends frees the row after this time.
_CLAIM_S = 60
_TIMEOUT_S = 10.0
_KEPT = timedelta(days=30)


class Notification(Base):
    """An event to be sent, and what happened to it."""

    __tablename__ = "notification"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    event: Mapped[str] = mapped_column(String(50))
    channel: Mapped[Channel] = mapped_column(enum_values(Channel), default=Channel.WEBHOOK)
    body: Mapped[JsonObject] = mapped_column(JSON)
    attempts: Mapped[int] = mapped_column(default=0)
    # None: sent, or given up.
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=now, index=True)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str] = mapped_column(Text, default="")  # of the last attempt


def notify(
    session: Session, settings: Settings, event: str, detail: Mapping[str, JsonValue], *, path: str
) -> None:
    """Record an event for the channels that are configured; does nothing where none is.

    Args:
        session: in which the event itself is recorded; both are committed together.
        settings: of the application.
        event: what happened, such as `run.failed`.
        detail: about it, without personal data: receivers may store it anywhere.
        path: of the page that shows it.
    """
    for channel in settings.channels_of(event):
        made = Notification(id=uuid.uuid4(), created_at=now(), event=event, channel=channel)
        made.body = body_of(made.id, event, made.created_at, settings.public_address, path, detail)
        session.add(made)


def body_of(
    id: uuid.UUID,
    event: str,
    at: datetime,
    address: str,
    path: str,
    detail: Mapping[str, JsonValue],
) -> JsonObject:
    """What is sent of an event."""
    return {
        "id": str(id),
        "event": event,
        "at": at.isoformat(timespec="seconds"),
        "url": address + path,
        "detail": dict(detail),
    }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the signature header: HMAC-SHA-256 over the timestamp, a dot and the body."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def send_due(database: Database, settings: Settings, *, at: datetime | None = None) -> int:
    """Send the notifications whose time has come, oldest first; forget old ones.

    Args:
        database: where they are recorded.
        settings: with the webhook and the mail server.
        at: the time that counts as now.

    Returns:
        How many were received.
    """
    at = at or now()
    if not settings.channels:
        return 0
    with database.session() as session:
        session.execute(
            delete(Notification).where(
                Notification.created_at < at - _KEPT, Notification.next_attempt_at.is_(None)
            )
        )
        due = select(Notification.id).where(
            Notification.next_attempt_at <= at, Notification.channel.in_(settings.channels)
        )
        ids = list(session.scalars(due.order_by(Notification.created_at).limit(100)))
    return sum(_send_one(database, settings, one, at) for one in ids)


def _send_one(database: Database, settings: Settings, id: uuid.UUID, at: datetime) -> bool:
    with database.session() as session:
        # Of several servers the one that moves the time sends it.
        claim = update(Notification).where(
            Notification.id == id, Notification.next_attempt_at <= at
        )
        until = at + timedelta(seconds=_CLAIM_S)
        if not affected_rows(session, claim.values(next_attempt_at=until)):
            return False
        claimed = session.get_one(Notification, id)
    fault = deliver(settings, claimed.channel, claimed.body, at)
    with database.session() as session:
        row = session.get_one(Notification, id)
        row.attempts, row.error = row.attempts + 1, fault
        if not fault:
            row.sent_at, row.next_attempt_at = at, None
            return True
        is_last = row.attempts > len(RETRY_S)
        wait = None if is_last else timedelta(seconds=RETRY_S[row.attempts - 1])
        row.next_attempt_at = None if wait is None else at + wait
        text = "given up" if is_last else "tried again later"
        logger.warning("the %s did not take %s: %s; %s", row.channel, row.event, fault, text)
    return False


def deliver(settings: Settings, channel: Channel, body: JsonObject, at: datetime) -> str:
    """Send what is known of an event; why it was not received, empty where it was."""
    if channel is Channel.EMAIL:
        return send_email(settings, message_of(body, settings))
    return _post(settings, json.dumps(body, sort_keys=True).encode(), at)


def _post(settings: Settings, body: bytes, at: datetime) -> str:
    """Send one body; why it was not received, empty where it was."""
    timestamp = str(int(at.timestamp()))
    request = urllib.request.Request(  # noqa: S310 the settings allow http and https alone
        settings.webhook_url,
        data=body,
        headers={
            "Content-Type": "application/json",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(
                settings.webhook_secret.get_secret_value(), timestamp, body
            ),
        },
    )
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S):
            return ""
    except (OSError, HTTPException, ValueError) as problem:
        return f"{type(problem).__name__}: {problem}"[:500]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed body goes to the configured address alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse: the answer with the redirect becomes an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def undelivered(session: Session) -> list[Notification]:
    """Notifications that failed at least once and were not received, newest first; at most 20."""
    failed = select(Notification).where(Notification.sent_at.is_(None), Notification.attempts > 0)
    return list(session.scalars(failed.order_by(Notification.created_at.desc()).limit(20)))
