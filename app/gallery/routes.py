"""The gallery: synthetic images by generator and class, made on the spot, blended, downloaded."""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Role, User
from app.core.archives import zip_response
from app.core.errors import InvalidForm, NotFound, UploadTooLarge
from app.core.links import with_query
from app.core.rate_limit import address_of
from app.core.safe_files import file_in
from app.core.templating import page
from app.datasets.tables import DataVersion
from app.datasets.versions import data_folder
from app.gallery.download import FOLDER, MOST_IMAGES, archived_images, entries
from app.gallery.generators import find_generator, generator_options
from app.gallery.images import (
    _LASTING,
    SAMPLE_GRID,
    png_response,
    read_stored,
    sheet_picture,
    shown_picture,
    thumbnail,
)
from app.gallery.queries import (
    PAGE_SIZE,
    GalleryFilter,
    classes_in_gallery,
    gallery_page,
    generators_with_counts,
    neighbours,
)
from app.gallery.selected import SelectedIds
from app.gallery.tables import SyntheticImage, Visibility
from app.gallery.views import (
    ImageCard,
    ImageView,
    label_filters,
    model_filters,
)
from app.gallery.visibility import count_hidden
from app.registry.files import model_folder
from app.registry.tables import ModelVersion
from app.services import CurrentServices, CurrentSession, Services
from ml.gan.latents import SEEDS
from ml.texts import msg

_NOT_PUBLIC = _LASTING | {"Cache-Control": "private, no-store"}
router = APIRouter(prefix="/gallery", include_in_schema=False)


