"""Typed dependencies: who calls, what they may see. A route cannot forget the check."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.accounts.password_checks import PasswordChecks
from app.accounts.sign_in import SignInAttempts
from app.core.database import Database
from app.core.fair_queue import FairQueue
from app.core.rate_limit import RateLimit
from app.core.request_limits import RequestLimits
from app.core.storage import Storage
from app.gallery.on_demand import Generators
from app.registry.serving import ActiveClassifier
from app.screenings.decoder import ImageDecoder
from app.screenings.service import ScreeningService
from app.screenings.uploads import Intake
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """What the application shares between requests, as `app.state.services`."""

    settings: Settings
    database: Database
    storage: Storage
    decoder: ImageDecoder
    classifier: ActiveClassifier
    screenings: ScreeningService
    intake: Intake
    turns: FairQueue
    request_limits: RequestLimits
    generators: Generators
    quiz_rounds: RateLimit
    sign_in_attempts: SignInAttempts
    password_checks: PasswordChecks


# Dependencies that only look at memory are coroutines: a plain function would cost a thread switch.
async def services(request: Request) -> Services:
    """The running application's services."""
    found: Services = request.app.state.services
    return found


CurrentServices = Annotated[Services, Depends(services)]


def session(current: CurrentServices) -> Iterator[Session]:
    """A session for reading; a route that writes commits."""
    with current.database.sessions() as opened:
        yield opened


# Closed when the route returns, not when a slow reader has taken the last byte.
CurrentSession = Annotated[Session, Depends(session, scope="function")]
