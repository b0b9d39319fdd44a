"""The switch of the language, which a cookie remembers."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from app.core.errors import NotFound
from app.core.language import LANGUAGE_COOKIE, LANGUAGE_COOKIE_AGE_S, languages
from app.core.links import own_address
from app.core.security import cookie_name, require_same_origin
from app.services import CurrentServices
from ml.texts import msg

router = APIRouter(include_in_schema=False)


@router.post("/language")
def choose_language(
    request: Request,
    current: CurrentServices,
    language: Annotated[str, Form(max_length=20)],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> RedirectResponse:
    """Show the pages in a language from now on."""
    require_same_origin(request.headers)
    if language not in languages():
        raise NotFound(msg("The pages are not available in this language."))
    response = RedirectResponse(own_address(next), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        cookie_name(LANGUAGE_COOKIE, current.settings),
        language,
        max_age=LANGUAGE_COOKIE_AGE_S,
        httponly=True,
        samesite="lax",
        secure=current.settings.secure_cookies,
    )
    return response
