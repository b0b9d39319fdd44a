"""Rate limits of requests, and the headers that tell a caller how much is left."""

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.admission import Caller
from app.core.errors import TooManyRequests
from app.core.rate_limit import RateLimit, RateLimits
from ml.texts import msg

_MINUTE_S = 60
_STATE = "rate_limit_headers"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Requests in a minute.

    Attributes:
        keys: API requests of one key.
        users: uploads of one signed-in user.
        visitors: uploads of visitors from one address.
    """

    keys: RateLimit
    users: RateLimit
    visitors: RateLimit

    @classmethod
    def of(cls, limits: RateLimits, *, keys: int, users: int, visitors: int) -> "RequestLimits":
        """The limits, with counts in the application's storage of limits."""
        return cls(
            limits.limit("key", keys, _MINUTE_S),
            limits.limit("user", users, _MINUTE_S),
            limits.limit("address", visitors, _MINUTE_S),
        )


def use_limit(request: Request, limit: RateLimit, caller: Caller) -> None:
    """Count a request; the headers of its response will say what is left.

    Raises:
        TooManyRequests: the limit is used up.
    """
    usage = limit.use(caller.name)
    request.scope["state"][_STATE] = usage.headers
    if not usage.allowed:
        raise TooManyRequests(
            msg(
                "More than %(most)s requests within %(window_s)s seconds. Try again in "
                "%(reset_s)s seconds.",
                most=usage.most,
                window_s=usage.window_s,
                reset_s=max(1, usage.reset_s),
            )
        )


class RateLimitHeaders:
    """Adds the headers of the limit that a request was counted for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(state.get(_STATE, {}))
            await send(message)

        await self.app(scope, receive, send_with_limit)
