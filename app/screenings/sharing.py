"""Links that let others see one screening for some days."""

import hmac
import secrets
from datetime import timedelta

from app.core.database import now
from app.screenings.tables import Screening


def share(screening: Screening, days: int) -> None:
    """Make a link that shows the screening for some days; an earlier link ends."""
    screening.share_token = secrets.token_urlsafe(24)
    screening.shared_until = now() + timedelta(days=days)


def stop_sharing(screening: Screening) -> None:
    """End the link at once."""
    screening.share_token = None
    screening.shared_until = None


def is_shared(screening: Screening) -> bool:
    """Whether the screening has a link that is still valid."""
    return screening.shared_until is not None and screening.shared_until > now()


def opens(screening: Screening, token: str) -> bool:
    """Whether a token is that of the screening's valid link."""
    if screening.share_token is None or not is_shared(screening):
        return False
    return hmac.compare_digest(screening.share_token.encode(), token.encode())
