"""The table of synthetic images."""

from enum import StrEnum

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, enum_values


class Visibility(StrEnum):
    """Who sees an image of the gallery."""

    PUBLIC = "public"
    HIDDEN = "hidden"  # admins only
    REMOVED = "removed"  # nobody; the row keeps the image from being added again


class SyntheticImage(Base):
    """An image of the gallery."""

    __tablename__ = "synthetic_image"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model_sha256: Mapped[str] = mapped_column(ForeignKey("model_version.sha256"))
    data_sha256: Mapped[str] = mapped_column(ForeignKey("data_version.sha256"))
    label: Mapped[str] = mapped_column(String(50))
    seed: Mapped[str] = mapped_column(String(20))  # 0 to 2^32-1; empty where it is not known
    image: Mapped[str] = mapped_column(String(200))  # in the folder of the data version
    nearest_percentile: Mapped[float | None]  # None: compared with no real image
    privacy_check: Mapped[dict[str, str]] = mapped_column(JSON)
    visibility: Mapped[Visibility] = mapped_column(
        enum_values(Visibility), default=Visibility.PUBLIC
    )

    # The gallery's pages: newest first, all or of a model, of all classes or one.
    __table_args__ = (
        UniqueConstraint("data_sha256", "image"),
        Index(None, "model_sha256", "label", "id"),
        Index(None, "label", "id"),
    )
