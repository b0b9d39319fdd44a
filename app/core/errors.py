"""Errors that carry their HTTP status; handlers turn them into a page or problem+json."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from ml.texts import msg


class AppError(Exception):
    """Base of the errors a request may end in.

    Attributes:
        status: HTTP status.
        title: what kind of problem, the same for every occurrence.
        code: stable machine word for clients.
        detail: what was wrong this time and what to do.
        headers: further response headers.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    title: ClassVar[str] = msg("Something went wrong")
    default_code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ):
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.headers = dict(headers or {})


class InvalidUpload(AppError):
    """The request does not carry an image where one is expected."""

    status = HTTPStatus.BAD_REQUEST
    title = msg("No image in the request")
    default_code = "no-image"


class Unauthorised(AppError):
    """The API was called without a valid key."""

    status = HTTPStatus.UNAUTHORIZED
    title = "API key required"
    default_code = "unauthorised"

    def __init__(self, detail: str):
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class CrossSite(AppError):
    """A form was sent from another site."""

    status = HTTPStatus.FORBIDDEN
    title = msg("Sent from another site")
    default_code = "cross-site"


class SignInNeeded(AppError):
    """The page is for people who are signed in; browsers are sent to the sign-in page."""

    status = HTTPStatus.UNAUTHORIZED
    title = msg("Sign-in required")
    default_code = "sign-in-needed"


class Forbidden(AppError):
    """The user is signed in and may not do this."""

    status = HTTPStatus.FORBIDDEN
    title = msg("Not allowed")
    default_code = "forbidden"


class Conflict(AppError):
    """The action does not fit the present state; nothing was changed."""

    status = HTTPStatus.CONFLICT
    title = msg("Not possible now")
    default_code = "conflict"


class InvalidForm(AppError):
    """A form has invalid values; `faults` holds the error of each field."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = msg("The form is not valid")
    default_code = "bad-form"

    def __init__(self, faults: Mapping[str, str]):
        super().__init__(
            "; ".join(f"{name}: {fault.rstrip('.')}" for name, fault in faults.items())
        )
        self.faults = dict(faults)


class NotFound(AppError):
    """The object does not exist, or the caller has no access; both look the same."""

    status = HTTPStatus.NOT_FOUND
    title = msg("Not found")
    default_code = "not-found"


class UploadTooLarge(AppError):
    """The upload is over the size limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = msg("The file is too large")
    default_code = "too-large"


class UploadTooSlow(AppError):
    """The upload did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    title = msg("The upload took too long")
    default_code = "too-slow"

    def __init__(self, detail: str):
        # Nobody waits for the rest of it.
        super().__init__(detail, headers={"Connection": "close"})


class TooManyRequests(AppError):
    """The caller's rate limit is used up."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = msg("Too many requests")
    default_code = "too-many-requests"


class StorageFull(AppError):
    """Too little disk space to store an image."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    title = msg("No disk space left")
    default_code = "storage-full"


class ImageRefused(AppError):
    """The bytes are not an image that can be read."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = msg("The image cannot be read")
    default_code = "damaged"


class NotAnImage(ImageRefused):
    """The bytes are no image at all."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = msg("Not an image")
    default_code = "not-an-image"


class Busy(AppError):
    """The server is at its limit of concurrent work."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = msg("Busy")
    default_code = "busy"

    def __init__(self, detail: str, *, retry_after_s: int = 1):
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class NotReady(Busy):
    """The classifier is not loaded (yet)."""

    title = msg("Not ready")
    default_code = "not-ready"