@router.get("")
def index(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str = "",
    label: str = "",
    shown: str = "",
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """One page of images, newest first; an admin also sees those that are not public."""
    hidden = shown == Visibility.HIDDEN and _is_admin(request)
    visibility = Visibility.HIDDEN if hidden else Visibility.PUBLIC
    choice = GalleryFilter(model or None, label or None, visibility)
    return _page_of_images(request, current, opened, choice, before)


def _is_admin(request: Request) -> bool:
    user: User | None = request.state.user
    return user is not None and user.role is Role.ADMIN


def _page_of_images(
    request: Request,
    current: Services,
    opened: Session,
    choice: GalleryFilter,
    before: str | None = None,
    fault: str = "",
) -> HTMLResponse:
    found = generators_with_counts(opened, choice.visibility)
    if choice.model and choice.model not in {count.model.sha256 for count in found}:
        raise NotFound(msg("This generator is not registered."))
    if choice.label and choice.label not in (known := classes_in_gallery(found)):
        raise NotFound(
            msg(
                "There is no class %(label)s. Choose one of %(known)s.",
                label=repr(choice.label)[:60],
                known=", ".join(known),
            )
        )
    shown = gallery_page(opened, choice, before, PAGE_SIZE)
    is_hidden = choice.visibility is Visibility.HIDDEN
    following = {
        "model": choice.model,
        "label": choice.label,
        "shown": Visibility.HIDDEN.value if is_hidden else None,
        "before": shown.next_cursor,
    }
    return page(
        request,
        "gallery/index.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        images=[ImageCard.of(image) for image in shown.rows],
        next_url=with_query("/gallery", **following) if shown.next_cursor else None,
        first=before is None,
        models=model_filters(found, choice),
        labels=label_filters(found, choice),
        choice=choice,
        total=sum(count.total for count in found),
        makers=generator_options(current.settings, opened),
        most_images=MOST_IMAGES,
        fault=fault,
        is_admin=_is_admin(request),
        is_hidden=is_hidden,
        hidden_total=count_hidden(opened) if _is_admin(request) else 0,
    )


@router.get("/{id:int}")
def show(request: Request, opened: CurrentSession, id: int) -> HTMLResponse:
    """An image by itself."""
    image = _find(request, opened, id)
    model = opened.get_one(ModelVersion, image.model_sha256)
    view = ImageView.of(image, model, *neighbours(opened, image))
    return page(
        request,
        "gallery/image.html",
        image=view,
        seeds=SEEDS,
        is_admin=_is_admin(request),
        is_hidden=image.visibility is Visibility.HIDDEN,
    )


def _find(request: Request, opened: Session, id: int) -> SyntheticImage:
    """An image that the caller may see."""
    # Longer numbers are no ids, and PostgreSQL would not take them for one.
    image = opened.get(SyntheticImage, id) if id < 2**31 else None
    is_shown = image is not None and (
        image.visibility is Visibility.PUBLIC
        or (image.visibility is Visibility.HIDDEN and _is_admin(request))
    )
    if image is None or not is_shown:
        raise NotFound(msg("This image is not in the gallery."))
    return image


def _data_folder(current: Services, opened: Session, sha256: str) -> Path:
    return data_folder(current.settings, opened.get_one(DataVersion, sha256))


@router.get("/{id:int}/thumbnail.jpg")
def small_image(
    request: Request, current: CurrentServices, opened: CurrentSession, id: int
) -> Response:
    """An image, small, with the word on it."""
    image = _find(request, opened, id)
    picture = thumbnail(_data_folder(current, opened, image.data_sha256), image.image)
    return Response(picture, media_type="image/jpeg", headers=_headers_of(image))


def _headers_of(image: SyntheticImage) -> dict[str, str]:
    """A public image may be cached for ever; one that is not public is not cached at all."""
    return _LASTING if image.visibility is Visibility.PUBLIC else _NOT_PUBLIC


@router.get("/{id:int}/image.png")
def large_image(
    request: Request, current: CurrentServices, opened: CurrentSession, id: int
) -> Response:
    """An image, large, with the word on it."""
    image = _find(request, opened, id)
    stored = file_in(_data_folder(current, opened, image.data_sha256), image.image)
    picture = shown_picture(*read_stored(stored))
    return Response(picture, media_type="image/png", headers=_headers_of(image))


@router.get("/{id:int}/download.png")
def stored_image(
    request: Request, current: CurrentServices, opened: CurrentSession, id: int
) -> Response:
    """An image's file as it is in its data set: the word stands in its metadata alone."""
    image = _find(request, opened, id)
    stored = file_in(_data_folder(current, opened, image.data_sha256), image.image)
    name = f"synthetic-{image.label}-{image.seed or image.id}.png"
    saved = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(stored.read_bytes(), media_type="image/png", headers=_headers_of(image) | saved)


@router.get("/samples/{sha256}.png")
def samples(
    request: Request, current: CurrentServices, opened: CurrentSession, sha256: str
) -> Response:
    """The sheet of samples that came with a generator; nobody chose them."""
    sheet = model_folder(current.settings, find_generator(opened, sha256)) / SAMPLE_GRID
    # So large a picture takes as long as many images.
    with current.generators.turn(address_of(request)):
        picture = sheet_picture(*read_stored(sheet))
    return png_response(picture)


# --- a selection as a data set -----------------------------------------------------------------


@router.post("/download")
def download(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    ids: SelectedIds,
) -> Response:
    """The images that were ticked, as a data set."""
    if len(ids) > MOST_IMAGES:
        raise UploadTooLarge(
            msg(
                "Download at most %(most_images)s images at a time. You selected %(ids)s.",
                most_images=MOST_IMAGES,
                ids=len(ids),
            )
        )
    seen = [Visibility.PUBLIC, *([Visibility.HIDDEN] if _is_admin(request) else [])]
    query = select(SyntheticImage).where(
        SyntheticImage.id.in_(ids), SyntheticImage.visibility.in_(seen)
    )
    images = list(opened.scalars(query))
    folders = {
        sha256: _data_folder(current, opened, sha256)
        for sha256 in sorted({image.data_sha256 for image in images})
    }
    try:
        chosen = archived_images(images, folders)
    except InvalidForm as refused:
        return _page_of_images(
            request, current, opened, GalleryFilter(), fault=refused.faults["images"]
        )
    return zip_response(f"{FOLDER}.zip", entries(chosen))
