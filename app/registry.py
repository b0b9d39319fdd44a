"""The registry: which models there are, what they came of, and which classifier is in service.

A model's folder is complete under its name before its row is committed, and the row is what counts.
Activations are numbered without a gap: of two admins who put something in service at the same
moment, the one who takes the next number first wins, and the other is told.
"""

import filecmp
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from app.db import Database, insert_unless_there, now
from app.errors import BadForm, Conflict, NotFound
from app.model_folders import (
    CLASSIFIER_FILES,
    FOLDER,
    GENERATOR_FILES,
    SAMPLES,
    WEIGHTS,
    check_generator,
    copied,
    kept_place,
    load_classifier,
    put_in_place,
)
from app.model_folders import model_folder as model_folder  # part of the registry for others
from app.models import (
    Activation,
    AuditEvent,
    Comparison,
    DataVersion,
    ModelKind,
    ModelVersion,
    Run,
    SyntheticFilm,
)
from app.settings import Settings
from ml.bundle import CARD, GRAPH
from ml.data import DEMONSTRATION
from ml.errors import BundleError, XrayError
from ml.files import write_whole
from ml.generator_graph import GRAPH as GENERATOR_GRAPH
from ml.generator_graph import PRETRAINED as PRETRAINED_GENERATOR

COMPARISON = "comparison.json"
RELEASE = "release"  # who registered what the application came with
LEAST_OVERRIDE = 20
# Why the gates stay shut, beside what a comparison itself found.
NOT_COMPARED = "it has not been compared with the classifier in service"
OTHER_FILMS = (
    "it was compared on other films than its card speaks of, so its card's figures were not "
    "checked: compare it on the data set that it learned from"
)
OTHER_DATA = (
    "it was compared on another data set than the one that it learned from: compare it on that one"
)
UNKNOWN_FILMS = (
    "its card speaks of other test films than those of the data set that it learned from, so its "
    "card's figures could not be checked"
)
STAND_INS = (
    "the films compared are synthetic ones of the demonstration: they say nothing about patients"
)
_LONGEST_VERSION = 100


class ComparisonError(XrayError):
    """A comparison that was not written by `xray compare classifiers`, or is of other models."""


# --- registering ---------------------------------------------------------------------------------


def register_classifier(
    session: Session, settings: Settings, bundle_folder: Path, *, run: Run | None, by: str
) -> ModelVersion:
    """Make a bundle a model version; the same graph again is the version that is there.

    Args:
        session: the database; the version is there for others when it commits.
        settings: name the home folder, to which the bundle is copied.
        bundle_folder: as `xray export classifier` writes it.
        run: what made it; None where it came from outside.
        by: who wanted it, for the audit log.

    Raises:
        BundleError: the bundle is damaged, not what its card says, or cannot be run.
    """
    with copied(settings, bundle_folder, CLASSIFIER_FILES) as copy:
        card = load_classifier(copy).card
        model = ModelVersion(
            sha256=card.sha256,
            kind=ModelKind.CLASSIFIER,
            version=card.version[:_LONGEST_VERSION],
            card=card.as_json(),
            parents=sorted(card.data.get("synthetic") or {}),
        )
        return _keep(session, settings, model, copy, run=run, by=by)


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
    with copied(settings, folder, GENERATOR_FILES) as copy:
        card = check_generator(copy)
        model = ModelVersion(
            sha256=card["sha256"],
            kind=ModelKind.GENERATOR,
            version=generator_version(card),
            card=card,
            parents=[],
        )
        kept = _keep(session, settings, model, copy, run=run, by=by)
        place = kept_place(settings, kept.sha256)
        if (copy / GENERATOR_GRAPH).is_file() and not (place / GENERATOR_GRAPH).exists():
            # The card names the graph, so it comes last.
            for name in (GENERATOR_GRAPH, CARD):
                (copy / name).replace(place / name)
            kept.card = card
        return kept


