"""Where the pictures of a screening are stored."""

import uuid

# Keys in the storage never change: this prefix and the name below are those of version 0.1.0.
STORED_IMAGES = "films"
_IMAGE, _THUMBNAIL = "film", "thumbnail"


def image_key(screening_id: uuid.UUID) -> str:
    """The image for the viewer."""
    return f"{STORED_IMAGES}/{screening_id}/{_IMAGE}"


def thumbnail_key(screening_id: uuid.UUID) -> str:
    """The small picture for lists."""
    return f"{STORED_IMAGES}/{screening_id}/{_THUMBNAIL}"


def screening_of(key: str) -> uuid.UUID | None:
    """The screening whose image or thumbnail has this key; None for any other key."""
    match key.split("/"):
        case [prefix, id, name] if prefix == STORED_IMAGES and name in (_IMAGE, _THUMBNAIL):
            try:
                found = uuid.UUID(id)
            except ValueError:
                return None
            return found if str(found) == id else None
    return None
