"""The gallery: synthetic films by generator and class, made on the spot, blended, downloaded."""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.addresses import address_of
from app.data_files import file_in
from app.datasets import data_folder
from app.deps import CurrentServices, CurrentSession, Services
from app.errors import BadForm, NotFound, UploadTooLarge
from app.film_archive import FOLDER, MOST_FILMS, choose, stream
from app.gallery import Choice, neighbours, one_page, shelves
from app.gallery_pictures import (
    FRAME_SIDE,
    read_stored,
    sheet_picture,
    shown_picture,
    strip_picture,
    thumbnail,
)
from app.gallery_views import (
    FilmCard,
    FilmView,
    Maker,
    address,
    classes_of,
    label_filters,
    model_filters,
)
from app.models import DataVersion, ModelKind, ModelVersion, SyntheticFilm
from app.pages import page
from app.registry import find_model, list_models, model_folder
from app.security import require_same_origin
from app.settings import Settings
from app.small_forms import read_fields
from ml.gan.latents import SEEDS
from ml.gan.provenance import Provenance
from ml.generator_graph import GRAPH
from ml.labels import DISPLAY_NAMES, LABELS, label_name

router = APIRouter(prefix="/gallery", include_in_schema=False)

STEPS, MOST_STEPS = 8, 16
# A film never changes. A picture opened by itself runs nothing.
_LASTING = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox",
}
_SHEET = "samples.png"
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
        "gallery.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        films=[FilmCard.of(film) for film in films],
        next_url=address("/gallery", **same, before=following) if following else None,
        first=before is None,
        models=model_filters(found, choice),
        labels=label_filters(found, choice),
        choice=choice,
        total=sum(shelf.total for shelf in found),
        makers=_makers(current, opened),
        most_films=MOST_FILMS,
        fault=fault,
    )


@router.get("/{id:int}")
def show(request: Request, opened: CurrentSession, id: int) -> HTMLResponse:
    """A film by itself."""
    film = _find(opened, id)
    model = opened.get_one(ModelVersion, film.model_sha256)
    view = FilmView.of(film, model, *neighbours(opened, film))
    return page(request, "gallery_film.html", film=view, seeds=SEEDS)


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
    return _png(shown_picture(*read_stored(stored)))


@router.get("/{id:int}/download.png")
def stored_film(current: CurrentServices, opened: CurrentSession, id: int) -> Response:
    """A film's file as it is in its data set: the word stands in its metadata alone."""
    film = _find(opened, id)
    stored = file_in(_data_folder(current, opened, film.data_sha256), film.image)
    name = f"synthetic-{film.label}-{film.seed or film.id}.png"
    saved = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(stored.read_bytes(), media_type="image/png", headers=_LASTING | saved)


def _png(picture: bytes) -> Response:
    return Response(picture, media_type="image/png", headers=_LASTING)


@router.get("/samples/{sha256}.png")
def samples(
    request: Request, current: CurrentServices, opened: CurrentSession, sha256: str
) -> Response:
    """The sheet of samples that came with a generator; nobody chose them."""
    sheet = model_folder(current.settings, _generator(opened, sha256)) / _SHEET
    # So large a picture takes as long as many films.
    with current.generators.turn(address_of(request)):
        picture = sheet_picture(*read_stored(sheet))
    return _png(picture)


# --- made on the spot ------------------------------------------------------------------------


def usable_generators(settings: Settings, opened: Session) -> list[ModelVersion]:
    """The generators that make films of a class here, the newest first."""
    return [
        model
        for model in list_models(opened, ModelKind.GENERATOR)
        if classes_of(model) and (model_folder(settings, model) / GRAPH).is_file()
    ]


def _makers(current: Services, opened: Session) -> list[Maker]:
    return [Maker.of(model) for model in usable_generators(current.settings, opened)]


