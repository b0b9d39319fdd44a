"""ZIP files that are made while they are sent."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import anyio
from fastapi.responses import StreamingResponse

from app.core.archives import zip_response


async def _drain(response: StreamingResponse, into: io.BytesIO | None) -> int:
    length = 0
    async for piece in response.body_iterator:
        assert isinstance(piece, bytes)
        length += len(piece)
        if into:
            into.write(piece)
    return length


def test_archive_has_its_length_and_its_content(tmp_path: Path) -> None:
    entries: dict[str, Path | str] = {"folder/README.txt": "größer", "folder/empty.txt": ""}
    for number in range(50):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes([number]) * (number * 1000))
        entries[f"folder/images/{path.name}"] = path
    response, content = zip_response("images.zip", entries), io.BytesIO()
    length = anyio.run(_drain, response, content)
    assert response.headers["content-length"] == str(length)
    assert response.headers["content-disposition"] == 'attachment; filename="images.zip"'
    with zipfile.ZipFile(content) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(entries)
        assert archive.read("folder/README.txt").decode() == "größer"
        for number in range(50):
            stored = (tmp_path / f"{number}.png").read_bytes()
            assert archive.read(f"folder/images/{number}.png") == stored


def test_large_archive_is_never_whole_in_memory(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        length = anyio.run(_drain, zip_response("a.zip", {"a": large, "b": large}), None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length > 200_000_000
    assert most < 5_000_000
