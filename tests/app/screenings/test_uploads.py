"""Hostile uploads: choice of codec, parts over the limit, stalled senders, full disks."""

import asyncio
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.testclient import TestClient
from starlette.types import Message

from app.core.admission import Caller, CallerKind, Places
from app.core.database import now
from app.core.errors import Busy, InvalidUpload, StorageFull, UploadTooLarge, UploadTooSlow
from app.core.spool import SpoolRoom
from app.core.storage import Storage
from app.screenings.uploads import Intake, Pace
from ml.imaging.decode import read_image
from ml.imaging.png import grey_png
from ml.imaging.types import UnreadableImage
from tests.support import REPOSITORY
from tests.support.images import jpeg, synthetic_image

BOUNDARY = b"x" * 16


def part(content: bytes, name: str = "image") -> bytes:
    head = f'--{BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"; filename="f"'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def request(pieces: list[bytes | float | None], **headers: str) -> Request:
    """A request whose body arrives in pieces; a number is a pause, None the sender's leaving."""
    left = list(pieces)

    async def receive() -> Message:
        while left:
            piece = left.pop(0)
            if piece is None:
                return {"type": "http.disconnect"}
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": bool(left)}
            await asyncio.sleep(piece)
        return {"type": "http.request", "body": b"", "more_body": False}

    kind = headers.pop("kind", f"multipart/form-data; boundary={BOUNDARY.decode()}")
    raw = [(b"content-type", kind.encode())]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


CLINIC = Caller(CallerKind.KEY, "clinic")


UNHURRIED = Pace(5.0, 1)


def new_intake(places: int = 4, pace: Pace = UNHURRIED, spool: Path | None = None) -> Intake:
    return Intake(Places(places, dict.fromkeys(CallerKind, places)), pace, SpoolRoom(spool))


def read(
    sent: Request, *, intake: Intake | None = None, most: int = 2, max_bytes: int = 1000
) -> list[bytes]:
    async def run() -> list[bytes]:
        reader = intake or new_intake()
        async with reader.images(sent, CLINIC, most=most, max_bytes=max_bytes) as form:
            return [await image.read() for image in form.images]

    return asyncio.run(run())


END = b"--" + BOUNDARY + b"--\r\n"


def test_images_are_read_and_other_fields_left_alone() -> None:
    body = part(b"one") + part(b"ignored", "other") + part(b"two") + END
    assert read(request([body]), most=3) == [b"one", b"two"]


def test_file_in_another_field_is_refused_with_the_right_name() -> None:
    with pytest.raises(InvalidUpload, match='Send the file in the field "image"'):
        read(request([part(b"one", "film") + END]))


def test_more_files_than_allowed_are_refused() -> None:
    with pytest.raises(InvalidUpload, match="more than 2 file"):
        read(request([part(b"1") + part(b"2") + part(b"3") + END]))


@pytest.mark.parametrize(
    "body", [b"nonsense", b"--" + BOUNDARY + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END]
)
def test_form_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidUpload, match="cannot be read"):
        read(request([body]))
    with pytest.raises(InvalidUpload, match="no boundary"):
        read(request([body], kind="multipart/form-data"))


@pytest.mark.parametrize("charset", ["punycode", "undefined", "utf-7", '"x', "latin-1"])
def test_sender_does_not_choose_the_codec(charset: str) -> None:
    kind = f"multipart/form-data; charset={charset}; boundary={BOUNDARY.decode()}"
    start = time.monotonic()
    with pytest.raises(InvalidUpload):
        read(request([part(b"a-" * 400_000) + END], kind=kind), max_bytes=10**6)
    assert time.monotonic() - start < 2


def test_part_over_the_limit_is_refused_while_it_arrives() -> None:
    endless: list[bytes | float | None] = [part(b"")[:-2], *[b"0" * 500] * 1000]
    with pytest.raises(UploadTooLarge):
        read(request(endless), most=16)
    with pytest.raises(UploadTooLarge):
        read(request([b"never looked at"], content_length="999999999"))


def test_sender_that_stalls_is_cut_off() -> None:
    with pytest.raises(UploadTooSlow):
        read(request([part(b"start"), 60.0, END]), intake=new_intake(pace=Pace(0.2, 1)))


def test_sender_that_is_too_slow_is_cut_off_and_frees_its_place() -> None:
    # A byte now and then, for as long as anyone listens.
    drops: list[bytes | float | None] = [part(b"")[:-2], *[0.01, b"0"] * 5000]
    intake = new_intake(places=1, pace=Pace(60.0, 10_000, window_s=0.2))
    with pytest.raises(UploadTooSlow, match="slower than 10,000 bytes per second") as refused:
        read(request(drops), intake=intake)
    assert refused.value.headers["Connection"] == "close"
    assert read(request([part(b"1") + END]), intake=intake) == [b"1"]


def test_steady_sender_may_take_several_windows() -> None:
    steady: list[bytes | float | None] = [part(b"")[:-2], *[0.05, b"0" * 100] * 10, b"\r\n", END]
    intake = new_intake(pace=Pace(60.0, 100, window_s=0.5))
    assert read(request(steady), intake=intake, max_bytes=2000) == [b"0" * 1000]