def generator_version(card: dict[str, Any]) -> str:
    """What a generator is called: its game, the side of its films and the steps it trained for."""
    options = card["options"]
    return f"{options['objective']}-{options['size']}-{card['step']}"[:_LONGEST_VERSION]


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
    model.folder = f"{FOLDER}/{model.sha256}"
    model.registered_at = now()
    if run:
        model.run_id, model.data_sha256 = run.id, run.data_sha256
    # Whoever registers the same at this moment is waited for.
    if insert_unless_there(session, model) or _adopt(session, model):
        put_in_place(copy, kept_place(settings, model.sha256))
        session.add(
            AuditEvent(
                actor=by,
                action="model.registered",
                subject=model.sha256,
                detail={"kind": model.kind, "version": model.version},
            )
        )
    kept = session.get_one(ModelVersion, model.sha256, populate_existing=True)
    _restore(session, kept, copy, kept_place(settings, model.sha256), by=by)
    return kept


def _restore(session: Session, kept: ModelVersion, copy: Path, place: Path, *, by: str) -> None:
    """Give a model back what its folder lost, as when a database was restored without it."""
    if not _lost(kept, copy, place):
        return
    # A write that changes nothing: whoever restores the same at this moment is waited for.
    same = update(ModelVersion).where(ModelVersion.sha256 == kept.sha256)
    session.execute(same.values(folder=ModelVersion.folder))
    if lost := _lost(kept, copy, place):
        place.mkdir(parents=True, exist_ok=True)
        for name in lost:
            if name == CARD:
                # As it was registered, whatever the copy's says.
                write_whole(place / CARD, json.dumps(kept.card, indent=2, allow_nan=False) + "\n")
            else:
                (copy / name).replace(place / name)
        session.add(
            AuditEvent(
                actor=by, action="model.restored", subject=kept.sha256, detail={"files": lost}
            )
        )


def _lost(kept: ModelVersion, copy: Path, place: Path) -> list[str]:
    """The files of a checked copy that a model's folder lacks or has otherwise, the card last."""
    lost = [
        name
        for name in (GRAPH, WEIGHTS, SAMPLES)
        if (copy / name).is_file() and not (place / name).is_file()
    ]
    # What its SHA-256 is of can be but one, so another one is damaged.
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
    return _changed(session, statement)


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


def carded_sha256(folder: Path) -> str | None:
    """The SHA-256 that the card in a folder gives its model; None where there is no such card."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- finding -------------------------------------------------------------------------------------


def find_model(session: Session, sha256: str) -> ModelVersion:
    """Fetch a model.

    Raises:
        NotFound: there is no such model.
    """
    # PostgreSQL takes no NUL in a text, so not every address may be asked for.
    found = re.fullmatch("[0-9a-f]{64}", sha256) and session.get(ModelVersion, sha256)
    if not found:
        raise NotFound("there is no such model here")
    return found


def list_models(
    session: Session, kind: ModelKind | None = None, *, all_of_them: bool = False
) -> list[ModelVersion]:
    """Models, newest first: those that can be used, or really all.

    Args:
        session: the database.
        kind: of this kind only.
        all_of_them: also those that are retired or of which only the card is kept.
    """
    query = select(ModelVersion).order_by(ModelVersion.registered_at.desc(), ModelVersion.sha256)
    if kind is not None:
        query = query.where(ModelVersion.kind == kind)
    if not all_of_them:
        query = query.where(ModelVersion.folder.is_not(None), ModelVersion.retired_at.is_(None))
    return list(session.scalars(query))


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a model came of, and what came of it.

    Attributes:
        run: that made it.
        data: the films that it learned from.
        parents: the generators whose films it learned from, by SHA-256; None where one is not here.
        children: the classifiers that learned from its films.
        synthetic: the data sets that hold its films.
    """

    run: Run | None
    data: DataVersion | None
    parents: dict[str, ModelVersion | None]
    children: list[ModelVersion]
    synthetic: list[DataVersion]


