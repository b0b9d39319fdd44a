"""Delete runs that have ended, with their files."""

import shutil
import uuid

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.database import affected_rows
from app.core.disk_use import folder_bytes
from app.core.errors import Conflict
from app.datasets.tables import DataVersion
from app.registry.tables import Comparison, ModelVersion
from app.runs.files import run_folder
from app.runs.queue import ENDED, get_run
from app.runs.tables import Run
from app.settings import Settings
from ml.texts import msg


def delete_run(session: Session, settings: Settings, id: uuid.UUID, *, by: str) -> int:
    """Delete a run and its files; commits. Models and data sets that it registered stay.

    Returns:
        The disk space that was freed, in bytes.

    Raises:
        NotFound: there is no such run.
        Conflict: it is queued or running.
    """
    run = get_run(session, id)
    for table in (ModelVersion, Comparison, DataVersion):
        session.execute(update(table).where(table.run_id == id).values(run_id=None))
    ended = delete(Run).where(Run.id == id, Run.status.in_(ENDED))
    session.expunge(run)
    if not affected_rows(session, ended):
        session.rollback()
        raise Conflict(msg("The run has not ended. Cancel it first."))
    folder = run_folder(settings, id)
    freed = folder_bytes(folder)
    detail = {"run_type": run.run_type, "name": run.name, "freed_bytes": freed}
    session.add(AuditEvent(actor=by, action="run.deleted", subject=str(id), detail=detail))
    session.commit()
    # The row is gone, so nothing leads to the files any more.
    shutil.rmtree(folder, ignore_errors=True)
    return freed
