"""The images that a form of the gallery selects."""

from typing import Annotated

from fastapi import Depends, Request

from app.core.multipart import read_fields
from app.core.security import require_same_origin
from app.gallery.download import MOST_IMAGES

# Room for the numbers of all images that may be selected.
_LARGEST_FORM = 16 * MOST_IMAGES + 10_000


async def posted_fields(request: Request) -> dict[str, list[str]]:
    """A form sent from our own pages."""
    require_same_origin(request.headers)
    return await read_fields(request, _LARGEST_FORM)


PostedFields = Annotated[dict[str, list[str]], Depends(posted_fields)]


def selected_ids(fields: PostedFields) -> list[int]:
    """The numbers of the images in the form: boxes that are ticked, or a script's list."""
    texts = ",".join([*fields.get("image", []), *fields.get("images", [])]).split(",")
    # What is no number of an image is no image: nothing is lost by leaving it out.
    return sorted(
        {int(one) for one in texts if one.isascii() and one.isdecimal() and len(one) < 10}
    )


SelectedIds = Annotated[list[int], Depends(selected_ids)]
