"""Where the pictures of a screening are stored."""

import uuid

# Keys in the storage never change: this prefix and the name below are those of version 0.1.0.
STORED_IMAGES = "films"


def image_key(screening_id: uuid.UUID) -> str:
    """The image for the viewer."""
    return f"{STORED_IMAGES}/{screening_id}/film"


def thumbnail_key(screening_id: uuid.UUID) -> str:
    """The small picture for lists."""
    return f"{STORED_IMAGES}/{screening_id}/thumbnail"
