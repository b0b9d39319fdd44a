"""The pages of "Real or synthetic?": begin a round, guess, read how it went."""

import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.core.errors import AppError, Conflict, NotFound
from app.core.links import with_query
from app.core.multipart import read_fields
from app.core.rate_limit import address_of
from app.core.security import new_visitor, read_visitor, require_same_origin, visitor_cookie
from app.core.templating import page
from app.gallery.generators import GeneratorOption, usable_generators
from app.quiz.contact_sheet import RIM, STEP, TILE, generators_of, sheet
from app.quiz.rounds import TooManyRounds, begin, find_round, finish_round, open_round, realism
from app.quiz.selection import COLUMNS, HALF, IMAGES, choose_source
from app.quiz.statistics import Realism, wilson
from app.quiz.tables import QuizImage, QuizRound
from app.registry.files import model_folder
from app.registry.queries import find_model
from app.registry.tables import ModelVersion
from app.screenings.dependencies import remember
from app.services import CurrentServices, CurrentSession, Services
from ml.labels import label_name
from ml.texts import msg

router = APIRouter(prefix="/gallery/quiz", include_in_schema=False)
# The picture of a round never changes, and is this reader's.
_PICTURE = {"Cache-Control": "private, max-age=7200", "Content-Security-Policy": "sandbox"}
_LARGEST_FORM = 4000
_REAL, _SYNTHETIC = "real", "synthetic"


async def reader(request: Request, current: CurrentServices) -> str | None:
    """The owner of a browser's rounds: its visitor cookie, even if a user is signed in."""
    cookie = visitor_cookie(request.cookies, current.settings)
    return read_visitor(cookie, current.settings.signing_key)


async def fields(request: Request) -> dict[str, list[str]]:
    """A form sent from our own pages."""
    require_same_origin(request.headers)
    return await read_fields(request, _LARGEST_FORM)


Reader = Annotated[str | None, Depends(reader)]
Fields = Annotated[dict[str, list[str]], Depends(fields)]


def own_round(id: uuid.UUID, opened: CurrentSession, who: Reader) -> QuizRound:
    """A round of this reader."""
    return find_round(opened, id, who)


OwnRound = Annotated[QuizRound, Depends(own_round)]


@dataclass(frozen=True, slots=True)
class GeneratorOnOffer:
    """A generator of which a round can be begun, and how real its images looked so far."""

    maker: GeneratorOption
    counts: bool
    possible: bool
    realism: Realism | None


@router.get("")
def index(request: Request, current: CurrentServices, opened: CurrentSession) -> HTMLResponse:
    """What it is, the generators, how real their images look."""
    return _front(request, current, opened)


def _front(
    request: Request, current: Services, opened: Session, refused: AppError | None = None
) -> HTMLResponse:
    rows = usable_generators(current.settings, opened)
    return page(
        request,
        "quiz/index.html",
        refused.status if refused else HTTPStatus.OK,
        generators=[_on_offer(current, opened, row, rows) for row in rows],
        fault=refused.detail if refused else "",
        images=IMAGES,
        half=HALF,
    )


def _on_offer(
    current: Services, opened: Session, row: ModelVersion, others: list[ModelVersion]
) -> GeneratorOnOffer:
    maker, metric = GeneratorOption.of(row), realism(opened, row.sha256)
    try:
        found = choose_source(opened, current.settings, row, maker.labels, others)
    except Conflict:
        return GeneratorOnOffer(maker, counts=False, possible=False, realism=metric)
    return GeneratorOnOffer(maker, counts=found.counts, possible=True, realism=metric)


@router.post("")
def start(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    known: Reader,
    given: Fields,
) -> Response:
    """Start a round, or continue the open one."""
    who = known or new_visitor()
    rows = usable_generators(current.settings, opened)
    wanted = given.get("model", [""])[0]
    row = next((one for one in rows if one.sha256 == wanted), None)
    try:
        if row is None:
            raise Conflict(msg("Choose a generator from the list."))
        begun = open_round(opened, who, row)
        if begun is None:
            if not current.quiz_rounds.take(address_of(request)):
                raise TooManyRounds
            begun = begin(opened, current.settings, who, row, GeneratorOption.of(row).labels, rows)
    except (Conflict, TooManyRounds) as refused:
        return _front(request, current, opened, refused)
    opened.commit()
    response = RedirectResponse(f"/gallery/quiz/{begun.id}", HTTPStatus.SEE_OTHER)
    remember(response, Owner(visitor_id=who), current.settings)
    return response


