"""What `backup.json` of a snapshot says."""

from datetime import datetime
from typing import Literal

from ml.json_model import JsonModel

DatabaseKind = Literal["sqlite", "postgresql"]
DATABASE_FILES: dict[DatabaseKind, str] = {
    "sqlite": "database.db",
    "postgresql": "database.dump",
}


class BackupManifest(JsonModel):
    """A snapshot's description; it is written last.

    Attributes:
        format: of the folder; this version writes and reads 1.
        created_at: when the backup was begun, in UTC; the database is of this time or later.
        version: of the application.
        database: what the database file is a copy of.
        database_sha256: of the database file.
        index_sha256: of the list of files.
        files: how many there are.
        bytes: of all files together.
    """

    format: Literal[1] = 1
    created_at: datetime
    version: str
    database: DatabaseKind
    database_sha256: str
    index_sha256: str
    files: int
    bytes: int

    @property
    def database_file(self) -> str:
        """Name of the copy of the database, in the snapshot's folder."""
        return DATABASE_FILES[self.database]
