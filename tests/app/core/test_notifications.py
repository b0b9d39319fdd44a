"""Webhooks: signed, sent once, tried again, given up, and never sent of what did not happen."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from app.core.database import Database, now
from app.core.notifications import (
    RETRY_S,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Notification,
    notify,
    send_due,
    undelivered,
)
from app.settings import Settings
from tests.support.tiny_models import DATABASES, own_database, settings_for

SECRET = "0f3c9a7be2d1485692ab03fe7cd4e815"


@dataclass
class Receiver:
    """A server that keeps what it gets."""

    url: str = ""
    status: int = 204
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append((dict(self.headers), body))
            self.send_response(found.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with own_database(request.param, tmp_path) as url:
        opened = Database(url)
        yield opened
        opened.close()


def settings_of(tmp_path: Path, url: str) -> Settings:
    return settings_for("sqlite://", tmp_path, webhook_url=url, webhook_secret=SECRET)


def record(database: Database, settings: Settings, event: str = "run.failed") -> None:
    with database.session() as session:
        notify(session, settings, event, {"run_type": "train-gan"}, path="/admin/runs/1")


def test_notification_is_signed_and_sent_once(database: Database, tmp_path: Path) -> None:
    with receiver() as hook:
        settings = settings_of(tmp_path, hook.url)
        record(database, settings)
        assert send_due(database, settings) == 1
        assert send_due(database, settings) == 0
    ((headers, body),) = hook.received
    signed = headers[TIMESTAMP_HEADER].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE_HEADER] == f"sha256={expected}"
    sent = json.loads(body)
    assert (sent["event"], sent["detail"]) == ("run.failed", {"run_type": "train-gan"})
    assert sent["url"].endswith("/admin/runs/1")


@pytest.mark.parametrize("status", [500, 302])
def test_refused_notification_is_tried_again_and_then_given_up(
    database: Database, tmp_path: Path, status: int
) -> None:
    moment = now() + timedelta(seconds=1)
    with receiver() as hook:
        hook.status = status
        settings = settings_of(tmp_path, hook.url)
        record(database, settings)
        assert send_due(database, settings, at=moment) == 0
        # Not before its time.
        send_due(database, settings, at=moment + timedelta(seconds=RETRY_S[0] - 1))
        assert len(hook.received) == 1
        for wait in RETRY_S:
            moment += timedelta(seconds=wait)
            send_due(database, settings, at=moment)
        send_due(database, settings, at=moment + timedelta(days=1))
        assert len(hook.received) == len(RETRY_S) + 1
        with database.sessions() as session:
            (row,) = undelivered(session)
            assert (row.sent_at, row.next_attempt_at) == (None, None)
            assert str(status) in row.error


def test_receiver_that_is_back_gets_what_it_missed(database: Database, tmp_path: Path) -> None:
    with receiver() as hook:
        settings = settings_of(tmp_path, hook.url)
    record(database, settings)
    assert send_due(database, settings) == 0
    with receiver() as hook:
        settings = settings_of(tmp_path, hook.url)
        assert send_due(database, settings, at=now() + timedelta(seconds=RETRY_S[0] + 1)) == 1


def test_nothing_is_recorded_without_an_address_or_of_what_did_not_happen(
    database: Database, tmp_path: Path
) -> None:
    record(database, settings_for("sqlite://", tmp_path))
    settings = settings_of(tmp_path, "http://127.0.0.1:9/hook")
    with database.sessions() as session:
        notify(session, settings, "run.failed", {}, path="/")
        session.flush()
        session.rollback()
    with database.sessions() as session:
        assert session.scalars(select(Notification)).all() == []


def test_old_notifications_are_forgotten(database: Database, tmp_path: Path) -> None:
    with receiver() as hook:
        settings = settings_of(tmp_path, hook.url)
        record(database, settings)
        send_due(database, settings)
        send_due(database, settings, at=now() + timedelta(days=31))
    with database.sessions() as session:
        assert session.scalars(select(Notification)).all() == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"webhook_url": "https://a.example"}, "XRAY_WEBHOOK_SECRET"),
        ({"webhook_url": "ftp://a.example", "webhook_secret": SECRET}, "https:// or http://"),
    ],
)
def test_unsigned_or_odd_addresses_are_refused(
    tmp_path: Path, given: dict[str, str], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        settings_for("sqlite://", tmp_path, **given)
