"""Files that are written in one step."""

import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from ml import files
from ml.files import write_whole


def test_bytes_text_and_writers_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_whole(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()

    def write(file: BinaryIO) -> None:
        file.write(b"a")
        file.write(b"b")

    write_whole(path, write)
    assert path.read_bytes() == b"ab"
    assert list(tmp_path.iterdir()) == [path]


def test_old_content_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(files.os, "fsync", sync)
    write_whole(path, b"content")
    assert synced == [(7, False)]


@pytest.mark.parametrize(("private", "mode"), [(False, 0o640), (True, 0o600)])
def test_rights_follow_the_umask_unless_the_file_is_private(
    tmp_path: Path, private: bool, mode: int
) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"", private=private)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_rest_of_a_crash_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_bytes(b"the longer rest of a crash")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writers_of_one_file_do_not_mix_their_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([65 + number]) * 100_000 for number in range(6)]

    def write(content: bytes) -> None:
        for _ in range(10):
            write_whole(path, lambda file: [file.write(content[:50_000]), file.write(content)])
            whole = path.read_bytes()
            assert len(whole) == 150_000
            assert len(set(whole)) == 1

    failures: list[BaseException] = []

    def run(content: bytes) -> None:
        try:
            write(content)
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=run, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