def test_room_for_a_body_is_checked_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(total=100_000_000, free=6_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    async def run() -> None:
        spool = SpoolRoom(tmp_path)
        with spool.promised(4_000_000) as room:
            with pytest.raises(StorageFull, match="no room to receive 4 MB"):
                spool.promised(4_000_000).__enter__()
            with spool.promised(1_000_000):
                pass
            room.kept(3_000_000)
            with spool.promised(4_000_000):
                pass
        # Visitors leave room to clinics.
        with spool.promised(4_000_000), pytest.raises(StorageFull):
            spool.promised(1_500_000, leave=1_000_000).__enter__()
        never_read = request([b"never looked at"], content_length="9000000")
        with pytest.raises(StorageFull):
            async with new_intake(spool=tmp_path).images(
                never_read, CLINIC, most=1, max_bytes=10_000_000
            ):
                pass

    asyncio.run(run())


def test_sender_that_leaves_is_no_fault_of_ours() -> None:
    with pytest.raises(InvalidUpload, match="interrupted"):
        read(request([part(b"start"), None]))


def test_too_many_senders_at_once_are_turned_away() -> None:
    async def run() -> None:
        intake, reading = new_intake(places=1), asyncio.Event()

        async def hold() -> None:
            held = intake.images(request([part(b"1") + END]), CLINIC, most=1, max_bytes=1000)
            async with held:
                reading.set()
                await done.wait()

        done = asyncio.Event()
        slow = asyncio.create_task(hold())
        await reading.wait()
        with pytest.raises(Busy):
            async with intake.images(request([part(b"2") + END]), CLINIC, most=1, max_bytes=1000):
                pass
        done.set()
        await slow

    asyncio.run(run())


def test_disconnect_is_what_starlette_raises() -> None:
    async def run() -> None:
        async for _ in request([None]).stream():
            pass

    with pytest.raises(ClientDisconnect):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("/sign-in", "application/x-www-form-urlencoded"),
        ("/sign-in", f"multipart/form-data; boundary={BOUNDARY.decode()}"),
        ("/admin/users", "application/x-www-form-urlencoded"),
        ("/api/v1/screenings/00000000-0000-4000-8000-000000000000/review", "application/json"),
    ],
)
@pytest.mark.parametrize("length_is_known", [True, False])
def test_strangers_form_is_not_read_without_end(
    visitor: TestClient, address: str, kind: str, length_is_known: bool
) -> None:
    # Fields and files of a size that each by itself is taken.
    piece = part(bytes(100_000), "name") if "multipart" in kind else b"&name=" + bytes(100_000)
    content = piece * 20 if length_is_known else iter([piece] * 20)
    sent = visitor.post(address, content=content, headers={"Content-Type": kind})
    assert sent.status_code == 413


def test_jpeg_of_thousands_of_scans_is_refused_at_once() -> None:
    image = jpeg(synthetic_image(np.random.default_rng(0), 200, 200), progressive=True)
    assert read_image(image).format == "JPEG"
    last_scan = image[image.rindex(b"\xff\xda") : -2]
    hostile = image[:-2] + last_scan * 5000 + image[-2:]
    start = time.monotonic()
    with pytest.raises(UnreadableImage) as refused:
        read_image(hostile)
    assert refused.value.code == "too-slow"
    assert time.monotonic() - start < 1


def test_pattern_is_not_stored_at_full_size() -> None:
    tile = np.random.default_rng(0).integers(0, 255, (8, 64), dtype=np.uint8)
    assert len(grey_png(np.tile(tile, (128, 16)))) < 100_000


def test_full_disk_refuses_images_and_still_deletes(
    application: FastAPI,
    visitor: TestClient,
    image_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    monkeypatch.setattr("app.core.storage.Storage.free_bytes", lambda _: 1e6)
    refused = visitor.post("/screenings", files={"image": image_bytes})
    assert refused.status_code == 507
    assert visitor.post(f"{address}/delete").status_code == 303
    assert visitor.get(address).status_code == 404


def test_storage_that_fails_on_deletion_is_no_error_for_the_visitor(
    application: FastAPI,
    visitor: TestClient,
    image_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from app.screenings.cleanup import remove_orphaned_images

    services = application.state.services
    # Where most images are unknown, none is removed.
    for _ in range(2):
        visitor.post("/screenings", files={"image": image_bytes})
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]

    def fail(*_: object) -> None:
        raise PermissionError("read-only")

    with monkeypatch.context() as broken:
        broken.setattr("app.core.storage.Storage.delete", fail)
        assert visitor.post(f"{address}/delete").status_code == 303
    assert visitor.get(f"{address}/image").status_code == 404
    cleaned = remove_orphaned_images(services.database, services.storage, grace=timedelta(0))
    assert cleaned.moved == 2


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path.as_uri())
    storage.put("images/a/image", b"whole")
    (tmp_path / "images" / "a" / "image#1").write_bytes(b"half")
    (tmp_path / "images" / "b" / "c").mkdir(parents=True)
    assert storage.remove_leftovers(now() - timedelta(hours=1)) == 0
    assert (tmp_path / "images" / "b" / "c").exists()
    assert storage.remove_leftovers(now() + timedelta(seconds=1)) == 1
    assert storage.get("images/a/image") == b"whole"
    assert not (tmp_path / "images" / "b").exists()


def test_inference_calls_nobody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry writes a session file to the temporary folder when it is on."""
    program = (
        "import time; from ml.classifier.bundle import PRETRAINED; from ml.classifier.predictor "
        "import Predictor;"
        "Predictor.load(PRETRAINED); time.sleep(0.5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0
    assert not list(tmp_path.rglob("*"))


def test_private_answers_are_kept_in_no_cache(visitor: TestClient, image_bytes: bytes) -> None:
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    for path in ("/", "/screenings", address, f"{address}/image", f"{address}/thumbnail"):
        assert "no-store" in visitor.get(path).headers["cache-control"]
