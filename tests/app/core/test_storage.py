"""Artefacts in a folder and in S3, and the clean-up of images without a screening."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from moto.server import ThreadedMotoServer
from obstore.exceptions import AlreadyExistsError
from starlette.testclient import TestClient

from app.core.storage import Storage
from app.screenings.cleanup import remove_orphaned_images
from app.screenings.stored_images import STORED_IMAGES, image_key


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A bucket on a local stand-in for S3."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="xray")
    client.close()
    yield "s3://xray/prefix"
    patch.undo()
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage.open((tmp_path / "artefacts").as_uri())
    return Storage.open(request.getfixturevalue("s3_url"))


def test_artefact_is_written_once_read_and_removed(storage: Storage) -> None:
    key = f"images/{uuid.uuid4()}/image"
    assert storage.get(key) is None
    storage.put(key, b"first")
    with pytest.raises(AlreadyExistsError):
        storage.put(key, b"second")
    assert storage.get(key) == b"first"
    assert key in [entry.key for entry in storage.entries("images")]
    storage.check()
    storage.delete(key)
    storage.delete(key)
    assert storage.get(key) is None


def test_unknown_storage_is_named() -> None:
    with pytest.raises(ValueError, match="XRAY_STORAGE_URL"):
        Storage.open("ftp://somewhere")


def test_clean_up_removes_only_images_without_a_screening(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    services = application.state.services
    visitor.post("/screenings", files={"image": image_bytes})
    kept = {entry.key for entry in services.storage.entries(STORED_IMAGES)}
    orphan = image_key(uuid.uuid4())
    services.storage.put(orphan, b"left by a crash")
    # It may belong to a screening that is being recorded.
    assert remove_orphaned_images(services.database, services.storage) == 0
    assert remove_orphaned_images(services.database, services.storage, grace=timedelta(0)) == 1
    assert {entry.key for entry in services.storage.entries(STORED_IMAGES)} == kept
