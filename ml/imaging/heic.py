"""HEIC photographs, as phones take them of a screen; read where the extra `heic` is installed."""

from ml.imaging.types import UnreadableImage


def prepare_heic() -> None:
    """Let Pillow read HEIC by libheif: the primary picture, turned as its container says.

    Raises:
        UnreadableImage: the extra is not installed; the message says how to convert the file.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError as missing:
        raise not_read() from missing
    # Pillow's `draft` would take an embedded thumbnail for the picture otherwise.
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def not_read() -> UnreadableImage:
    """The refusal of a photograph whose format is not read."""
    return UnreadableImage(
        "HEIC and AVIF photographs are not read. Convert the file to JPEG: open it in the "
        "photograph viewer of the phone or computer and export it as JPEG.",
        "not-an-image",
    )