def lineage(session: Session, model: ModelVersion) -> Lineage:
    """Look both ways from a model."""
    classifiers = select(ModelVersion).where(ModelVersion.kind == ModelKind.CLASSIFIER)
    made_of_it = select(SyntheticFilm.data_sha256).where(SyntheticFilm.model_sha256 == model.sha256)
    return Lineage(
        run=session.get(Run, model.run_id) if model.run_id else None,
        data=session.get(DataVersion, model.data_sha256) if model.data_sha256 else None,
        parents={sha256: session.get(ModelVersion, sha256) for sha256 in model.parents},
        # Few rows, and no way to look into a JSON list that both databases have.
        children=[
            other
            for other in session.scalars(classifiers.order_by(ModelVersion.registered_at))
            if model.sha256 in other.parents
        ],
        synthetic=list(
            session.scalars(select(DataVersion).where(DataVersion.sha256.in_(made_of_it)))
        ),
    )


def retire(session: Session, settings: Settings, model: ModelVersion, *, by: str) -> None:
    """Take a model out of use; its files and its card stay.

    Raises:
        Conflict: it is in service, or retired already.
    """
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.retired_at.is_(None))
    if not _changed(session, update(ModelVersion).where(*live).values(retired_at=now())):
        raise Conflict(f"model {model.version} is retired already")
    # Asked after the row is ours: whoever wants to activate it waits, and finds it retired.
    if in_service(session, settings) == model.sha256:
        session.rollback()
        raise Conflict("this classifier is in service: put another one in service first")
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.retired", subject=model.sha256))


def reinstate(session: Session, model: ModelVersion, *, by: str) -> None:
    """Take a retired model back into use.

    Raises:
        Conflict: it is not retired.
    """
    retired = (ModelVersion.sha256 == model.sha256, ModelVersion.retired_at.is_not(None))
    if not _changed(session, update(ModelVersion).where(*retired).values(retired_at=None)):
        raise Conflict(f"model {model.version} is not retired")
    session.refresh(model)
    session.add(AuditEvent(actor=by, action="model.reinstated", subject=model.sha256))


# --- comparing -----------------------------------------------------------------------------------


def record_comparison(
    session: Session,
    settings: Settings,  # noqa: ARG001 - as of all that is called at the end of a run
    folder: Path,
    *,
    run: Run | None,
) -> Comparison:
    """Keep what `xray compare classifiers` found.

    Args:
        session: the database.
        settings: as the other registering functions have them; not needed here.
        folder: has a `comparison.json`.
        run: what made it.

    Raises:
        ComparisonError: the file is missing or not a comparison, or of models that are not here.
    """
    path = folder / COMPARISON
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        candidate, reference = found["candidate"]["sha256"], found["reference"]["sha256"]
        _require_comparison(found)
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise ComparisonError(f"{path} is not a comparison of classifiers: {problem!r}") from (
            problem
        )
    for sha256 in (candidate, reference):
        if session.get(ModelVersion, sha256) is None:
            raise ComparisonError(f"{path} is about a model that is not registered: {sha256}")
    comparison = Comparison(
        created_at=now(),
        run_id=run.id if run else None,
        candidate_sha256=candidate,
        reference_sha256=reference,
        data_sha256=run.data_sha256 if run else None,
        passed=found["passed"],
        faults=found["faults"],
        figures=found,
    )
    session.add(comparison)
    session.flush()
    return comparison


def _require_comparison(found: Any) -> None:
    """Check all that gates and pages rely on; raises KeyError, TypeError or ValueError."""
    faults = found["faults"]
    if type(found["passed"]) is not bool or not all(isinstance(fault, str) for fault in faults):
        raise ValueError("it does not say whether the candidate passed, and why not")
    if found["passed"] == bool(faults):
        raise ValueError("what it says and its faults do not agree")
    if type(found["card_reproduced"]) not in (bool, type(None)):
        raise ValueError("it does not say whether the candidate's card is reproduced")
    for side in ("candidate", "reference"):
        found[side]["version"], found[side]["figures"]["accuracy"]["value"]
    for name in ("accuracy", "macro_auroc"):
        found["differences"][name]["value"], found["differences"][name]["low"]
    for one in found["changed"]:
        one["image"], one["label"], one["candidate"]["decision"], one["reference"]["decision"]


