"""The promotion rule: what a classifier has to pass before it is activated.

`PROMOTION_CHECKS` is the whole rule. A classifier may be activated when it

1. loads and runs,
2. has the same classes as the active version,
3. was compared with the active version,
4. was not found worse than it in that comparison, and reaches the metrics of its card,
5. was compared on its own test images,
6. was compared on images of patients,
7. was trained on images of patients, and on synthetic images only with a privacy check,
8. was not rolled back from before,
9. was audited, and passed every check of the audit (`ml.evaluation.audit_result`).

The first classifier of a registry has nothing to be compared with, so the comparison does not
count. An admin may override every check with a written reason, except the first, and the
seventh outside of trial mode.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.registry.tables import ModelVersion
from ml.evaluation.audit_result import CHECK_NAMES, AuditResult
from ml.labels import label_name
from ml.texts import msg


class PromotionCheck(StrEnum):
    """A condition of activation, by its name on pages."""

    USABLE = msg("Loads and runs")
    SAME_CLASSES = msg("Same classes as the active version")
    COMPARED = msg("Compared with the active version")
    NOT_WORSE = msg("Not worse than the active version")
    OWN_IMAGES = msg("Compared on its own test images")
    PATIENTS = msg("Compared on images of patients")
    TRAINING_IMAGES = msg("Trained on checked images of patients")
    NOT_ROLLED_BACK = msg("Not rolled back before")
    AUDITED = msg("Passed its audit")


@dataclass(frozen=True, slots=True)
class ComparisonFindings:
    """What the promotion checks need to know of a comparison.

    Attributes:
        faults: what the comparison itself found: metrics that are worse, a card not reproduced.
        card_reproduced: whether the candidate reached its card's metrics; None where the images
            are not those of its card.
        has_stand_ins: whether some images are synthetic ones of the demonstration set.
    """

    id: uuid.UUID
    created_at: datetime
    candidate_sha256: str
    reference_sha256: str
    data_sha256: str | None
    faults: list[str]
    card_reproduced: bool | None
    has_stand_ins: bool


@dataclass(frozen=True, slots=True)
class PromotionCase:
    """A classifier that may be activated in place of the active one.

    Attributes:
        active_sha256: of the active version; None where there is none.
        active: the active version, where it is registered.
        comparison: the one that counts, from `app.registry.comparisons.deciding_comparison`.
        load_fault: why the classifier's files cannot be used; None where they can, or where
            nobody looked.
        trial_reasons: why it may serve in trial mode only; empty where it may serve.
        is_trial_mode: whether the server is in trial mode.
        was_rolled_back: whether it was active and a roll back left it.
        looked_for_audit: whether somebody looked for its audit.
        audit: of the candidate; None where there is none.
    """

    candidate: ModelVersion
    active_sha256: str | None
    active: ModelVersion | None
    comparison: ComparisonFindings | None
    load_fault: str | None = None
    trial_reasons: Sequence[str] = ()
    is_trial_mode: bool = False
    was_rolled_back: bool = False
    looked_for_audit: bool = False
    audit: AuditResult | None = None

    @property
    def needs_comparison(self) -> bool:
        """Whether there is another classifier to be compared with."""
        return self.active_sha256 not in (None, self.candidate.sha256)

    @property
    def deciding(self) -> ComparisonFindings | None:
        """The comparison to judge by; None where none is needed, possible or there."""
        return self.comparison if self.needs_comparison and self.has_same_classes else None

    @property
    def has_same_classes(self) -> bool:
        """Whether the two predict the same classes, in the same order."""
        return self.active is None or self.active.labels == self.candidate.labels


@dataclass(frozen=True, slots=True)
class Blocker:
    """A promotion check that failed, and why, in sentences.

    Attributes:
        can_be_overridden: whether a written reason is enough to activate the classifier anyway.
    """

    check: PromotionCheck
    reason: str
    can_be_overridden: bool = True


def _unusable(case: PromotionCase) -> Iterator[str]:
    if case.load_fault:
        yield case.load_fault


def _other_classes(case: PromotionCase) -> Iterator[str]:
    if case.active and not case.has_same_classes:
        ours, theirs = (
            ", ".join(label_name(label) for label in model.labels)
            for model in (case.candidate, case.active)
        )
        yield (
            msg(
                "It predicts %(ours)s, and the active version %(version)s predicts "
                "%(theirs)s. Only classifiers of the same classes can be compared.",
                ours=ours,
                version=case.active.version,
                theirs=theirs,
            )
        )


def _not_compared(case: PromotionCase) -> Iterator[str]:
    if case.needs_comparison and case.has_same_classes and case.comparison is None:
        yield msg("It has not been compared with the active version. Compare the two first.")


def _worse(case: PromotionCase) -> Iterator[str]:
    if case.deciding:
        yield from case.deciding.faults


def _other_images(case: PromotionCase) -> Iterator[str]:
    if case.deciding is None:
        return
    own, compared = case.candidate.data_sha256, case.deciding.data_sha256
    are_of_card = case.deciding.card_reproduced is not None
    if own and own == compared and not are_of_card:
        yield (
            msg(
                "The test images of its training data are not those that its card was "
                "measured on, so the metrics of its card could not be checked."
            )
        )
    elif not are_of_card:
        yield (
            msg(
                "It was compared on other test images than its card was measured on, so the "
                "metrics of its card could not be checked. Compare it on its training data."
            )
        )
    elif own and own != compared:
        yield (
            msg(
                "It was compared on another data set than its training data. Compare it on "
                "its training data."
            )
        )


def _stand_ins(case: PromotionCase) -> Iterator[str]:
    if case.deciding and case.deciding.has_stand_ins:
        yield (
            msg(
                "It was compared on synthetic images of the demonstration set, which say "
                "nothing about patients. Compare it on images of patients."
            )
        )


def _trial_only(case: PromotionCase) -> Iterator[str]:
    yield from case.trial_reasons
    if case.trial_reasons and not case.is_trial_mode:
        yield (
            "Such a classifier can serve in trial mode only, which marks every page and answer. "
            "Set XRAY_TRIAL_MODE=true on a server that nobody relies on, and restart it."
        )


def _rolled_back(case: PromotionCase) -> Iterator[str]:
    if case.was_rolled_back:
        yield msg("It was active before and was rolled back from. Say why it is right this time.")


def _not_audited(case: PromotionCase) -> Iterator[str]:
    if not case.looked_for_audit:
        return
    if case.audit is None:
        yield msg("It has not been audited. Audit it first.")
        return
    if case.audit.has_stand_ins:
        yield (
            msg(
                "It was audited on synthetic images of the demonstration set, which say "
                "nothing about patients. Audit it on images of patients."
            )
        )
    failed = dict.fromkeys(CHECK_NAMES[row.check] for row in case.audit.failed)
    if failed:
        yield msg(
            "It failed %(failed)s of the audit's checks: %(failed2)s.",
            failed=len(failed),
            failed2=", ".join(failed),
        )
    for check, reason in case.audit.missing.items():
        yield f"The audit could not measure {CHECK_NAMES[check]!r}. {reason}"


PROMOTION_CHECKS = {
    PromotionCheck.USABLE: _unusable,
    PromotionCheck.SAME_CLASSES: _other_classes,
    PromotionCheck.COMPARED: _not_compared,
    PromotionCheck.NOT_WORSE: _worse,
    PromotionCheck.OWN_IMAGES: _other_images,
    PromotionCheck.PATIENTS: _stand_ins,
    PromotionCheck.TRAINING_IMAGES: _trial_only,
    PromotionCheck.NOT_ROLLED_BACK: _rolled_back,
    PromotionCheck.AUDITED: _not_audited,
}


def promotion_blockers(case: PromotionCase) -> list[Blocker]:
    """Every promotion check that a classifier fails; empty where it may be activated."""
    return [
        Blocker(check, reason, _can_be_overridden(check, case))
        for check, find_reasons in PROMOTION_CHECKS.items()
        for reason in find_reasons(case)
    ]


def _can_be_overridden(check: PromotionCheck, case: PromotionCase) -> bool:
    if check is PromotionCheck.TRAINING_IMAGES:
        return case.is_trial_mode
    return check is not PromotionCheck.USABLE
