"""Artefacts in a folder and in S3."""

import uuid

import pytest
from obstore.exceptions import AlreadyExistsError

from app.core.storage import Storage


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


def test_artefact_moves_and_is_replaced(storage: Storage) -> None:
    storage.put("images/a", b"first")
    assert storage.move("images/a", "trash/now/images/a")
    assert not storage.move("images/a", "trash/now/images/a")
    assert not storage.contains("images/a")
    assert storage.get("trash/now/images/a") == b"first"
    assert storage.put_unless_there("images/a", b"second")
    assert not storage.put_unless_there("images/a", b"third")
    storage.replace("images/a", b"fourth")
    assert storage.get("images/a") == b"fourth"


def test_listing_comes_in_pages(storage: Storage) -> None:
    for number in range(1003):
        storage.put(f"images/{number}", b"")
    pages = [len(page) for page in storage.pages("images")]
    assert sum(pages) == 1003
    assert max(pages) <= 1000