def list_comparisons(session: Session, model: ModelVersion) -> list[Comparison]:
    """The comparisons that a model took part in, newest first, without their figures."""
    about = or_(
        Comparison.candidate_sha256 == model.sha256, Comparison.reference_sha256 == model.sha256
    )
    newest_first = select(Comparison).where(about).order_by(Comparison.created_at.desc())
    return list(session.scalars(newest_first.options(defer(Comparison.figures))))


# Of the figures of a comparison: whether the candidate reached those of its own card, NULL where
# the films were other ones; whether some stood in for patients.
_CARD_REPRODUCED = Comparison.figures["card_reproduced"].as_boolean()
_STAND_INS = Comparison.figures[("data", DEMONSTRATION)].as_string().is_not(None)


def comparison_faults(session: Session, model: ModelVersion, comparison: Comparison) -> list[str]:
    """Why a comparison does not open the gates for its candidate; nothing where it does.

    Args:
        session: the database.
        model: the candidate.
        comparison: as `list_comparisons` gives it.
    """
    # Not the figures whole: they name every film whose answer changes.
    named = select(_CARD_REPRODUCED, _STAND_INS).where(Comparison.id == comparison.id)
    reproduced, has_stand_ins = session.execute(named).one()
    data = session.get(DataVersion, comparison.data_sha256) if comparison.data_sha256 else None
    faults = list(comparison.faults)
    if model.data_sha256 in (None, comparison.data_sha256):
        if reproduced is None:
            faults.append(UNKNOWN_FILMS if model.data_sha256 else OTHER_FILMS)
    else:
        faults.append(OTHER_FILMS if reproduced is None else OTHER_DATA)
    if has_stand_ins or (data and data.summary.get("demonstration")):
        faults.append(STAND_INS)
    return faults


def standing_faults(session: Session, model: ModelVersion, reference: str) -> list[str]:
    """What shuts the gates for a classifier that would take the place of another one.

    The newest comparison on the films that its card speaks of counts: on the data set that it
    learned from, or, where that is not known, on films of which the card gives the figures. So
    what was found there is not undone by a comparison on other films.
    """
    query = (
        select(Comparison)
        .where(
            Comparison.candidate_sha256 == model.sha256, Comparison.reference_sha256 == reference
        )
        .order_by(Comparison.created_at.desc())
        .limit(1)
        .options(defer(Comparison.figures))
    )
    own = (
        Comparison.data_sha256 == model.data_sha256
        if model.data_sha256
        else _CARD_REPRODUCED.is_not(None)
    )
    found = session.scalar(query.where(own)) or session.scalar(query)
    return comparison_faults(session, model, found) if found else [NOT_COMPARED]


# --- in service ----------------------------------------------------------------------------------


def newest_activation(session: Session) -> Activation | None:
    """The activation that holds; None where nothing was ever activated."""
    return session.scalar(select(Activation).order_by(Activation.id.desc()).limit(1))


def active_sha256(session: Session) -> str | None:
    """The classifier that was activated last; None: the configured bundle is in service."""
    return session.scalar(select(Activation.model_sha256).order_by(Activation.id.desc()).limit(1))


def in_service(session: Session, settings: Settings) -> str | None:
    """The classifier that answers films: the last one activated, or that of the bundle."""
    return active_sha256(session) or carded_sha256(settings.bundle)


def gate_faults(session: Session, settings: Settings, model: ModelVersion) -> list[str]:
    """Why a classifier should not be put in service; nothing where it may be."""
    unusable = _unusable(settings, model)
    return [*_comparison_faults(session, settings, model), *([unusable] if unusable else [])]


def _comparison_faults(session: Session, settings: Settings, model: ModelVersion) -> list[str]:
    reference = in_service(session, settings)
    if reference is None or reference == model.sha256:
        return []
    return standing_faults(session, model, reference)


def _unusable(settings: Settings, model: ModelVersion) -> str | None:
    """Why a classifier cannot answer films; looks at its files, which may have changed."""
    try:
        predictor = load_classifier(model_folder(settings, model))
    except (BundleError, Conflict) as problem:
        return f"it cannot be used: {problem}"
    if predictor.card.sha256 != model.sha256:
        return "it cannot be used: its folder holds another model"
    return None


