"""The registry: which models there are, what they were made from, and which classifier is active.

A model's folder is complete under its name before its row is committed, and the row is what counts.
Activations are numbered without a gap: of two admins who put something active at the same
moment, the one who takes the next number first wins, and the other gets an error.
"""

import filecmp
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.core.audit import AuditEvent
from app.core.content_store import ContentStore, hold_row
from app.core.database import Database, affected_rows, insert_unless_there, now
from app.registry.files import (
    CLASSIFIER_FILES,
    GENERATOR_FILES,
    SAMPLES,
    WEIGHTS,
    carded_sha256,
    check_generator,
    model_folder,
)
from app.registry.model_check import check_in_child
from app.registry.queries import find_model
from app.registry.tables import ModelKind, ModelVersion
from app.runs.tables import Run
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH
from ml.errors import BundleError
from ml.evaluation.audit_result import AUDIT, AuditResult
from ml.evaluation.evidence import EVIDENCE_FILES, read_evidence
from ml.files import write_whole
from ml.gan.generator_card import GeneratorCard
from ml.gan.onnx_generator import GRAPH as GENERATOR_GRAPH
from ml.gan.onnx_generator import PRETRAINED as PRETRAINED_GENERATOR
from ml.json_model import InvalidJson
from ml.model_check import load_classifier

RELEASE = "release"  # who registered what the application came with
_LONGEST_VERSION = 100

# --- registering ---------------------------------------------------------------------------------


def register_classifier(
    session: Session, settings: Settings, bundle_folder: Path, *, run: Run | None, by: str
) -> ModelVersion:
    """Make a bundle a model version; the same graph again is the version that is there.

    Args:
        session: the database; the version is there for others when it commits.
        settings: name the home folder, to which the bundle is copied.
        bundle_folder: as `xray export classifier` writes it; what `ml.evaluation.evidence` finds
            there is kept, and replaces what the version has.
        run: what made it; None where it came from outside.
        by: who wanted it, for the audit log.

    Raises:
        BundleError: the bundle is damaged, not what its card says, or cannot be run.
    """
    with _store(settings).staged_copy(bundle_folder, CLASSIFIER_FILES) as copy:
        check_in_child("classifier", copy)
        card = load_classifier(copy).card
        read_evidence(copy, card.sha256)
        evidence = _evidence_in(copy, EVIDENCE_FILES)
        model = ModelVersion(
            sha256=card.sha256,
            kind=ModelKind.CLASSIFIER,
            version=card.version[:_LONGEST_VERSION],
            card=card.as_json(),
            parents=sorted(card.data.synthetic),
        )
        kept = _keep(session, settings, model, copy, run=run, by=by)
        _keep_evidence(session, settings, kept, evidence, by=by)
        return kept


def keep_audit(
    session: Session, settings: Settings, folder: Path, *, by: str
) -> tuple[ModelVersion, AuditResult]:
    """Put the result of `xray audit` beside the classifier that it is of.

    Args:
        session: the database.
        settings: name the home folder.
        folder: has an `audit.json`.
        by: who wanted it, for the audit log.

    Raises:
        BundleError: there is no audit in the folder, or it is of another version's format.
        NotFound: the classifier is not registered.
        Conflict: its files are missing.
    """
    try:
        result = AuditResult.from_json((folder / AUDIT).read_bytes())
    except (OSError, InvalidJson) as problem:
        raise BundleError(f"{folder / AUDIT} is no audit: {problem}. Run xray audit.") from problem
    model = find_model(session, result.sha256)
    model_folder(settings, model)
    _keep_evidence(session, settings, model, _evidence_in(folder, (AUDIT,)), by=by)
    return model, result


