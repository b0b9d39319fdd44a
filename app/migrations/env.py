"""Alembic runs this file; the connection is handed over by `app.migrations.upgrade`."""

from alembic import context

from app import tables
from app.core.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

# The tables of the metadata are defined by importing them.
assert tables.Screening.__tablename__ in Base.metadata.tables
