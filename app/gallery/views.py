"""What the gallery's pages say of images and generators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from app.core.language import number, translated
from app.core.links import with_query
from app.gallery.generators import classes_of, model_title
from app.gallery.queries import (
    GalleryFilter,
    GeneratorCount,
    classes_in_gallery,
)
from app.gallery.tables import SyntheticImage
from app.registry.tables import ModelVersion
from ml.labels import label_name
from ml.texts import Number, msg


@dataclass(frozen=True, slots=True)
class ImageCard:
    """An image among others."""

    id: int
    url: str
    thumbnail_url: str
    model: str
    label: str
    label_name: str
    seed: str

    @classmethod
    def of(cls, image: SyntheticImage) -> Self:
        """Show a row."""
        url = f"/gallery/{image.id}"
        return cls(
            id=image.id,
            url=url,
            thumbnail_url=f"{url}/thumbnail.jpg?{_content(image)}",
            model=image.model_sha256,
            label=image.label,
            label_name=label_name(image.label),
            seed=image.seed,
        )


def _content(image: SyntheticImage) -> str:
    """In an address that is cached for ever: another database's image of this number is another."""
    return urlencode({"v": image.data_sha256[:12]})


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image on its own page."""

    card: ImageCard
    picture_url: str
    download_url: str
    generator: str
    generator_url: str
    privacy_check: list[str]
    percentile: float | None
    newer_url: str | None
    older_url: str | None
    all_url: str
    can_be_blended: bool

    @classmethod
    def of(
        cls, image: SyntheticImage, model: ModelVersion, newer: int | None, older: int | None
    ) -> Self:
        """Show a row."""
        card = ImageCard.of(image)
        whole = image.privacy_check.get("truncation", "1") == "1"
        return cls(
            card=card,
            picture_url=f"{card.url}/image.png?{_content(image)}",
            download_url=f"{card.url}/download.png?{_content(image)}",
            generator=model_title(model),
            generator_url=f"/models/{model.sha256}",
            privacy_check=describe_privacy_check(image.privacy_check),
            percentile=image.nearest_percentile,
            newer_url=f"/gallery/{newer}" if newer else None,
            older_url=f"/gallery/{older}" if older else None,
            all_url=with_query("/gallery", model=image.model_sha256, label=image.label),
            can_be_blended=bool(image.seed) and whole and image.label in classes_of(model),
        )


def describe_privacy_check(privacy_check: Mapping[str, str]) -> list[str]:
    """Sentences about how near an image comes to the images that its generator learned from."""
    if not privacy_check:
        return [msg("This image has no privacy check: it was not compared with real images.")]
    low = float(privacy_check["nearest_percentile"])
    held_out, training = (
        int(privacy_check["held_out_images"]),
        int(privacy_check["training_images"]),
    )
    words = [
        msg(
            "This image and %(held_out)s held-out real images of its class were compared with "
            "%(training)s real training images.",
            held_out=held_out,
            training=training,
        ),
        _nearness(low),
        msg(
            "By pixels this is %(pixels)s %%, by the features of a network %(features)s %%. The "
            "lower one counts.",
            pixels=Number(float(privacy_check["pixel_percentile"]), 1),
            features=Number(float(privacy_check["embedding_percentile"]), 1),
        ),
        msg("It is a near copy of a training image.")
        if privacy_check["near_copy"] == "yes"
        else msg("Neither the image nor its mirror image is a near copy of a training image."),
        _realism(float(privacy_check["realism"])),
    ]
    if privacy_check["generator_learned_from_them"] != "yes":
        words.append(
            msg("The generator was trained on other images, which may be closer to this one.")
        )
    return words


# Percent of the held-out images that come as near: from here on there is nothing to remark.
_USUAL = 5.0


def _nearness(percentile: float) -> str:
    if percentile < 1:
        return msg(
            "Less than 1 % of the held-out images are as close to a training image as this one."
        )
    share = Number(percentile)
    if percentile < _USUAL:
        return msg(
            "%(share)s %% of the held-out images are as close to a training image as this one.",
            share=share,
        )
    return msg(
        "%(share)s %% of the held-out images are as close to a training image as this one, so it "
        "is no closer than images of other people.",
        share=share,
    )


def _realism(realism: float) -> str:
    value = Number(realism, 2)
    if realism >= 1:
        return msg(
            "Realism %(value)s: the image is within the range of the training images of its class.",
            value=value,
        )
    return msg(
        "Realism %(value)s: the image is outside the range of the training images of its class.",
        value=value,
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice in one of the gallery's lists."""

    value: str
    text: str
    chosen: bool


def model_filters(
    generators_with_counts: Sequence[GeneratorCount], choice: GalleryFilter
) -> list[Filter]:
    """The generators that have images in the gallery."""
    return [
        Filter(
            count.model.sha256,
            f"{model_title(count.model)}: {number(count.total)}",
            count.model.sha256 == choice.model,
        )
        for count in generators_with_counts
        if count.total
    ]


def label_filters(
    generators_with_counts: Sequence[GeneratorCount], choice: GalleryFilter
) -> list[Filter]:
    """The classes, with the number of images of the chosen generator or of all."""
    shown = [
        count for count in generators_with_counts if choice.model in (None, count.model.sha256)
    ]
    counts = {
        label: sum(count.images.get(label, 0) for count in shown)
        for label in classes_in_gallery(shown)
    }
    return [
        Filter(label, f"{translated(label_name(label))}: {number(count)}", label == choice.label)
        for label, count in counts.items()
        if count
    ]