def _evidence_in(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _keep_evidence(
    session: Session,
    settings: Settings,
    kept: ModelVersion,
    found: Mapping[str, bytes],
    *,
    by: str,
) -> None:
    """Put checked evidence beside a model, in place of what is there."""
    place = model_folder(settings, kept)
    changed = {
        name: content
        for name, content in found.items()
        if not (place / name).is_file() or (place / name).read_bytes() != content
    }
    if not changed:
        return
    # Two that register the same model take turns.
    hold_row(session, ModelVersion, kept.sha256)
    for name, content in changed.items():
        write_whole(place / name, content)
    session.add(
        AuditEvent(
            actor=by,
            action="model.evidence-changed",
            subject=kept.sha256,
            detail={"files": sorted(changed)},
        )
    )


def register_generator(
    session: Session, settings: Settings, folder: Path, *, run: Run | None, by: str
) -> ModelVersion:
    """Make a released generator a model version; the same weights again are the version there.

    A version that was registered without its graph gets it.

    Args:
        session: the database; the version is there for others when it commits.
        settings: name the home folder, to which the files are copied.
        folder: as `xray export generator` writes it.
        run: what made it; None where it came from outside.
        by: who wanted it, for the audit log.

    Raises:
        BundleError: a file is missing or damaged, or the card is of another generator.
    """
    with _store(settings).staged_copy(folder, GENERATOR_FILES) as copy:
        card = check_generator(copy)
        model = ModelVersion(
            sha256=card.sha256,
            kind=ModelKind.GENERATOR,
            version=generator_version(card),
            card=card.as_json(),
            parents=[],
        )
        kept = _keep(session, settings, model, copy, run=run, by=by)
        place = settings.home_folder.model(kept.sha256)
        if (copy / GENERATOR_GRAPH).is_file() and not (place / GENERATOR_GRAPH).exists():
            # The card names the graph, so it comes last.
            (copy / GENERATOR_GRAPH).replace(place / GENERATOR_GRAPH)
            write_whole(place / CARD, card.to_json())
            kept.card = card.as_json()
        return kept


def _store(settings: Settings) -> ContentStore:
    return ContentStore(settings.home_folder.models)


def generator_version(card: GeneratorCard) -> str:
    """The version name of a generator: objective, image size and training steps."""
    options = card.options
    return f"{options.objective}-{options.size}-{card.step}"[:_LONGEST_VERSION]


def _keep(
    session: Session,
    settings: Settings,
    model: ModelVersion,
    copy: Path,
    *,
    run: Run | None,
    by: str,
) -> ModelVersion:
    """Insert the row and move the copy into place; a model that is there gets back lost files."""
    model.folder = settings.home_folder.relative(settings.home_folder.model(model.sha256))
    model.registered_at = now()
    if run:
        model.run_id, model.data_sha256 = run.id, run.data_sha256
    # Wait for another transaction that registers the same model.
    if insert_unless_there(session, model) or _adopt(session, model):
        _store(settings).put(copy, model.sha256)
        session.add(
            AuditEvent(
                actor=by,
                action="model.registered",
                subject=model.sha256,
                detail={"kind": model.kind, "version": model.version},
            )
        )
    kept = session.get_one(ModelVersion, model.sha256, populate_existing=True)
    _restore(session, settings, kept, copy, by=by)
    return kept


def _restore(
    session: Session, settings: Settings, kept: ModelVersion, copy: Path, *, by: str
) -> None:
    """Give a model back what its folder lost, as when a database was restored without it."""
    if copy.exists():
        # The card is restored as it was registered, not as the copy has it.
        write_whole(copy / CARD, json.dumps(kept.card, indent=2, allow_nan=False) + "\n")
    lost = _store(settings).restore(
        copy,
        kept.sha256,
        hold=lambda: hold_row(session, ModelVersion, kept.sha256),
        find_lost=lambda staged, stored: _lost_files(kept, staged, stored),
    )
    if lost:
        session.add(
            AuditEvent(
                actor=by, action="model.restored", subject=kept.sha256, detail={"files": lost}
            )
        )


def _lost_files(kept: ModelVersion, copy: Path, place: Path) -> list[str]:
    """The files of a checked copy that a model's folder lacks or has damaged, the card last."""
    lost = [
        name
        for name in (GRAPH, WEIGHTS, SAMPLES, *EVIDENCE_FILES)
        if (copy / name).is_file() and not (place / name).is_file()
    ]
    # The SHA-256 is that of this file, so a file that differs is damaged.
    own = GRAPH if kept.kind is ModelKind.CLASSIFIER else WEIGHTS
    here = (copy / own).is_file() and (place / own).is_file()
    if here and not filecmp.cmp(copy / own, place / own, shallow=False):
        lost.insert(0, own)
    return lost if carded_sha256(place) == kept.sha256 else [*lost, CARD]


def _adopt(session: Session, model: ModelVersion) -> bool:
    """Complete a row of which only the card was kept; False where it has its folder."""
    statement = (
        update(ModelVersion)
        .where(ModelVersion.sha256 == model.sha256, ModelVersion.folder.is_(None))
        .values(
            folder=model.folder,
            run_id=func.coalesce(ModelVersion.run_id, model.run_id),
            data_sha256=func.coalesce(ModelVersion.data_sha256, model.data_sha256),
            parents=model.parents,
        )
    )
    return affected_rows(session, statement) > 0


def register_released(database: Database, settings: Settings) -> None:
    """Register what the application came with: the configured bundle and our generator.

    Raises:
        BundleError: one of the two is damaged.
    """
    with database.session() as session:
        if not _is_kept(session, settings, settings.bundle, CLASSIFIER_FILES):
            register_classifier(session, settings, settings.bundle, run=None, by=RELEASE)
    with database.session() as session:
        if not _is_kept(session, settings, PRETRAINED_GENERATOR, GENERATOR_FILES):
            register_generator(session, settings, PRETRAINED_GENERATOR, run=None, by=RELEASE)


def _is_kept(session: Session, settings: Settings, source: Path, names: Sequence[str]) -> bool:
    """Whether the model of a folder is registered with all files that the folder has."""
    sha256 = carded_sha256(source)
    model = session.get(ModelVersion, sha256) if sha256 else None
    if model is None or model.folder is None:
        return False
    place = model_folder(settings, model)
    return all((place / name).exists() for name in names if (source / name).exists())
