"""Telling a full disk from other errors, whatever layer reports it."""

import errno
import sqlite3

from obstore.exceptions import BaseError
from sqlalchemy.exc import DBAPIError

from app.core.errors import StorageFull
from ml.texts import msg

_FULL = (errno.ENOSPC, errno.EDQUOT)
# SQLite reports a full disk under these names, depending on which of its files could not grow.
_SQLITE_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE")
_POSTGRESQL_FULL = "53100"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error of a file, the database or the storage means that a disk is full."""
    match error:
        case DBAPIError():
            return is_disk_full(error.orig)
        case sqlite3.Error():
            return getattr(error, "sqlite_errorname", "") in _SQLITE_FULL
        case OSError(errno=code) if code is not None:
            return code in _FULL
        case BaseError():
            # The storage's errors carry the number in their text alone.
            return any(f"(os error {number})" in str(error) for number in _FULL)
    return getattr(error, "sqlstate", None) == _POSTGRESQL_FULL


def storage_full() -> StorageFull:
    """The error that a person sees."""
    return StorageFull(
        msg(
            "The server has no disk space left, so nothing was saved. Delete screenings "
            "that you no longer need, or ask the server's operator to free some space, "
            "and try again."
        )
    )
