"""Hospitals that a classifier learns nothing from, so that it can be measured there.

They are named in one line with commas between, each by its site or by its source. A site took the
images, a source published them. A source may have images of several sites, and several sources may
have images of one site.
"""

from collections.abc import Iterable, Sequence

from ml.data.manifest import ImageRecord
from ml.errors import DataError


def left_out_names(leave_out: str) -> tuple[str, ...]:
    """The sites and sources of a line such as "nih,bimcv"; none where it is empty."""
    return tuple(name.strip() for name in leave_out.split(",") if name.strip())


def is_left_out(record: ImageRecord, leave_out: str) -> bool:
    """Whether an image is of one of the sites or sources."""
    names = left_out_names(leave_out)
    return record.site in names or record.source in names


def images_left_out(records: Iterable[ImageRecord], leave_out: str) -> list[ImageRecord]:
    """The images of the sites and sources, in their order."""
    return [record for record in records if is_left_out(record, leave_out)]


def without_left_out(records: Sequence[ImageRecord], leave_out: str) -> list[ImageRecord]:
    """The images of all other sites and sources; all images where the line is empty.

    Raises:
        DataError: a name is neither a site nor a source of any image.
    """
    sites = {record.site for record in records}
    sources = {record.source for record in records}
    unknown = [name for name in left_out_names(leave_out) if name not in sites | sources]
    if unknown:
        raise DataError(
            f"Cannot leave out {', '.join(map(repr, unknown))}. The data set has the sites "
            f"{', '.join(sorted(sites))} and the sources {', '.join(sorted(sources))}."
        )
    return [record for record in records if not is_left_out(record, leave_out)]
