"""Uploads of archives: written to the disk as they arrive, and no further than the limits."""

import asyncio
from collections import namedtuple
from pathlib import Path

import pytest
from starlette.requests import Request

from app.core.errors import AppError, InvalidUpload, StorageFull, UploadTooLarge, UploadTooSlow
from app.datasets.upload import ArchiveForm, ArchiveLimits, read_archive_form
from tests.app.screenings.test_uploads import BOUNDARY, END, request

LIMITS = ArchiveLimits(max_bytes=3_000_000, min_free_bytes=0, stall_s=5.0)
# Texts and boundaries around an archive, as the limits allow for.
ENVELOPE = 2_000_000
Usage = namedtuple("Usage", "total used free")


def text(name: str, value: str) -> bytes:
    head = f'--{BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"'
    return f"{head}\r\n\r\n{value}\r\n".encode()


def file(content: bytes, name: str = "archive", filename: str = "../images.zip") -> bytes:
    head = f'--{BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"; '
    return f'{head}filename="{filename}"\r\n\r\n'.encode() + content + b"\r\n"


def read(sent: Request, folder: Path, limits: ArchiveLimits = LIMITS) -> ArchiveForm:
    return asyncio.run(read_archive_form(sent, folder, limits))


def test_archive_goes_to_its_folder_and_texts_are_read(tmp_path: Path) -> None:
    content = b"images" * 300_000
    body = text("name", "Images of spring") + file(content) + text("base", "") + END
    pieces: list[bytes | float | None] = [
        body[start : start + 65_536] for start in range(0, len(body), 65_536)
    ]
    form = read(request(pieces), tmp_path)
    assert form.fields == {"name": "Images of spring", "base": ""}
    # Whatever the sender called it, it stays in the folder.
    assert form.archive == tmp_path / "archive"
    assert form.archive.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_form_without_a_file(tmp_path: Path) -> None:
    # A browser sends an empty part without a name where nothing was chosen.
    form = read(request([text("folder", "/images") + file(b"", filename="") + END]), tmp_path)
    assert (form.archive, form.fields) == (None, {"folder": "/images"})


@pytest.mark.parametrize(
    ("pieces", "headers", "problem"),
    [
        ([file(b"")[:-2], *[b"0" * 500_000] * 20], {}, UploadTooLarge),
        ([b"never looked at"], {"content_length": "999999999"}, UploadTooLarge),
        ([file(b"start")[:-2], None], {}, InvalidUpload),
        ([file(b"two") + file(b"files") + END], {}, InvalidUpload),
        ([file(b"image", "image") + END], {}, InvalidUpload),
        ([text("name", "x" * 100_000) + END], {}, InvalidUpload),
        ([b"nonsense"], {"kind": "text/plain"}, InvalidUpload),
    ],
)
def test_form_that_is_refused(
    tmp_path: Path,
    pieces: list[bytes | float | None],
    headers: dict[str, str],
    problem: type[AppError],
) -> None:
    with pytest.raises(problem):
        read(request(pieces, **headers), tmp_path)
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left <= LIMITS.max_bytes + ENVELOPE


def test_sender_that_stalls_is_given_up(tmp_path: Path) -> None:
    limits = ArchiveLimits(max_bytes=1000, min_free_bytes=0, stall_s=0.1)
    with pytest.raises(UploadTooSlow, match="for 0 seconds"):
        read(request([file(b"start")[:-2], 60.0, END]), tmp_path, limits)


def test_slow_sender_who_sends_something_is_not(tmp_path: Path) -> None:
    limits = ArchiveLimits(max_bytes=1000, min_free_bytes=0, stall_s=0.5)
    pieces: list[bytes | float | None] = [file(b"")[:-2]]
    for _ in range(4):
        pieces += [0.2, b"x"]
    assert read(request([*pieces, b"\r\n" + END]), tmp_path, limits).archive


def test_archive_for_which_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Usage(10**9, 10**9, 2_000_000))
    # The archive has room, what is in it has not.
    with pytest.raises(StorageFull, match="Free some space"):
        read(request([file(b"images") + END], content_length="1500000"), tmp_path)
    assert not list(tmp_path.iterdir())
    assert read(request([file(b"images") + END], content_length="900"), tmp_path).archive