@router.get("/{id}")
def show(request: Request, opened: CurrentSession, found: OwnRound) -> HTMLResponse:
    """The images of a round, or how it went."""
    if found.finished_at:
        return _result(request, opened, found)
    return _questions(request, found, {}, [])


def _questions(
    request: Request, found: QuizRound, given: dict[int, str], missing: list[int]
) -> HTMLResponse:
    return page(
        request,
        "quiz/round.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if missing else HTTPStatus.OK,
        round=found,
        given=given,
        missing=missing,
        **_places("sheet", found),
    )


def _places(name: str, found: QuizRound) -> dict[str, Any]:
    """Where each image is in the round's picture."""
    places = [(STEP * (n % COLUMNS) + RIM, STEP * (n // COLUMNS) + RIM) for n in range(IMAGES)]
    return {
        "sheet_url": f"/gallery/quiz/{found.id}/{name}.png",
        "places": places,
        "tile": TILE,
        "sheet_width": STEP * COLUMNS,
        "sheet_height": STEP * (IMAGES // COLUMNS),
    }


@router.post("/{id}")
def answer(request: Request, opened: CurrentSession, found: OwnRound, given: Fields) -> Response:
    """Keep the guesses, once."""
    if found.finished_at:
        raise Conflict(msg("This round is finished. Its first answers count."))
    words = {number: given.get(f"image-{number}", [""])[0] for number in range(IMAGES)}
    missing = [number for number, word in words.items() if word not in (_REAL, _SYNTHETIC)]
    if missing:
        return _questions(request, found, words, missing)
    finish_round(opened, found, [words[number] == _REAL for number in range(IMAGES)])
    opened.commit()
    return RedirectResponse(f"/gallery/quiz/{found.id}", HTTPStatus.SEE_OTHER)


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """An image, what it was, and the reader's answer."""

    number: int
    was: str
    said: str
    right: bool
    origin: str
    url: str | None


def _result(request: Request, opened: Session, found: QuizRound) -> HTMLResponse:
    right = found.right or 0
    images = [
        _answered(found, number, image, said)
        for number, (image, said) in enumerate(zip(found.images, found.guesses or [], strict=True))
    ]
    return page(
        request,
        "quiz/result.html",
        round=found,
        images=images,
        right=right,
        score=wilson(right, IMAGES),
        taken=sum(one.said == _REAL and one.was == _SYNTHETIC for one in images),
        half=HALF,
        maker=GeneratorOption.of(opened.get_one(ModelVersion, found.model_sha256)),
        realism=realism(opened, found.model_sha256),
        **_places("answers", found),
    )


def _answered(found: QuizRound, number: int, image: QuizImage, said: bool) -> AnsweredImage:
    url = None
    if "image" in image:
        licence = image["licence"] or msg("no licence stated")
        origin = msg(
            "%(name)s; source %(source)s, %(licence)s",
            name=label_name(image["label"]),
            source=image["source"],
            licence=licence,
        )
    else:
        sha256 = image.get("model", found.model_sha256)
        origin = msg(
            "%(name)s; seed %(seed)s", name=label_name(image["label"]), seed=str(image["seed"])
        )
        url = with_query("/gallery/make", model=sha256, label=image["label"], seed=image["seed"])
    return AnsweredImage(
        number=number + 1,
        was=_REAL if image["real"] else _SYNTHETIC,
        said=_REAL if said else _SYNTHETIC,
        right=bool(image["real"]) == said,
        origin=origin,
        url=url,
    )


@router.get("/{id}/sheet.png")
def images(
    request: Request, current: CurrentServices, opened: CurrentSession, found: OwnRound
) -> Response:
    """The images of a round in one picture, so that file names and sizes give nothing away."""
    return _picture(request, current, opened, found, answers=False)


@router.get("/{id}/answers.png")
def answered_images(
    request: Request, current: CurrentServices, opened: CurrentSession, found: OwnRound
) -> Response:
    """The same with the word on those that are synthetic, once the round is over."""
    if not found.finished_at:
        raise NotFound(msg("This round is not finished yet."))
    return _picture(request, current, opened, found, answers=True)


def _picture(
    request: Request, current: Services, opened: Session, found: QuizRound, *, answers: bool
) -> Response:
    with current.generators.turn(address_of(request)):
        graphs = {
            sha256: current.generators.get(
                model_folder(current.settings, find_model(opened, sha256))
            )
            for sha256 in generators_of(found)
        }
        picture = sheet(opened, current.settings, found, graphs, answers=answers)
    return Response(picture, media_type="image/png", headers=_PICTURE)