def _generator(opened: Session, sha256: str) -> ModelVersion:
    model = find_model(opened, sha256)
    if model.kind is not ModelKind.GENERATOR:
        raise NotFound("this model makes no films")
    return model


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a form about a generator, a class and seeds asks for, and what is wrong with it."""

    maker: Maker
    label: str
    faults: dict[str, str]

    def seed(self, name: str, given: str) -> int:
        """A seed of the form; 0 and a fault where it is none."""
        text = given.strip()
        if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < SEEDS:
            return int(text)
        self.faults[name] = f"a seed is a whole number from 0 to {SEEDS - 1}"
        return 0


def _wish(makers: list[Maker], model: str, label: str) -> _Wish:
    maker = next((one for one in makers if one.sha256 == model), None)
    faults = {}
    if model and maker is None:
        faults["model"] = "no such generator makes films here: choose one of the list"
    maker = maker or makers[0]
    if label and label not in maker.labels:
        made = ", ".join(label_name(one) for one in maker.labels)
        faults["label"] = f"this generator makes {made}: choose one of them"
    return _Wish(maker, label if label in maker.labels else maker.labels[0], faults)


def _status(wish: _Wish) -> HTTPStatus:
    return HTTPStatus.UNPROCESSABLE_ENTITY if wish.faults else HTTPStatus.OK


def _nothing_made(request: Request) -> HTMLResponse:
    return page(request, "gallery_make.html", makers=[])


@router.get("/make")
def make(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str = "",
    label: str = "",
    seed: str = "",
) -> Response:
    """The film of a seed; without one, that of any seed."""
    makers = _makers(current, opened)
    if not makers:
        return _nothing_made(request)
    wish = _wish(makers, model, label)
    if not seed and not wish.faults:
        return _again("/gallery/make", wish, seed=secrets.randbelow(SEEDS))
    number = wish.seed("seed", seed)
    same = {"model": wish.maker.sha256, "label": wish.label}
    return page(
        request,
        "gallery_make.html",
        _status(wish),
        makers=makers,
        wish=wish,
        names=DISPLAY_NAMES,
        seed=seed,
        most_seed=SEEDS - 1,
        picture_url=address("/gallery/make.png", **same, seed=number),
        another_url=address("/gallery/make", **same),
        blend_url=address("/gallery/between", **same) + f"&from={number}",
    )


def _again(path: str, wish: _Wish, **seeds: int) -> RedirectResponse:
    url = address(path, model=wish.maker.sha256, label=wish.label, **seeds)
    return RedirectResponse(url, HTTPStatus.SEE_OTHER)


@router.get("/make.png")
def made_film(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str,
    label: str,
    seed: Annotated[int, Query(ge=0, lt=SEEDS)],
) -> Response:
    """The film of a seed; always the same one, so it may be kept for ever."""
    row = _makes(opened, model, label)
    with current.generators.turn(address_of(request)):
        graph = current.generators.get(model_folder(current.settings, row))
        (film,) = graph.films([seed], label)
    return _png(shown_picture(film, _origin(row, label, str(seed))))


def _makes(opened: Session, model: str, label: str) -> ModelVersion:
    row = _generator(opened, model)
    if label not in Maker.of(row).labels:
        raise NotFound(f"this generator makes no films of class {label!r}")
    return row


def _origin(model: ModelVersion, label: str, seed: str) -> dict[str, str]:
    return Provenance(model.sha256, seed, label, 1.0, "xray-screening").as_text()


@router.get("/between")
def between(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str = "",
    label: str = "",
    from_: Annotated[str, Query(alias="from")] = "",
    to: str = "",
    steps: str = str(STEPS),
) -> Response:
    """The way from one seed's film to another's."""
    makers = _makers(current, opened)
    if not makers:
        return _nothing_made(request)
    wish = _wish(makers, model, label)
    if not (from_ and to) and not wish.faults:
        first, last = (text or secrets.randbelow(SEEDS) for text in (from_, to))
        same = {"model": wish.maker.sha256, "label": wish.label, "from": first, "to": last}
        return RedirectResponse(address("/gallery/between", **same), HTTPStatus.SEE_OTHER)
    first, last = wish.seed("from", from_), wish.seed("to", to)
    if not (steps.isdecimal() and len(steps) < 3 and 2 <= int(steps) <= MOST_STEPS):
        wish.faults["steps"] = f"give a number of films from 2 to {MOST_STEPS}"
    count = STEPS if "steps" in wish.faults else int(steps)
    same = {"model": wish.maker.sha256, "label": wish.label}
    ends = {"from": first, "to": last}
    return page(
        request,
        "gallery_between.html",
        _status(wish),
        makers=makers,
        wish=wish,
        names=DISPLAY_NAMES,
        side=FRAME_SIDE,
        typed={"from": from_, "to": to, "steps": steps},
        ends=(first, last),
        most_seed=SEEDS - 1,
        most_steps=MOST_STEPS,
        count=count,
        strip_url=address("/gallery/between.png", **same, **ends, steps=count),
        end_urls=[address("/gallery/make", **same, seed=seed) for seed in (first, last)],
        back_url=address("/gallery/between", **same, **{"from": last, "to": first}, steps=count),
    )


@router.get("/between.png")
def strip(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str,
    label: str,
    from_: Annotated[int, Query(alias="from", ge=0, lt=SEEDS)],
    to: Annotated[int, Query(ge=0, lt=SEEDS)],
    steps: Annotated[int, Query(ge=2, le=MOST_STEPS)] = STEPS,
) -> Response:
    """The films of the way side by side, in one picture."""
    row = _makes(opened, model, label)
    with current.generators.turn(address_of(request)):
        graph = current.generators.get(model_folder(current.settings, row))
        films = graph.between(from_, to, steps, label)
    return _png(strip_picture(films, _origin(row, label, f"{from_} to {to}")))


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