def activate(
    session: Session,
    settings: Settings,
    model: ModelVersion,
    *,
    by: str,
    override: str | None = None,
    seen: str | None = None,
) -> Activation:
    """Put a classifier in service; it answers when this commits.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        model: the classifier.
        by: who does it.
        override: why, in spite of the gates; kept only where there is something to override.
        seen: the classifier that was in service when they decided; None: whichever is now.

    Raises:
        BadForm: a gate is closed and there is no override of at least 20 characters.
        Conflict: it is in service, retired or unusable, or another admin was quicker.
    """
    last, present = newest_activation(session), in_service(session, settings)
    if model.kind is not ModelKind.CLASSIFIER:
        raise Conflict("only a classifier can be put in service")
    if model.sha256 == present:
        raise Conflict(f"model {model.version} is in service already")
    if seen not in (None, present):
        raise _overtaken()
    # Nothing can override this: there would be no answers.
    if unusable := _unusable(settings, model):
        raise Conflict(unusable)
    faults = _comparison_faults(session, settings, model)
    # PostgreSQL takes no NUL in a text.
    why = (override or "").replace("\0", "").strip()
    if faults and len(why) < LEAST_OVERRIDE:
        raise BadForm(
            {
                "override": f"{'; '.join(faults)}: to put it in service all the same, say why in "
                f"at least {LEAST_OVERRIDE} characters, which the audit log keeps"
            }
        )
    about = {"override": why, "faults": faults} if faults else {}
    return _put_in_service(session, model, last, present, by, "model.activated", about)


def roll_back_target(session: Session, settings: Settings) -> ModelVersion | None:
    """The classifier that was in service before the present one and is not retired, if any."""
    present = active_sha256(session)
    if present is None:
        return None
    earlier = session.scalars(select(Activation.model_sha256).order_by(Activation.id.desc()))
    for sha256 in dict.fromkeys([*earlier, carded_sha256(settings.bundle)]):
        model = session.get(ModelVersion, sha256) if sha256 else None
        if model and model.sha256 != present and model.retired_at is None:
            return model
    return None


def roll_back(
    session: Session, settings: Settings, *, by: str, seen: str | None = None
) -> Activation:
    """Put the classifier back in service that was there before; it needs no comparison.

    Args:
        session: the database.
        settings: name the home folder and the released bundle.
        by: who does it.
        seen: the classifier that was in service when they decided; None: whichever is now.

    Raises:
        Conflict: there is none, it is unusable, or another admin was quicker.
    """
    last, present = newest_activation(session), in_service(session, settings)
    if seen not in (None, present):
        raise _overtaken()
    target = roll_back_target(session, settings)
    if target is None:
        raise Conflict("there is no earlier classifier to go back to")
    if unusable := _unusable(settings, target):
        raise Conflict(unusable)
    return _put_in_service(session, target, last, present, by, "model.rolled-back", {})


def _put_in_service(
    session: Session,
    model: ModelVersion,
    last: Activation | None,
    present: str | None,
    by: str,
    action: str,
    about: dict[str, Any],
) -> Activation:
    # A write that changes nothing: `retire` waits for it, or it finds the model retired.
    live = (ModelVersion.sha256 == model.sha256, ModelVersion.retired_at.is_(None))
    if not _changed(session, update(ModelVersion).where(*live).values(retired_at=None)):
        raise Conflict(f"model {model.version} is retired: take it back into use first")
    activation = Activation(
        id=last.id + 1 if last else 1,
        at=now(),
        by=by,
        model_sha256=model.sha256,
        override=about.get("override"),
    )
    session.add(activation)
    try:
        session.flush()
    except IntegrityError as problem:
        session.rollback()
        raise _overtaken() from problem
    session.add(
        AuditEvent(
            actor=by,
            action=action,
            subject=model.sha256,
            detail={"version": model.version, "instead_of": present, **about},
        )
    )
    return activation


def _overtaken() -> Conflict:
    return Conflict(
        "another classifier was put in service meanwhile: nothing was changed, look at it first"
    )


def _changed(session: Session, statement: Any) -> bool:
    """Carry out an update; whether it found its row."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount > 0
