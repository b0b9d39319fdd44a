"""Pages that generate images on demand: from a seed, and interpolations between two seeds."""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.core.links import with_query
from app.core.rate_limit import address_of
from app.core.templating import page
from app.gallery.generators import GeneratorOption, find_generator, generator_options
from app.gallery.images import FRAME_SIDE, png_response, shown_picture, strip_picture
from app.registry.files import model_folder
from app.registry.tables import ModelVersion
from app.services import CurrentServices, CurrentSession
from ml.gan.latents import SEEDS
from ml.gan.synthesis.watermark import Provenance
from ml.labels import label_name
from ml.texts import msg

STEPS, MOST_STEPS = 8, 16


@dataclass(frozen=True, slots=True)
class OnDemandRequest:
    """What a form about a generator, a class and seeds asks for, and what is wrong with it."""

    maker: GeneratorOption
    label: str
    faults: dict[str, str]

    def seed(self, name: str, given: str) -> int:
        """A seed of the form; 0 and a fault where it is none."""
        text = given.strip()
        if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < SEEDS:
            return int(text)
        self.faults[name] = msg("Enter a whole number from 0 to %(seeds)s.", seeds=str(SEEDS - 1))
        return 0


def _wish(makers: list[GeneratorOption], model: str, label: str) -> OnDemandRequest:
    maker = next((one for one in makers if one.sha256 == model), None)
    faults = {}
    if model and maker is None:
        faults["model"] = msg("This generator is not available. Choose one from the list.")
    maker = maker or makers[0]
    if label and label not in maker.labels:
        made = ", ".join(label_name(one) for one in maker.labels)
        faults["label"] = msg("Choose one of the generator's classes: %(made)s.", made=made)
    return OnDemandRequest(maker, label if label in maker.labels else maker.labels[0], faults)


def _status(wish: OnDemandRequest) -> HTTPStatus:
    return HTTPStatus.UNPROCESSABLE_ENTITY if wish.faults else HTTPStatus.OK


def _nothing_made(request: Request) -> HTMLResponse:
    return page(request, "gallery/generate.html", makers=[])


router = APIRouter(prefix="/gallery", include_in_schema=False)


@router.get("/make")
def make(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str = "",
    label: str = "",
    seed: str = "",
) -> Response:
    """The image of a seed; without one, that of any seed."""
    makers = generator_options(current.settings, opened)
    if not makers:
        return _nothing_made(request)
    wish = _wish(makers, model, label)
    if not seed and not wish.faults:
        return _again("/gallery/make", wish, seed=secrets.randbelow(SEEDS))
    number = wish.seed("seed", seed)
    same = {"model": wish.maker.sha256, "label": wish.label}
    return page(
        request,
        "gallery/generate.html",
        _status(wish),
        makers=makers,
        wish=wish,
        names={label: label_name(label) for maker in makers for label in maker.labels},
        seed=seed,
        most_seed=SEEDS - 1,
        picture_url=with_query("/gallery/make.png", **same, seed=number),
        another_url=with_query("/gallery/make", **same),
        blend_url=with_query("/gallery/between", **same) + f"&from={number}",
    )


def _again(path: str, wish: OnDemandRequest, **seeds: int) -> RedirectResponse:
    url = with_query(path, model=wish.maker.sha256, label=wish.label, **seeds)
    return RedirectResponse(url, HTTPStatus.SEE_OTHER)


@router.get("/make.png")
def made_image(
    request: Request,
    current: CurrentServices,
    opened: CurrentSession,
    model: str,
    label: str,
    seed: Annotated[int, Query(ge=0, lt=SEEDS)],
) -> Response:
    """The image of a seed; always the same one, so it may be kept for ever."""
    row = _makes(opened, model, label)
    with current.generators.turn(address_of(request)):
        graph = current.generators.get(model_folder(current.settings, row))
        (image,) = graph.images([seed], label)
    return png_response(shown_picture(image, _origin(row, label, str(seed))))


def _makes(opened: Session, model: str, label: str) -> ModelVersion:
    row = find_generator(opened, model)
    if label not in GeneratorOption.of(row).labels:
        raise NotFound(
            msg(
                "This generator has no class %(label)s. Choose one of its classes.",
                label=repr(label),
            )
        )
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
    """The way from one seed's image to another's."""
    makers = generator_options(current.settings, opened)
    if not makers:
        return _nothing_made(request)
    wish = _wish(makers, model, label)
    if not (from_ and to) and not wish.faults:
        first, last = (text or secrets.randbelow(SEEDS) for text in (from_, to))
        same = {"model": wish.maker.sha256, "label": wish.label, "from": first, "to": last}
        return RedirectResponse(with_query("/gallery/between", **same), HTTPStatus.SEE_OTHER)
    first, last = wish.seed("from", from_), wish.seed("to", to)
    if not (steps.isdecimal() and len(steps) < 3 and 2 <= int(steps) <= MOST_STEPS):
        wish.faults["steps"] = msg(
            "Enter a number of images from 2 to %(most_steps)s.", most_steps=MOST_STEPS
        )
    count = STEPS if "steps" in wish.faults else int(steps)
    same = {"model": wish.maker.sha256, "label": wish.label}
    ends = {"from": first, "to": last}
    return page(
        request,
        "gallery/interpolate.html",
        _status(wish),
        makers=makers,
        wish=wish,
        names={label: label_name(label) for maker in makers for label in maker.labels},
        side=FRAME_SIDE,
        typed={"from": from_, "to": to, "steps": steps},
        ends=(first, last),
        most_seed=SEEDS - 1,
        most_steps=MOST_STEPS,
        count=count,
        strip_url=with_query("/gallery/between.png", **same, **ends, steps=count),
        end_urls=[with_query("/gallery/make", **same, seed=seed) for seed in (first, last)],
        back_url=with_query("/gallery/between", **same, **{"from": last, "to": first}, steps=count),
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
    """The images of the way side by side, in one picture."""
    row = _makes(opened, model, label)
    with current.generators.turn(address_of(request)):
        graph = current.generators.get(model_folder(current.settings, row))
        images = graph.between(from_, to, steps, label)
    return png_response(strip_picture(images, _origin(row, label, f"{from_} to {to}")))
