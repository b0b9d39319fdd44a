"""The images of the gallery: how they come into it, and how they are found again, page by page."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, defer

from app.core.pagination import Page, paginate_merged
from app.gallery.generators import labels_made_by
from app.gallery.tables import SyntheticImage, Visibility
from app.registry.tables import ModelKind, ModelVersion
from ml.labels import ordered_labels

PAGE_SIZE = 60


@dataclass(frozen=True, slots=True)
class GalleryFilter:
    """Which images of the gallery: of one generator or all, of one class or all.

    Attributes:
        model: SHA-256 of the generator.
        label: the class.
        visibility: public ones, or those that only admins see.
    """

    model: str | None = None
    label: str | None = None
    visibility: Visibility = Visibility.PUBLIC


def gallery_page(
    session: Session, choice: GalleryFilter, cursor: str | None, size: int
) -> Page[SyntheticImage]:
    """One page of the images of a choice, newest first.

    Raises:
        NotFound: the cursor is not valid.
    """
    return paginate_merged(session, queries(session, choice), (SyntheticImage.id,), cursor, size)


def queries(session: Session, choice: GalleryFilter) -> list[Select[SyntheticImage]]:
    """Queries that together find the images of a choice, each in the order of an index.

    The index of a generator's images begins with the class, so that images of all classes take one
    query per class.
    """
    query = (
        select(SyntheticImage)
        .options(defer(SyntheticImage.privacy_check))
        .where(SyntheticImage.visibility == choice.visibility)
    )
    if choice.model is not None:
        query = query.where(SyntheticImage.model_sha256 == choice.model)
    if choice.label is not None:
        return [query.where(SyntheticImage.label == choice.label)]
    if choice.model is None:
        return [query]
    model = session.get(ModelVersion, choice.model)
    labels = labels_made_by(model) if model else ()
    return [query.where(SyntheticImage.label == label) for label in labels]


def neighbours(session: Session, image: SyntheticImage) -> tuple[int | None, int | None]:
    """The next newer and older image of the same generator, class and visibility."""
    alike = select(SyntheticImage.id).where(
        SyntheticImage.model_sha256 == image.model_sha256,
        SyntheticImage.label == image.label,
        SyntheticImage.visibility == image.visibility,
    )
    newer = alike.where(SyntheticImage.id > image.id).order_by(SyntheticImage.id).limit(1)
    older = alike.where(SyntheticImage.id < image.id).order_by(SyntheticImage.id.desc()).limit(1)
    return session.scalar(newer), session.scalar(older)


@dataclass(frozen=True, slots=True)
class GeneratorCount:
    """A generator and how many images of each class the gallery has of it."""

    model: ModelVersion
    images: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Images of all classes."""
        return sum(self.images.values())


def generators_with_counts(
    session: Session, visibility: Visibility = Visibility.PUBLIC
) -> list[GeneratorCount]:
    """All generators, the newest first, also those that have no such image in the gallery."""
    generators = select(ModelVersion).where(ModelVersion.kind == ModelKind.GENERATOR)
    in_order = generators.order_by(ModelVersion.registered_at.desc(), ModelVersion.sha256)
    found = {model.sha256: GeneratorCount(model) for model in session.scalars(in_order)}
    kinds = (SyntheticImage.model_sha256, SyntheticImage.label)
    shown = select(*kinds, func.count()).where(SyntheticImage.visibility == visibility)
    for sha256, label, count in session.execute(shown.group_by(*kinds)):
        found[sha256].images[label] = count
    return list(found.values())


def classes_in_gallery(counts: Iterable[GeneratorCount]) -> tuple[str, ...]:
    """The classes that generators make or have made images of."""
    return ordered_labels(
        label for count in counts for label in (*count.images, *labels_made_by(count.model))
    )
