"""Every table, imported in one place.

Foreign keys lead from one feature's tables to another's; SQLAlchemy resolves them once all are
imported. Code that opens a database imports this module.
"""

from app.accounts.tables import ApiKey, Clinic, User, UserSession
from app.core.audit import AuditEvent
from app.core.database import Base
from app.core.notifications import Notification
from app.datasets.tables import DataVersion
from app.gallery.tables import SyntheticImage
from app.monitoring.tables import MonitoringAlarm
from app.quiz.tables import QuizRound
from app.registry.tables import Activation, Comparison, ModelVersion
from app.runs.tables import Run, Schedule
from app.screenings.tables import Installation, Review, Screening
from app.validation.tables import ClinicThresholds

__all__ = [
    "Activation",
    "ApiKey",
    "AuditEvent",
    "Base",
    "Clinic",
    "ClinicThresholds",
    "Comparison",
    "DataVersion",
    "Installation",
    "ModelVersion",
    "MonitoringAlarm",
    "Notification",
    "QuizRound",
    "Review",
    "Run",
    "Schedule",
    "Screening",
    "SyntheticImage",
    "User",
    "UserSession",
]
