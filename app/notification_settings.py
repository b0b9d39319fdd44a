"""Settings of notifications: where events are sent, and what is refused about it."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from app.secret_strength import secret_fault


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
