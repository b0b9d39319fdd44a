"""A mail server on this machine: with STARTTLS or TLS, sign-in, and refusals on request."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port

USER, PASSWORD = "xray", "a pass, with words"


@dataclass
class MailServer:
    """What it received, and what it refuses.

    Attributes:
        port: on this machine.
        received: recipients and message of each e-mail.
        refused: recipients that it does not take.
        answer: to a message; 250 takes it.
    """

    port: int = 0
    received: list[tuple[list[str], Message]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    answer: str = "250 OK"

    async def handle_RCPT(  # noqa: N802  # the library's name
        self, _server: SMTP, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return f"550 no such user {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Any, envelope: Envelope
    ) -> str:
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            message = message_from_bytes(content, policy=default)
            self.received.append((list(envelope.rcpt_tos), message))
        return self.answer


@contextmanager
def mail_server(identity: Path | None = None, *, tls: bool = False) -> Iterator[MailServer]:
    """A running server.

    Args:
        identity: of `make_identity`: it then requires encryption and a password.
        tls: whether it is encrypted from the start.
    """
    found = MailServer()
    context = None
    options: dict[str, Any] = {}
    if identity:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(identity)
        options = {"authenticator": _signed_in, "auth_required": not tls}
        options |= {"auth_require_tls": not tls}
    if tls:
        options["ssl_context"] = context
    else:
        options |= {"tls_context": context, "require_starttls": bool(context)}
    found.port = free_port()
    controller = Controller(
        found, hostname="127.0.0.1", port=found.port, ready_timeout=60, **options
    )
    controller.start()
    yield found
    controller.stop()


def _signed_in(_server: Any, _session: Any, _envelope: Any, _way: str, data: Any) -> AuthResult:
    given = isinstance(data, LoginPassword) and (data.login, data.password)
    return AuthResult(success=given == (USER.encode(), PASSWORD.encode()))


def make_identity(path: Path) -> Path:
    """An identity of this machine with its key, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
