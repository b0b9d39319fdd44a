"""Data set versions: frozen data sets under the hash of their content; they never change."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

import ml
from app.core.audit import AuditEvent
from app.core.content_store import ContentStore, hold_row, lost_files
from app.core.database import insert_unless_there, now
from app.core.errors import InvalidForm, NotFound
from app.datasets.tables import DataKind, DataVersion
from app.settings import Settings
from ml.data.manifest import DEMONSTRATION
from ml.data.versioning import read_version, verify_version
from ml.texts import msg

LONGEST_NAME = 200
# Images of our own generator, for a machine that has no others.
SHIPPED = Path(ml.__file__).parent / DEMONSTRATION
DEMONSTRATION_NAME = "Demonstration set"
DEMONSTRATION_ACTOR = "first start"


def register_data(
    session: Session,
    settings: Settings,
    source_folder: Path,
    *,
    name: str,
    kind: DataKind,
    by: str,
    run_id: uuid.UUID | None = None,
    parent_sha256: str | None = None,
) -> DataVersion:
    """Make a frozen data set a version; the same content again is the version that is there.

    A version whose folder lost files, as when a database was restored without it, gets them back.

    Args:
        session: the database; the version is there for others when it commits.
        settings: name the home folder.
        source_folder: frozen by `ml.data.versioning.freeze`. From within the home folder it is
            moved away,
            as a run's output that has no further use; from elsewhere it is copied.
        name: what people call it.
        kind: whose images it has.
        by: who made it, for the audit log.
        run_id: the run that made it.
        parent_sha256: the version that it is based on.

    Raises:
        InvalidForm: no name, or one that is too long.
        DataError: the folder is not frozen, or one from elsewhere was changed since.
    """
    summary = read_version(source_folder)
    sha256 = summary.sha256
    version = DataVersion(
        sha256=sha256,
        kind=kind,
        name=checked_name(name),
        folder=settings.home_folder.relative(settings.home_folder.data_set(sha256)),
        images=summary.images,
        summary=summary.as_json(),
        created_at=now(),
        created_by=by,
        run_id=run_id,
        # A set that gained nothing is its parent still.
        parent_sha256=parent_sha256 if parent_sha256 != sha256 else None,
        quiz_allowed=False,
    )
    store = ContentStore(settings.home_folder.data_sets)
    # The copy comes before the first write: SQLite has one writer at a time.
    with _staged(store, settings, source_folder) as staged:
        if insert_unless_there(session, version):
            store.put(staged, sha256)
            detail = {"name": version.name, "images": version.images}
            session.add(
                AuditEvent(actor=by, action="data.registered", subject=sha256, detail=detail)
            )
        elif staged != store.folder(sha256):
            if store.restore(staged, sha256, lambda: hold_row(session, DataVersion, sha256)):
                session.add(AuditEvent(actor=by, action="data.restored", subject=sha256))
            shutil.rmtree(staged)
    return find_data(session, sha256)


@contextmanager
def _staged(store: ContentStore, settings: Settings, source: Path) -> Iterator[Path]:
    """The folder where it can be renamed into the store: itself in the home folder, or a copy."""
    source, home = source.resolve(), settings.home_folder.root
    if source.is_relative_to(home) and source.stat().st_dev == home.stat().st_dev:
        yield source
        return
    with store.staged_copy(source) as copy:
        verify_version(copy)
        yield copy


def ensure_demonstration(session: Session, settings: Settings) -> DataVersion:
    """Register the demonstration set that is shipped, unless it is there already, with its images.

    Raises:
        DataError: what is shipped was changed.
    """
    known = session.get(DataVersion, read_version(SHIPPED).sha256)
    if known and not lost_files(SHIPPED, data_folder(settings, known)):
        return known
    return register_data(
        session,
        settings,
        SHIPPED,
        name=DEMONSTRATION_NAME,
        kind=DataKind.IMAGES,
        by=DEMONSTRATION_ACTOR,
    )


def data_folder(settings: Settings, version: DataVersion) -> Path:
    """Where a version's manifest, images and summary lie."""
    return settings.home_folder.resolve(version.folder)


def list_data(session: Session, kind: DataKind | None = None) -> list[DataVersion]:
    """All versions, newest first; of one kind if it is given."""
    query = select(DataVersion).order_by(DataVersion.created_at.desc(), DataVersion.sha256)
    if kind is not None:
        query = query.where(DataVersion.kind == kind)
    return list(session.scalars(query))


def find_data(session: Session, sha256: str) -> DataVersion:
    """Fetch a version.

    Raises:
        NotFound: there is no such version.
    """
    version = session.get(DataVersion, sha256)
    if version is None:
        raise NotFound(msg("This data set does not exist. See the list of data sets."))
    return version


def rename_data(session: Session, version: DataVersion, name: str, *, by: str) -> None:
    """Call a version something else; its content stays.

    Raises:
        InvalidForm: no name, or one that is too long.
    """
    version.name = checked_name(name)
    session.add(
        AuditEvent(
            actor=by, action="data.renamed", subject=version.sha256, detail={"name": version.name}
        )
    )


def allow_in_quiz(session: Session, version: DataVersion, allowed: bool, *, by: str) -> None:
    """Let "Real or synthetic?" show the version's images to anybody, or stop it."""
    version.quiz_allowed = allowed
    action = "data.quiz-allowed" if allowed else "data.quiz-forbidden"
    session.add(AuditEvent(actor=by, action=action, subject=version.sha256))


def checked_name(name: str) -> str:
    """The name of a version without needless blanks.

    Raises:
        InvalidForm: it is empty or too long.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidForm(
            {
                "name": msg(
                    "Enter a name of 1 to %(longest_name)s characters.", longest_name=LONGEST_NAME
                )
            }
        )
    return name
