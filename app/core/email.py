"""Notifications by e-mail: one message for an event, sent through a configured SMTP server.

A message says what happened and where it is shown. Like the webhook's body it holds no names,
images or reasons: mail servers store what passes through them.
"""

import smtplib
import ssl
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from pydantic import JsonValue

from app.notification_settings import NotificationSettings, SmtpSecurity

TIMEOUT_S = 10.0
_LONGEST_SUBJECT = 150
_SUBJECTS: Final = {
    "run.succeeded": "Run finished",
    "run.failed": "Run failed",
    "monitoring.alarm": "Monitoring alarm",
    "test": "Test message",
}


def message_of(body: Mapping[str, JsonValue], settings: NotificationSettings) -> EmailMessage:
    """The message about an event.

    Args:
        body: of the notification: id, event, at, url, detail.
        settings: with the sender and the recipients.
    """
    event, detail = _line(body["event"]), body.get("detail")
    facts = {_line(k): _line(v) for k, v in detail.items()} if isinstance(detail, dict) else {}
    about = facts.get("run_type") or facts.get("test") or ""
    subject = ": ".join(filter(None, [_SUBJECTS.get(event, event), about]))
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.smtp_from
    message["To"] = ", ".join(settings.smtp_to)
    message["Subject"] = f"[Xray Screening] {subject}"[:_LONGEST_SUBJECT]
    message["Date"] = format_datetime(datetime.fromisoformat(str(body["at"])))
    # The same at every attempt: a message that came twice is recognised.
    message["Message-ID"] = f"<{_line(body['id'])}@xray-screening.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [f"{name}: {value}" for name, value in facts.items()]
    message.set_content("\n".join([subject, "", *lines, "", _line(body["url"]), ""]))
    return message


def _line(value: JsonValue) -> str:
    """A value as one line: no character of it ends a header."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def send_email(settings: NotificationSettings, message: EmailMessage) -> str:
    """Send a message; why the server did not take it, empty where it did.

    The text names no address, no password and nothing that the server said.
    """
    try:
        with _connection(settings) as server:
            password = settings.smtp_password.get_secret_value()
            if settings.smtp_user:
                server.login(settings.smtp_user, password)
            refused = server.send_message(message, settings.smtp_from, settings.smtp_to)
    except smtplib.SMTPRecipientsRefused as problem:
        return f"The mail server refused all {len(problem.recipients)} recipients"
    except smtplib.SMTPResponseException as problem:
        return f"{type(problem).__name__}: the mail server answered {problem.smtp_code}"
    except smtplib.SMTPException as problem:
        return type(problem).__name__
    except OSError as problem:
        return f"{type(problem).__name__}: {problem.strerror or 'no answer'}"[:200]
    # Those that were taken would get another attempt twice.
    return "" if len(refused) < len(settings.smtp_to) else "All recipients were refused"


def _connection(settings: NotificationSettings) -> smtplib.SMTP:
    host, port = settings.smtp_host, settings.smtp_port
    if settings.smtp_security is SmtpSecurity.TLS:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
    server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    if settings.smtp_security is SmtpSecurity.STARTTLS:
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server
