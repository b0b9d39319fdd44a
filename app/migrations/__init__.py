"""Database migrations; `upgrade` brings a database to the present schema."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, func, select

import app.tables  # noqa: F401 - foreign keys lead across features
from app.core.database import Database
from app.settings import Settings

logger = logging.getLogger(__name__)

# Any number; the same one in every process.
_UPGRADE_LOCK = 746_152_001


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema; does nothing where it is there already.

    On PostgreSQL an advisory lock lets one of several starting processes work while the others
    wait; SQLite takes its write lock at the first change.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        else:
            # The driver would begin only at the first change of a row, too late for two starts.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        schema = MigrationContext.configure(connection)
        before = schema.get_current_revision()
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = schema.get_current_revision()
    if before is None:
        logger.info("created the database at schema %s", after)
    elif before != after:
        logger.info("upgraded the database from schema %s to %s", before, after)


def migrated_database(settings: Settings) -> Database:
    """The database of the settings, at the newest schema."""
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    return database


def alembic_config() -> Config:
    """Alembic's configuration; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
