"""The list of screenings as a CSV file."""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from app.accounts.owner import Owner
from app.accounts.tables import User
from app.core.database import Database
from app.screenings.filters import ScreeningFilter
from app.screenings.queries import screenings_page
from app.screenings.reviews import hidden_reviews, reviewed_labels
from app.screenings.tables import Screening
from app.screenings.thresholds import thresholds_of, why_uncertain
from ml.data.table_text import csv_line
from ml.imaging.image_warnings import read_warnings, warning_columns

_ROWS_AT_ONCE = 200
COLUMNS = (
    "screened_at",
    "reference",
    "label",
    "decision",
    "uncertain_because",
    "probability",
    "probabilities",
    "ood_score",
    "review",
    "warnings",
    "warning_codes",
    "model_version",
    "model_sha256",
    "image_sha256",
    "id",
)


def csv_rows(
    database: Database, owner: Owner, chosen: ScreeningFilter, user: User | None
) -> Iterator[str]:
    """The lines of the file, in the order of the list.

    A review that the user must not know yet is left out.

    Args:
        database: is asked page by page, with its own connection.
        owner: whose screenings.
        chosen: which of them.
        user: who downloads it.
    """
    yield csv_line(COLUMNS)
    cursor: str | None = None
    while True:
        with database.sessions() as session:
            found = screenings_page(session, owner, cursor, _ROWS_AT_ONCE, chosen=chosen)
            lines = list(_lines(session, found.rows, user))
        yield from lines
        cursor = found.next_cursor
        if cursor is None:
            return


def _lines(session: Session, rows: Sequence[Screening], user: User | None) -> Iterator[str]:
    ids = [row.id for row in rows]
    reviewed = reviewed_labels(session, ids)
    hidden = hidden_reviews(session, ids, user) if user else set()
    thresholds = thresholds_of(session, rows)
    for row in rows:
        codes, texts = warning_columns(read_warnings(row.warnings))
        yield csv_line(
            [
                row.created_at.isoformat(timespec="seconds"),
                row.reference or "",
                row.label,
                row.decision,
                why_uncertain(row, thresholds[row.id]),
                f"{max(row.probabilities.values()):.4f}",
                " ".join(f"{label}={value:.4f}" for label, value in row.probabilities.items()),
                f"{row.ood_score:.3f}",
                "" if row.id in hidden else reviewed.get(row.id, ""),
                texts,
                codes,
                row.model_version,
                row.model_sha256,
                row.image_sha256,
                str(row.id),
            ]
        )
