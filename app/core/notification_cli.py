"""`xray notification`: try the channels that announce alarms and ended runs."""

import uuid

import typer

from app.settings import Settings
from ml.errors import XrayError

notification_app = typer.Typer(no_args_is_help=True, help="Try the webhook and the e-mails.")


@notification_app.callback()
def _group() -> None:
    """Try the webhook and the e-mails."""


@notification_app.command("test")
def notification_test() -> None:
    """Send a test to every configured channel; exits with status 1 unless all receive it."""
    from app.core.database import now
    from app.core.notifications import body_of, deliver

    settings = Settings()
    if not settings.channels:
        raise XrayError("Nothing is configured. Set XRAY_WEBHOOK_URL or XRAY_SMTP_HOST.")
    faults = []
    for channel in settings.channels:
        moment, detail = now(), {"text": "Notifications of this server arrive here."}
        body = body_of(uuid.uuid4(), "test", moment, settings.public_address, "/admin", detail)
        fault = deliver(settings, channel, body, moment)
        print(f"{channel}: {fault or 'received'}")
        faults.append(fault)
    if any(faults):
        raise typer.Exit(1)
