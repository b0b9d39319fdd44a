"""E-mails about events, to a mail server on this machine."""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli import xray
from app.core.database import Database, now
from app.core.email import message_of
from app.core.notifications import RETRY_S, notify, send_due, undelivered
from app.migrations import upgrade
from app.settings import Settings
from tests.support.mail_server import PASSWORD, USER, mail_server, make_identity
from tests.support.tiny_models import settings_for

SECRET = "0f3c9a7be2d1485692ab03fe7cd4e815"
ADDRESSES = {"smtp_from": "xray@clinic.example", "smtp_to": ["one@x.example", "two@x.example"]}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_identity(tmp_path_factory.mktemp("mail") / "identity.pem")


@pytest.fixture
def database(tmp_path: Path) -> Any:
    opened = Database(f"sqlite:///{tmp_path / 'xray.db'}")
    upgrade(opened.engine)
    yield opened
    opened.close()


def settings_of(tmp_path: Path, port: int, **changed: Any) -> Settings:
    given = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none"}
    return settings_for("sqlite://", tmp_path, **(given | ADDRESSES | changed))


def record(database: Database, settings: Settings, event: str = "run.failed") -> None:
    detail = {"run": "1", "run_type": "train-gan"}
    with database.session() as session:
        notify(session, settings, event, detail, path="/admin/runs/1")


def test_event_is_sent_once_to_all_recipients(database: Database, tmp_path: Path) -> None:
    with mail_server() as server:
        settings = settings_of(tmp_path, server.port, public_url="https://xray.example/")
        record(database, settings)
        assert [send_due(database, settings) for _ in range(2)] == [1, 0]
    ((recipients, message),) = server.received
    assert recipients == ADDRESSES["smtp_to"]
    assert message["Subject"] == "[Xray Screening] Run failed: train-gan"
    assert message["From"] == "xray@clinic.example"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "https://xray.example/admin/runs/1" in message.get_content()  # type: ignore[attr-defined]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_connection_is_encrypted_and_signed_in(
    tmp_path: Path, identity: Path, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(identity))
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    with mail_server(identity, tls=security == "tls") as server:
        for name, value in {
            "XRAY_HOME": str(tmp_path),
            "XRAY_SMTP_HOST": "127.0.0.1",
            "XRAY_SMTP_PORT": str(server.port),
            "XRAY_SMTP_SECURITY": security,
            "XRAY_SMTP_USER": USER,
            "XRAY_SMTP_PASSWORD_FILE": str(password),
            "XRAY_SMTP_FROM": "xray@clinic.example",
            "XRAY_SMTP_TO": '["one@x.example"]',
        }.items():
            monkeypatch.setenv(name, value)
        sent = CliRunner().invoke(xray, ["notification", "test"])
        assert (sent.exit_code, sent.output.splitlines()[-1]) == (0, "email: received")
        password.write_text("wrong")
        refused = CliRunner().invoke(xray, ["notification", "test"])
        assert refused.exit_code == 1
        assert re.search(r"^email: SMTP\w+", refused.output, re.MULTILINE)
        assert "wrong" not in refused.output
    assert len(server.received) == 1


def test_unknown_identity_is_not_trusted(tmp_path: Path, identity: Path) -> None:
    with mail_server(identity) as server:
        settings = settings_of(tmp_path, server.port, smtp_security="starttls")
        database = Database(f"sqlite:///{tmp_path / 'xray.db'}")
        upgrade(database.engine)
        record(database, settings)
        assert send_due(database, settings) == 0
        with database.sessions() as session:
            (row,) = undelivered(session)
        database.close()
    assert "SSLCertVerificationError" in row.error
    assert server.received == []


def test_message_is_tried_again_and_nothing_secret_is_logged(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "app")
    moment = now() + timedelta(seconds=1)
    with mail_server() as server:
        server.answer = "451 busy, one@x.example"
        settings = settings_of(tmp_path, server.port, smtp_password="hush hush")
        record(database, settings)
        assert send_due(database, settings, at=moment) == 0
        server.answer = "250 OK"
        server.refused = {"two@x.example"}
        moment += timedelta(seconds=RETRY_S[0])
        assert send_due(database, settings, at=moment) == 1
    assert [to for to, _ in server.received] == [["one@x.example"]]
    logged = " ".join(each.getMessage() for each in caplog.records if each.name[:4] == "app.")
    assert "answered 451" in logged
    assert "x.example" not in logged
    assert "hush" not in logged


def test_only_chosen_events_are_sent_and_each_channel_for_itself(
    database: Database, tmp_path: Path
) -> None:
    with mail_server() as server:
        hook = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_secret": SECRET}
        settings = settings_of(tmp_path, server.port, smtp_events=["run.failed"], **hook)
        record(database, settings, "run.succeeded")
        record(database, settings, "run.failed")
        # The webhook is down, and the e-mail is received anyway.
        assert send_due(database, settings) == 1
    assert len(server.received) == 1
    with database.sessions() as session:
        assert {row.channel.value for row in undelivered(session)} == {"webhook"}


def test_nothing_in_an_event_adds_a_header(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, 25)
    message = message_of(
        {
            "id": "1\r\nBcc: them@x.example",
            "event": "run.failed\nBcc: them@x.example",
            "at": now().isoformat(),
            "url": "/admin\r\n\r\nx",
            "detail": {"run_type": "train\r\nBcc: them@x.example\0", "": "\r\nCc: y"},
        },
        settings,
    )
    heads = bytes(message).partition(b"\r\n\r\n")[0]
    names = {line.partition(b":")[0] for line in heads.replace(b"\r\n ", b" ").split(b"\r\n")}
    assert not names & {b"Bcc", b"Cc"}
    assert message["To"] == "one@x.example, two@x.example"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"smtp_from": ""}, "XRAY_SMTP_FROM"),
        ({"smtp_from": "a@b\nBcc: c@d"}, "XRAY_SMTP_FROM"),
        ({"smtp_to": []}, "XRAY_SMTP_TO"),
        ({"smtp_to": ["Me <a@b.example>"]}, "XRAY_SMTP_TO"),
        ({"smtp_host": "mail.example", "smtp_user": "x"}, "plain text"),
        ({"smtp_events": ["run.cancelled"]}, "XRAY_SMTP_EVENTS"),
    ],
)
def test_unsafe_settings_are_refused(tmp_path: Path, changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        settings_of(tmp_path, 25, **changed)
