"""The store of folders that are named by the hash of their content."""

import errno
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.core.content_store import ContentStore, lost_files

SHA256 = "ab" * 32


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "card.json").write_text("{}")
    (source / "images" / "1.png").write_bytes(b"image")
    return source


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "home" / "data")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def put(store: ContentStore, source: Path) -> None:
    with store.staged_copy(source) as staged:
        store.put(staged, SHA256)


def never_held() -> None:
    raise AssertionError("there was nothing to wait for")


def test_folder_is_copied_and_named(store: ContentStore, source: Path) -> None:
    put(store, source)
    assert contents(store.folder(SHA256)) == contents(source)
    assert list(store.root.iterdir()) == [store.folder(SHA256)]


def test_named_files_alone_are_copied(store: ContentStore, source: Path) -> None:
    with store.staged_copy(source, ("card.json", "missing.json")) as staged:
        assert contents(staged) == {"card.json": b"{}"}
    assert not list(store.root.iterdir())


def test_copy_that_goes_while_it_is_looked_at_stops_nobody(
    store: ContentStore, source: Path
) -> None:
    store.root.mkdir(parents=True)
    # A name that is there, and nothing behind it: as of a copy that is just being moved away.
    (store.root / ".copy-gone").symlink_to(store.root / "nowhere")
    put(store, source)
    assert contents(store.folder(SHA256)) == contents(source)


def test_copy_is_removed_after_an_error(store: ContentStore, source: Path) -> None:
    with pytest.raises(ValueError, match="damaged"), store.staged_copy(source):
        raise ValueError("damaged")
    with pytest.raises(FileNotFoundError), store.staged_copy(source / "missing"):
        pass
    assert not list(store.root.iterdir())


def test_copy_that_does_not_fit_is_not_begun(
    store: ContentStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6))
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: pytest.fail("the copy was begun"))
    with pytest.raises(OSError, match="space") as refused, store.staged_copy(source):
        pass
    assert refused.value.errno == errno.ENOSPC
    monkeypatch.undo()
    put(store, source)


def test_crash_between_copy_and_rename_leaves_no_folder_of_that_name(
    store: ContentStore, source: Path
) -> None:
    # The process is gone: nothing cleans up after it.
    crashed = store.staged_copy(source)
    left = crashed.__enter__()
    assert not store.folder(SHA256).exists()
    put(store, source)
    assert contents(store.folder(SHA256)) == contents(source)
    assert left.exists()
    os.utime(left, (time.time() - 25 * 3600,) * 2)
    with store.staged_copy(source):
        assert not left.exists()
    assert contents(store.folder(SHA256)) == contents(source)


def test_copy_in_progress_is_not_removed_as_stale(store: ContentStore, source: Path) -> None:
    with store.staged_copy(source) as first, store.staged_copy(source):
        assert contents(first) == contents(source)


def test_folder_that_a_crash_left_before_its_commit_is_replaced(
    store: ContentStore, source: Path
) -> None:
    left = store.folder(SHA256)
    left.mkdir(parents=True)
    (left / "stray").write_text("cut sho")
    put(store, source)
    assert contents(left) == contents(source)


def test_lost_and_cut_files_are_restored_once(store: ContentStore, source: Path) -> None:
    put(store, source)
    stored, held = store.folder(SHA256), []
    (stored / "images" / "1.png").unlink()
    (stored / "images").rmdir()
    (stored / "card.json").write_text("{")
    with store.staged_copy(source) as staged:
        restored = store.restore(staged, SHA256, lambda: held.append(1))
        assert restored == ["card.json", "images/1.png"]
        assert held == [1]
    assert contents(stored) == contents(source)
    with store.staged_copy(source) as staged:
        assert store.restore(staged, SHA256, never_held) == []


def test_what_another_process_restored_meanwhile_is_left_alone(
    store: ContentStore, source: Path
) -> None:
    put(store, source)
    (store.folder(SHA256) / "card.json").unlink()

    def other_restores() -> None:
        (store.folder(SHA256) / "card.json").write_text("{}")

    with store.staged_copy(source) as staged:
        assert store.restore(staged, SHA256, other_restores) == []
        assert contents(staged) == contents(source)


def test_two_that_restore_at_once_restore_every_file_once(
    store: ContentStore, source: Path
) -> None:
    for number in range(50):
        (source / "images" / f"{number}.png").write_bytes(bytes([number]) * 100)
    put(store, source)
    for path in (store.folder(SHA256) / "images").iterdir():
        path.unlink()
    begin, lock = threading.Barrier(2), threading.Lock()
    restored: list[list[str]] = []

    def restore() -> None:
        held: list[bool] = []
        with store.staged_copy(source) as staged:
            begin.wait()
            # A transaction holds its lock to the end. Who finds nothing missing takes none.
            try:
                restored.append(store.restore(staged, SHA256, lambda: held.append(lock.acquire())))
            finally:
                if held:
                    lock.release()

    threads = [threading.Thread(target=restore) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, restored)) == [0, 50]
    assert contents(store.folder(SHA256)) == contents(source)


def test_lost_files_ignore_what_only_the_stored_folder_has(source: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    (stored / "thumbnails").mkdir(parents=True)
    (stored / "thumbnails" / "1.jpg").write_text("made later")
    assert lost_files(source, stored) == ["card.json", "images/1.png"]
