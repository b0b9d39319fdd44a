"""ZIP files that are made while they are sent: one piece at a time is in memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fastapi.responses import StreamingResponse
from zipstream import ZipStream

# Each piece is a hop between threads, and the headers of small files are tiny.
_PIECE_BYTES = 256 * 1024


def zip_response(filename: str, entries: Mapping[str, Path | str]) -> StreamingResponse:
    """A ZIP file to download, with its length, so that browsers show the progress.

    Nothing is compressed: images and weights would not get smaller.

    Args:
        filename: the name that browsers save it under.
        entries: name in the archive -> a file, or text.
    """
    archive = ZipStream(sized=True)
    for name, content in entries.items():
        if isinstance(content, Path):
            archive.add_path(content, name)
        else:
            archive.add(content, name)
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Content-Length": str(len(archive)),
    }
    return StreamingResponse(_in_pieces(archive), media_type="application/zip", headers=headers)


def _in_pieces(archive: ZipStream) -> Iterator[bytes]:
    piece = bytearray()
    for part in archive:
        piece += part
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
