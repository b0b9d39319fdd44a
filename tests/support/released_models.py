"""The models that the application is shipped with, registered once and given to many tests.

A first start registers them in the background: it loads each in a child process, which takes
longer than most tests.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select

from app.core.audit import AuditEvent
from app.core.database import Base, Database
from app.migrations import migrated_database
from app.registry.registration import register_released
from app.registry.tables import ModelVersion
from app.settings import Settings

_TABLES: tuple[type[Base], ...] = (ModelVersion, AuditEvent)


@dataclass(frozen=True, slots=True)
class ReleasedModels:
    """What registering them left behind.

    Attributes:
        folder: with a folder for each model.
        rows: of each table.
    """

    folder: Path
    rows: Mapping[Table, Sequence[Mapping[str, Any]]]

    @classmethod
    def registered_in(cls, home: Path) -> "ReleasedModels":
        """Register them in a new home folder."""
        settings = Settings(_env_file=None, home=home)
        database = migrated_database(settings)
        register_released(database, settings)
        with database.engine.connect() as connection:
            rows = {
                table: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in (Base.metadata.tables[one.__tablename__] for one in _TABLES)
            }
        database.close()
        return cls(settings.home_folder.models, rows)

    def install(self, settings: Settings) -> None:
        """Give them to an installation that has its tables and no models yet."""
        shutil.copytree(self.folder, settings.home_folder.models, copy_function=os.link)
        database = Database(settings.effective_database_url)
        with database.engine.begin() as connection:
            for table, rows in self.rows.items():
                connection.execute(insert(table), rows)
        database.close()
