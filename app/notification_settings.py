"""Settings of notifications: where events are sent, and what is refused about it."""

from email.utils import parseaddr
from enum import StrEnum

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from app.secret_strength import secret_fault

# What is announced.
EVENTS = frozenset({"run.succeeded", "run.failed", "monitoring.alarm"})
# Servers on this machine may be asked without encryption.
_LOCAL = ("127.0.0.1", "localhost", "::1")


class SmtpSecurity(StrEnum):
    """How the connection to the mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Channel(StrEnum):
    """How a notification is sent."""

    WEBHOOK = "webhook"
    EMAIL = "email"


class NotificationSettings(BaseSettings):
    """Where alarms and ended runs are announced."""

    webhook_url: str = Field(
        "",
        description="Address that gets alarms and ended runs as signed JSON. Default: none.",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret that webhooks are signed with. Required with XRAY_WEBHOOK_URL.",
    )

    smtp_host: str = Field(
        "",
        description="Mail server that sends alarms and ended runs by e-mail. Default: none.",
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server.")
    smtp_security: SmtpSecurity = Field(
        SmtpSecurity.STARTTLS,
        description="starttls, tls or none; none only for a mail server on the same machine or"
        " network that needs no password.",
    )
    smtp_user: str = Field("", description="User of the mail server. Default: no sign-in.")
    smtp_password: SecretStr = Field(
        SecretStr(""), description="Password of the mail server's user."
    )
    smtp_from: str = Field("", description="Sender of the e-mails. Required with XRAY_SMTP_HOST.")
    smtp_to: list[str] = Field(
        [],
        description="Recipients of the e-mails, as a JSON list. Required with XRAY_SMTP_HOST.",
    )
    smtp_events: list[str] = Field(
        ["run.succeeded", "run.failed", "monitoring.alarm"],
        description="Events that are sent by e-mail, as a JSON list.",
    )

    def channels_of(self, event: str) -> list[Channel]:
        """How an event is announced; empty where nothing is configured for it."""
        known = {
            Channel.WEBHOOK: bool(self.webhook_url),
            Channel.EMAIL: bool(self.smtp_host) and event in self.smtp_events,
        }
        return [channel for channel, wanted in known.items() if wanted]

    @property
    def channels(self) -> list[Channel]:
        """All that are configured."""
        known = {Channel.WEBHOOK: self.webhook_url, Channel.EMAIL: self.smtp_host}
        return [channel for channel, address in known.items() if address]

    def smtp_fault(self, *, is_production: bool) -> str:
        """Why the mail server is refused; empty where it is in order or not configured."""
        if not self.smtp_host:
            return ""
        for name, address in [("FROM", self.smtp_from), *(("TO", to) for to in self.smtp_to)]:
            if not _is_address(address):
                return f"XRAY_SMTP_{name} needs an address such as xray@clinic.example."
        if not self.smtp_to:
            return 'XRAY_SMTP_TO needs recipients, such as ["admin@clinic.example"].'
        if self.smtp_security is SmtpSecurity.NONE and self.smtp_host not in _LOCAL:
            if self.smtp_user:
                return "XRAY_SMTP_SECURITY=none would send the password in plain text."
            if is_production:
                return "XRAY_SMTP_SECURITY has to be starttls or tls for another machine."
        if unknown := set(self.smtp_events) - EVENTS:
            expected = ", ".join(sorted(EVENTS))
            return f"XRAY_SMTP_EVENTS names {min(unknown)!r}. Expected {expected}."
        return ""

    def webhook_fault(self, *, is_production: bool) -> str:
        """Why the webhook is refused; empty where it is in order or not configured."""
        if not self.webhook_url:
            return ""
        expected = ["https://"] if is_production else ["https://", "http://"]
        if not any(self.webhook_url.startswith(scheme) for scheme in expected):
            return f"XRAY_WEBHOOK_URL has to begin with {' or '.join(expected)}."
        if fault := secret_fault(self.webhook_secret.get_secret_value()):
            return f"XRAY_WEBHOOK_SECRET {fault}. Create one with openssl rand -hex 32."
        return ""


def _is_address(text: str) -> bool:
    """Whether a text is one plain address, without a name and without what ends a header."""
    name, domain = text.rpartition("@")[::2]
    is_plain = text.isprintable() and text.isascii() and not set(text) & set(' ,;<>"()')
    return bool(name and domain) and is_plain and parseaddr(text)[1] == text
