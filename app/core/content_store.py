"""Folders named by the SHA-256 of their content: complete under their name, or not there.

A database row decides whether a folder counts. The folder gets its name in the transaction that
inserts the row, so a folder without a row is what a crash left, and the next registration of the
same content replaces it.
"""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.core.database import Base

_STAGED = ".copy-"
# A copy in progress is younger than this; an older one was left by a crash.
_STALE_S = 24 * 3600


class ContentStore:
    """The folders below one parent folder."""

    def __init__(self, root: Path) -> None:
        """Name the parent folder; it is made when it is first written to."""
        self.root = root

    def folder(self, sha256: str) -> Path:
        """The folder with this content; it may not exist."""
        return self.root / sha256

    @contextmanager
    def staged_copy(self, source: Path, names: Collection[str] | None = None) -> Iterator[Path]:
        """Copy files next to their destination. The copy is removed unless `put` renames it.

        Check the copy, not the source: nobody else can change it before it is stored.

        Args:
            source: the folder to copy.
            names: the files to copy; those that do not exist are skipped. All by default.

        Raises:
            OSError: the disk has no room for the copy. It is not begun then, because a disk that
                it filled for a moment would refuse everybody else's images.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_stale_copies()
        self._require_room(_size(source, names))
        copy = Path(tempfile.mkdtemp(prefix=_STAGED, dir=self.root))
        try:
            if names is None:
                shutil.copytree(source, copy, dirs_exist_ok=True)
            else:
                for name in names:
                    if (source / name).is_file():
                        shutil.copyfile(source / name, copy / name)
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def put(self, staged: Path, sha256: str) -> None:
        """Rename a staged folder to its final name; call it after inserting the row.

        Nobody else is between the insert and its commit, so whatever has the name is replaced.
        """
        target = self.folder(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)

    def restore(
        self,
        staged: Path,
        sha256: str,
        hold: Callable[[], None],
        find_lost: "FindLost | None" = None,
    ) -> list[str]:
        """Move the files that a stored folder has lost out of a staged folder.

        Args:
            staged: a folder with the same content.
            sha256: the stored folder.
            hold: makes others that restore the same folder wait, as `hold_row` does.
            find_lost: names the lost files, given the staged and the stored folder; `lost_files`
                by default.

        Returns:
            The names of the files that were moved.
        """
        find_lost, target = find_lost or lost_files, self.folder(sha256)
        if not find_lost(staged, target):
            return []
        hold()
        # Another process may have restored them while this one waited.
        lost = find_lost(staged, target)
        for name in lost:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).replace(target / name)
        return lost

    def _require_room(self, needed: int) -> None:
        if shutil.disk_usage(self.root).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def _remove_stale_copies(self) -> None:
        for copy in self.root.glob(f"{_STAGED}*"):
            # Another process may finish with its copy while this one looks.
            with suppress(FileNotFoundError):
                if copy.stat().st_mtime < time.time() - _STALE_S:
                    shutil.rmtree(copy, ignore_errors=True)


def _size(source: Path, names: Collection[str] | None) -> int:
    """Bytes of the files of a folder, or of those with these names."""
    paths = source.rglob("*") if names is None else (source / name for name in names)
    return sum(path.stat().st_size for path in paths if path.is_file())


FindLost = Callable[[Path, Path], list[str]]


def lost_files(complete: Path, stored: Path) -> list[str]:
    """The files of a complete folder that are missing in another one or have another length."""
    files = (path for path in sorted(complete.rglob("*")) if path.is_file())
    names = [path.relative_to(complete).as_posix() for path in files]
    return [name for name in names if not _is_same_length(complete / name, stored / name)]


def _is_same_length(one: Path, other: Path) -> bool:
    return other.is_file() and other.stat().st_size == one.stat().st_size


def hold_row(session: Session, table: type[Base], sha256: str) -> None:
    """Lock a row until the transaction ends, by a write that changes nothing.

    SQLite has no locks of rows: its first write locks the database.
    """
    columns = table.__table__.c
    statement = update(table).where(columns.sha256 == sha256)
    session.execute(statement.values(folder=columns.folder))
