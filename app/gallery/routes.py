"""The gallery: synthetic films by generator and class, made on the spot, blended, downloaded."""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import BadForm, NotFound, UploadTooLarge
from app.core.multipart import read_fields
from app.core.rate_limit import address_of
from app.core.safe_files import file_in
from app.core.security import require_same_origin
from app.core.templating import page
from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder
from app.gallery.download import FOLDER, MOST_FILMS, choose, stream
from app.gallery.images import (
    _LASTING,
    SAMPLE_GRID,
    png_response,
    read_stored,
    sheet_picture,
    shown_picture,
    thumbnail,
)
from app.gallery.queries import Choice, find_generator, neighbours, one_page, shelves
from app.gallery.tables import SyntheticFilm
from app.gallery.views import (
    FilmCard,
    FilmView,
    address,
    generator_options,
    label_filters,
    model_filters,
)
from app.registry.files import model_folder
from app.registry.tables import ModelVersion
from app.services import CurrentServices, CurrentSession, Services
from ml.gan.latents import SEEDS
from ml.labels import LABELS

router = APIRouter(prefix="/gallery", include_in_schema=False)
# Room for the numbers of all films that may be chosen.
_LARGEST_FORM = 16 * MOST_FILMS + 10_000


@router.get("")
def index(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str = "",
    label: str = "",
    before: Annotated[int | None, Query(ge=1)] = None,
) -> HTMLResponse:
    """One page of films, newest first."""
    return _page_of_films(request, current, opened, _choice(model, label), before)


def _choice(model: str, label: str) -> Choice:
    if label and label not in LABELS:
        raise NotFound(f"no such class: expected one of {', '.join(LABELS)}")
    return Choice(model or None, label or None)


def _page_of_films(
    request: Request,
    current: Services,
    opened: Session,
    choice: Choice,
    before: int | None = None,
    fault: str = "",
) -> HTMLResponse:
    found = shelves(opened)
    if choice.model and choice.model not in {shelf.model.sha256 for shelf in found}:
        raise NotFound("no such generator is registered here")
    films, following = one_page(opened, choice, before)
    same = {"model": choice.model, "label": choice.label}
    return page(
        request,
        "gallery/index.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        films=[FilmCard.of(film) for film in films],
        next_url=address("/gallery", **same, before=following) if following else None,
        first=before is None,
        models=model_filters(found, choice),
        labels=label_filters(found, choice),
        choice=choice,
        total=sum(shelf.total for shelf in found),
        makers=generator_options(current, opened),
        most_films=MOST_FILMS,
        fault=fault,
    )


@router.get("/{id:int}")
def show(request: Request, opened: CurrentSession, id: int) -> HTMLResponse:
    """A film by itself."""
    film = _find(opened, id)
    model = opened.get_one(ModelVersion, film.model_sha256)
    view = FilmView.of(film, model, *neighbours(opened, film))
    return page(request, "gallery/image.html", film=view, seeds=SEEDS)


def _find(opened: Session, id: int) -> SyntheticFilm:
    # Longer numbers are no ids, and PostgreSQL would not take them for one.
    film = opened.get(SyntheticFilm, id) if id < 2**31 else None
    if film is None:
        raise NotFound("there is no such film in the gallery")
    return film


def _data_folder(current: Services, opened: Session, sha256: str) -> Path:
    return data_folder(current.settings, opened.get_one(DataVersion, sha256))


@router.get("/{id:int}/thumbnail.jpg")
def small_film(current: CurrentServices, opened: CurrentSession, id: int) -> Response:
    """A film, small, with the word on it."""
    film = _find(opened, id)
    picture = thumbnail(_data_folder(current, opened, film.data_sha256), film.image)
    return Response(picture, media_type="image/jpeg", headers=_LASTING)


@router.get("/{id:int}/film.png")
def large_film(current: CurrentServices, opened: CurrentSession, id: int) -> Response:
    """A film, large, with the word on it."""
    film = _find(opened, id)
    stored = file_in(_data_folder(current, opened, film.data_sha256), film.image)
    return png_response(shown_picture(*read_stored(stored)))


@router.get("/{id:int}/download.png")
def stored_film(current: CurrentServices, opened: CurrentSession, id: int) -> Response:
    """A film's file as it is in its data set: the word stands in its metadata alone."""
    film = _find(opened, id)
    stored = file_in(_data_folder(current, opened, film.data_sha256), film.image)
    name = f"synthetic-{film.label}-{film.seed or film.id}.png"
    saved = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(stored.read_bytes(), media_type="image/png", headers=_LASTING | saved)


@router.get("/samples/{sha256}.png")
def samples(
    request: Request, current: CurrentServices, opened: CurrentSession, sha256: str
) -> Response:
    """The sheet of samples that came with a generator; nobody chose them."""
    sheet = model_folder(current.settings, find_generator(opened, sha256)) / SAMPLE_GRID
    # So large a picture takes as long as many films.
    with current.generators.turn(address_of(request)):
        picture = sheet_picture(*read_stored(sheet))
    return png_response(picture)


# --- a selection as a data set -----------------------------------------------------------------


async def _chosen(request: Request) -> list[int]:
    """The numbers of the films in the form: boxes that are ticked, or a script's list."""
    require_same_origin(request.headers)
    fields = await read_fields(request, _LARGEST_FORM)
    texts = ",".join([*fields.get("film", []), *fields.get("films", [])]).split(",")
    # What is no number of a film is no film: nothing is lost by leaving it out.
    return sorted(
        {int(one) for one in texts if one.isascii() and one.isdecimal() and len(one) < 10}
    )


@router.post("/download")
def download(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    ids: Annotated[list[int], Depends(_chosen)],
) -> Response:
    """The films that were ticked, as a data set."""
    if len(ids) > MOST_FILMS:
        raise UploadTooLarge(f"up to {MOST_FILMS:,} films come at once, not {len(ids):,}")
    films = list(opened.scalars(select(SyntheticFilm).where(SyntheticFilm.id.in_(ids))))
    folders = {
        sha256: _data_folder(current, opened, sha256)
        for sha256 in sorted({film.data_sha256 for film in films})
    }
    try:
        chosen = choose(films, folders)
    except BadForm as refused:
        return _page_of_films(request, current, opened, Choice(), fault=refused.faults["films"])
    headers = {"Content-Disposition": f'attachment; filename="{FOLDER}.zip"'}
    return StreamingResponse(stream(chosen), media_type="application/zip", headers=headers)
