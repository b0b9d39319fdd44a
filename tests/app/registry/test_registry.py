"""The registry: what is registered, what the promotion checks let through, who wins, what is
written down."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from app.core.audit import AuditEvent
from app.core.database import Database
from app.core.errors import Conflict, InvalidForm, NotFound
from app.datasets.tables import DataKind, DataVersion
from app.gallery.tables import SyntheticImage
from app.registry.activation import (
    activate,
    archive,
    find_blockers,
    restore_model,
    roll_back,
)
from app.registry.activation_history import roll_back_target
from app.registry.cli import model_app
from app.registry.comparisons import ComparisonError, comparisons_of, record_comparison
from app.registry.promotion import PromotionCheck
from app.registry.queries import active_sha256, find_model, lineage, list_models, serving_sha256
from app.registry.registration import (
    model_folder,
    register_classifier,
    register_generator,
    register_released,
)
from app.registry.serving import VersionRegister
from app.registry.tables import Activation, Comparison, ModelKind, ModelVersion
from app.registry.trial import trial_reasons
from app.runs.tables import Run, RunQueue
from app.settings import Settings
from ml.classifier.bundle import CARD, GRAPH
from ml.classifier.card import ModelCard
from ml.data.manifest import DEMONSTRATION
from ml.errors import BundleError, XrayError
from ml.evaluation.audit_result import AUDIT
from ml.gan.onnx_generator import GRAPH as GENERATOR_GRAPH
from ml.gan.onnx_generator import PRETRAINED as PRETRAINED_GENERATOR
from tests.support.synthetic_set import summary_of
from tests.support.tiny_models import (
    DATABASES,
    comparison_of,
    models_checked_here,
    own_database,
    settings_for,
    write_classifier,
    write_comparison,
    write_generator,
)

__all__ = ["models_checked_here"]  # a fixture that all tests here use

BY = "user:anna"
REASON = "the clinic asked for it, see letter 12"
OTHER_IMAGES = (
    "It was compared on other test images than its card was measured on, so the metrics of its "
    "card could not be checked. Compare it on its training data."
)
OTHER_DATA = (
    "It was compared on another data set than its training data. Compare it on its training data."
)
UNKNOWN_IMAGES = (
    "The test images of its training data are not those that its card was measured on, so the "
    "metrics of its card could not be checked."
)


@dataclass
class World:
    """A separate registry; `released` is active until something is activated."""

    settings: Settings
    database: Database
    folder: Path
    released: ModelCard

    def bundle(self, version: str, **given: object) -> ModelCard:
        """Write a bundle, without registering it."""
        return write_classifier(self.folder / version, version=version, answer="normal", **given)  # type: ignore[arg-type]

    def classifier(self, session: Session, version: str, **given: object) -> ModelVersion:
        """Write a bundle and register it."""
        self.bundle(version, **given)
        return register_classifier(session, self.settings, self.folder / version, run=None, by=BY)

    def learned(self, session: Session, version: str, data: str) -> ModelVersion:
        """A classifier that learned from a data version."""
        self.bundle(version)
        run = run_on(session, "train-classifier", data)
        return register_classifier(session, self.settings, self.folder / version, run=run, by=BY)

    def compared(
        self,
        session: Session,
        model: ModelVersion,
        faults: list[str] | None = None,
        *,
        version: str = "",
        **found: object,
    ) -> Comparison:
        """Record a comparison with the active classifier, on a data version if one is given."""
        reference = session.get_one(ModelVersion, serving_sha256(session, self.settings))
        cards = (one.classifier_card for one in (model, reference))
        folder = write_comparison(self.folder / "out", comparison_of(*cards, faults=faults) | found)
        run = run_on(session, "compare-classifiers", version) if version else None
        return record_comparison(session, folder, run=run)


def run_on(session: Session, kind: str, data: str) -> Run:
    """A run that works on a data version."""
    run = Run(run_type=kind, options={}, queue=RunQueue.CPU, requested_by=BY, data_sha256=data)
    session.add(run)
    session.flush()
    return run


def data_version(session: Session, name: str, *, demonstration: int = 0) -> str:
    """A row of a data version; its SHA-256."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    version = DataVersion(
        sha256=sha256,
        kind=DataKind.IMAGES,
        name=name,
        folder=f"data/{sha256}",
        images=10,
        summary=summary_of(sha256, images=10, demonstration=demonstration).as_json(),
        created_by=BY,
    )
    session.add(version)
    session.flush()
    return sha256


@pytest.fixture(scope="module", params=DATABASES)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    with own_database(request.param, tmp_path_factory.mktemp("registry")) as url:
        opened = Database(url)
        yield opened
        opened.close()


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    released = write_classifier(tmp_path / "released", version="released", answer="covid")
    url = database.engine.url.render_as_string(hide_password=False)
    settings = settings_for(url, tmp_path / "home", bundle=tmp_path / "released")
    made = World(settings, database, tmp_path, released)
    with database.session() as session:
        register_classifier(session, settings, settings.bundle, run=None, by="release")
    yield made
    with database.session() as session:
        for table in (
            Activation,
            Comparison,
            SyntheticImage,
            ModelVersion,
            Run,
            DataVersion,
            AuditEvent,
        ):
            session.execute(delete(table))


@pytest.fixture
def session(world: World) -> Iterator[Session]:
    with world.database.sessions() as opened:
        yield opened


def reasons(session: Session, world: World, model: ModelVersion) -> list[str]:
    return [blocker.reason for blocker in find_blockers(session, world.settings, model)]


def events(session: Session, subject: str) -> list[str]:
    query = select(AuditEvent.action).where(AuditEvent.subject == subject)
    return list(session.scalars(query.order_by(AuditEvent.at)))


# --- registering -----------------------------------------------------------------------------


def test_registered_bundle_is_copied_and_described(world: World, session: Session) -> None:
    parents = {"b" * 64: {"covid": 3}, "a" * 64: {"covid": 1}}
    data = data_version(session, "images")
    run = run_on(session, "train-classifier", data)
    card = world.bundle("2", synthetic=parents)
    model = register_classifier(session, world.settings, world.folder / "2", run=run, by=BY)
    session.commit()
    shutil.rmtree(world.folder / "2")

    kept = model_folder(world.settings, model)
    assert kept == world.settings.home.resolve() / "models" / card.sha256
    assert sorted(path.name for path in kept.iterdir()) == [AUDIT, CARD, GRAPH]
    assert [path.name for path in kept.parent.iterdir() if path.name.startswith(".")] == []
    assert (model.version, model.kind, model.run_id) == ("2", ModelKind.CLASSIFIER, run.id)
    assert (model.data_sha256, model.parents) == (data, ["a" * 64, "b" * 64])
    assert model.card == card.as_json()
    assert events(session, card.sha256) == ["model.registered"]


def test_same_bundle_again_is_the_same_version(world: World, session: Session) -> None:
    first = world.classifier(session, "2")
    session.commit()
    again = world.classifier(session, "2")
    assert again is first
    assert events(session, first.sha256) == ["model.registered"]


def test_row_of_a_card_alone_gets_its_folder(world: World, session: Session) -> None:
    card = world.bundle("2")
    VersionRegister(world.database).keep(card)
    row = find_model(session, card.sha256)
    assert row not in list_models(session, ModelKind.CLASSIFIER)
    with pytest.raises(Conflict, match="Register its folder"):
        model_folder(world.settings, row)
    # What a crash left under the name is no model.
    garbage = world.settings.home.resolve() / "models" / card.sha256
    garbage.mkdir(parents=True)
    (garbage / GRAPH).write_bytes(b"half")

    model = register_classifier(session, world.settings, world.folder / "2", run=None, by=BY)
    assert model is row
    assert model in list_models(session, ModelKind.CLASSIFIER)
    assert (model_folder(world.settings, model) / CARD).is_file()


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / GRAPH).unlink(),
        lambda folder: (folder / GRAPH).write_bytes(b"half"),
        lambda folder: (folder / CARD).write_text("{"),
    ],
)
def test_registering_again_gives_a_classifier_its_lost_files_back(
    world: World, session: Session, lose: Callable[[Path], object]
) -> None:
    model = world.classifier(session, "2")
    session.commit()
    folder = model_folder(world.settings, model)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    lose(folder)
    assert world.classifier(session, "2") is model
    session.commit()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert world.classifier(session, "2") is model
    assert events(session, model.sha256) == ["model.registered", "model.restored"]


def test_released_models_that_lost_their_folders_are_restored(
    world: World, session: Session
) -> None:
    register_released(world.database, world.settings)
    models = list_models(session)
    folders = [model_folder(world.settings, model) for model in models]
    whole = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    shutil.rmtree(world.settings.home / "models")
    register_released(world.database, world.settings)
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == whole
    for model in models:
        assert events(session, model.sha256) == ["model.registered", "model.restored"]


def test_card_is_restored_as_it_was_registered(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    session.commit()
    shutil.rmtree(model_folder(world.settings, model))
    card = json.loads((world.folder / "2" / CARD).read_text())
    (world.folder / "2" / CARD).write_text(json.dumps(card | {"network": "another"}))
    register_classifier(session, world.settings, world.folder / "2", run=None, by=BY)
    assert json.loads((model_folder(world.settings, model) / CARD).read_text()) == model.card
    assert model.card["network"] == "tiny"


def test_rolled_back_registration_leaves_no_model(world: World, session: Session) -> None:
    card = world.bundle("2")
    register_classifier(session, world.settings, world.folder / "2", run=None, by=BY)
    session.rollback()
    with pytest.raises(NotFound):
        find_model(session, card.sha256)
    assert register_classifier(session, world.settings, world.folder / "2", run=None, by=BY)


def _damage_graph(folder: Path) -> None:
    graph = folder / GRAPH
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")


def _other_labels(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"labels": ["normal", "covid", "pneumonia"]}))


def _no_graph(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / GRAPH).write_bytes(b"no graph")
    digest = hashlib.sha256(b"no graph").hexdigest()
    (folder / CARD).write_text(json.dumps(card | {"sha256": digest}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_damage_graph, "damaged"),
        (_other_labels, "labels"),
        (_no_graph, "cannot be run"),
        (lambda folder: (folder / CARD).unlink(), r"no card\.json"),
    ],
)
def test_bad_bundle_is_refused(
    world: World, session: Session, spoil: Callable[[Path], None], says: str
) -> None:
    world.bundle("2")
    spoil(world.folder / "2")
    with pytest.raises(BundleError, match=says):
        register_classifier(session, world.settings, world.folder / "2", run=None, by=BY)
    session.commit()
    assert [model.version for model in list_models(session)] == ["released"]
    assert len(list((world.settings.home / "models").iterdir())) == 1


def test_bundle_of_impossible_size_is_refused(world: World, session: Session) -> None:
    with pytest.raises(BundleError, match="8 px"):
        world.classifier(session, "2", size=8)


def test_generator_is_registered(world: World, session: Session) -> None:
    card = write_generator(world.folder / "g")
    model = register_generator(session, world.settings, world.folder / "g", run=None, by=BY)
    assert (model.kind, model.version) == (ModelKind.GENERATOR, "wgan-gp-64-1000")
    names = sorted(path.name for path in model_folder(world.settings, model).iterdir())
    assert names == [CARD, "generator.safetensors", "samples.png"]
    assert list_models(session, ModelKind.GENERATOR) == [model]

    (world.folder / "g" / "generator.safetensors").write_bytes(b"other weights")
    with pytest.raises(BundleError, match=card["sha256"][:12]):
        register_generator(session, world.settings, world.folder / "g", run=None, by=BY)
    (world.folder / "g" / CARD).write_text('{"sha256": "x"}')
    with pytest.raises(BundleError, match="not a generator's card"):
        register_generator(session, world.settings, world.folder / "g", run=None, by=BY)


def test_released_models_are_registered_once(world: World, session: Session) -> None:
    register_released(world.database, world.settings)
    register_released(world.database, world.settings)
    (generator,) = list_models(session, ModelKind.GENERATOR)
    assert model_folder(world.settings, generator).is_dir()
    assert events(session, generator.sha256) == ["model.registered"]
    assert events(session, world.released.sha256) == ["model.registered"]


def test_generator_gets_the_graph_that_comes_later(world: World, session: Session) -> None:
    without = world.folder / "without"
    shutil.copytree(PRETRAINED_GENERATOR, without, ignore=shutil.ignore_patterns(GENERATOR_GRAPH))
    register_generator(session, world.settings, without, run=None, by=BY)
    session.commit()
    register_released(world.database, world.settings)
    (generator,) = list_models(session, ModelKind.GENERATOR)
    assert (model_folder(world.settings, generator) / GENERATOR_GRAPH).is_file()


def test_lineage_goes_both_ways(world: World, session: Session) -> None:
    card = write_generator(world.folder / "g")
    generator = register_generator(session, world.settings, world.folder / "g", run=None, by=BY)
    fed = world.classifier(session, "2", synthetic={card["sha256"]: {}, "f" * 64: {}})
    world.classifier(session, "3")
    assert lineage(session, fed).parents == {generator.sha256: generator, "f" * 64: None}
    assert lineage(session, generator).children == [fed]
    assert lineage(session, generator).run is None


def test_registering_at_once_makes_one_version(world: World) -> None:
    card = world.bundle("2")
    together = Barrier(4)

    def register(_number: int) -> str:
        together.wait()
        with world.database.session() as session:
            return register_classifier(
                session, world.settings, world.folder / "2", run=None, by=BY
            ).sha256

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(register, range(4))) == {card.sha256}
    with world.database.sessions() as session:
        assert events(session, card.sha256) == ["model.registered"]
        assert (model_folder(world.settings, find_model(session, card.sha256)) / GRAPH).is_file()


# --- comparing -------------------------------------------------------------------------------


def test_comparison_is_kept_and_listed_for_both(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    comparison = world.compared(session, model)
    session.commit()
    released = find_model(session, world.released.sha256)
    for side in (model, released):
        assert [found.id for found in comparisons_of(session, side)] == [comparison.id]
    assert comparison.passed
    assert comparison.metrics["images"] == 757


def test_comparison_that_is_none_is_refused(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    card = model.classifier_card
    whole = comparison_of(card, world.released)
    stranger = comparison_of(world.bundle("3"), world.released)
    for found in (
        {},
        whole | {"passed": "yes"},
        whole | {"faults": ["worse"]},
        whole | {"card_reproduced": "yes"},
        whole | {"changed": [{"image": "a.png"}]},
        stranger,
    ):
        folder = write_comparison(world.folder / "out", found)
        with pytest.raises(ComparisonError):
            record_comparison(session, folder, run=None)
    with pytest.raises(ComparisonError):
        record_comparison(session, world.folder / "nothing", run=None)
    assert comparisons_of(session, model) == []


# --- active ------------------------------------------------------------------------------


def test_bundle_is_serving_sha256_until_something_is_activated(
    world: World, session: Session
) -> None:
    assert active_sha256(session) is None
    assert serving_sha256(session, world.settings) == world.released.sha256
    model = world.classifier(session, "2")
    world.compared(session, model)
    assert find_blockers(session, world.settings, model) == []
    activation = activate(session, world.settings, model, by=BY)
    session.commit()
    assert (activation.by, activation.override) == (BY, None)
    assert serving_sha256(session, world.settings) == active_sha256(session) == model.sha256
    assert events(session, model.sha256) == ["model.registered", "model.activated"]
    with pytest.raises(Conflict, match="is active already"):
        activate(session, world.settings, model, by=BY)


def test_failed_checks_need_a_written_reason(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    (blocker,) = find_blockers(session, world.settings, model)
    assert blocker.check is PromotionCheck.COMPARED
    assert "not been compared" in blocker.reason
    for override in (None, "", "   ", "because I say so"):
        with pytest.raises(InvalidForm, match="not been compared"):
            activate(session, world.settings, model, by=BY, override=override)

    worse = "Its accuracy is 0.050 lower (95 % interval 0.020 to 0.081)."
    world.compared(session, model, faults=[worse])
    assert reasons(session, world, model) == [worse]
    with pytest.raises(InvalidForm, match="lower"):
        activate(session, world.settings, model, by=BY)
    assert active_sha256(session) is None
    activation = activate(session, world.settings, model, by=BY, override=f"  {REASON}\0 ")
    session.commit()
    assert activation.override == REASON
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "model.activated")).one()
    assert event.detail["override"] == REASON
    assert event.detail["faults"] == [worse]
    assert event.detail["instead_of"] == world.released.sha256


def test_newest_comparison_counts_and_only_with_the_one_serving_sha256(
    world: World, session: Session
) -> None:
    second, third = (world.classifier(session, version) for version in ("2", "3"))
    world.compared(session, second, faults=["It is worse."])
    world.compared(session, second)
    world.compared(session, third)
    activate(session, world.settings, second, by=BY)
    session.commit()
    # The third was compared with the released one, which is not active any more.
    assert "not been compared" in reasons(session, world, third)[0]
    # An override that nothing needs is not kept.
    world.compared(session, third)
    assert activate(session, world.settings, third, by=BY, override=REASON).override is None


def test_comparison_on_the_images_of_the_card_counts_alone(world: World, session: Session) -> None:
    own, other = (data_version(session, name, demonstration=0) for name in ("own", "other"))
    model = world.learned(session, "2", own)

    def faults() -> list[str]:
        return reasons(session, world, model)

    world.compared(session, model, version=other, card_reproduced=None)
    assert faults() == [OTHER_IMAGES]
    with pytest.raises(InvalidForm, match="other test images than its card"):
        activate(session, world.settings, model, by=BY)
    # Nor do images count that only look like its own.
    world.compared(session, model, version=other)
    assert faults() == [OTHER_DATA]
    world.compared(session, model, ["it is worse"], version=own)
    assert faults() == ["it is worse"]
    # What was found on its own images is not undone on others.
    world.compared(session, model, version=other, card_reproduced=None)
    world.compared(session, model)
    assert faults() == ["it is worse"]
    world.compared(session, model, version=own, card_reproduced=None)
    assert faults() == [UNKNOWN_IMAGES]
    world.compared(session, model, version=own)
    assert faults() == []
    # And what opened the promotion checks is not undone either.
    world.compared(session, model, ["it is worse"], version=other, card_reproduced=None)
    assert activate(session, world.settings, model, by=BY, override=REASON).override is None


def test_model_from_elsewhere_is_compared_on_images_of_its_card(
    world: World, session: Session
) -> None:
    small = data_version(session, "a handful", demonstration=0)
    model = world.classifier(session, "2")
    world.compared(session, model, version=small, card_reproduced=None)
    assert reasons(session, world, model) == [OTHER_IMAGES]
    false = ["the card gives the accuracy as 0.990000"]
    world.compared(session, model, false, card_reproduced=False, card_faults=false)
    world.compared(session, model, version=small, card_reproduced=None)
    assert reasons(session, world, model) == false
    world.compared(session, model)
    assert find_blockers(session, world.settings, model) == []


def test_demonstration_images_pass_no_promotion_check(world: World, session: Session) -> None:
    shipped = data_version(session, "demonstration", demonstration=10)
    learned = world.learned(session, "2", shipped)
    world.compared(session, learned, version=shipped)
    # Of a folder there are the images of each source.
    other = world.classifier(session, "3")
    world.compared(session, other, data={DEMONSTRATION: {"covid": 4}, "clinic": {"covid": 4}})
    for model in (learned, other):
        first = find_blockers(session, world.settings, model)[0]
        assert first.check is PromotionCheck.PATIENTS
        assert "nothing about patients" in first.reason
    with pytest.raises(InvalidForm, match="nothing about patients"):
        activate(session, world.settings, other, by=BY)


def test_demonstration_classifier_serves_in_trial_mode_only(world: World, session: Session) -> None:
    learned = world.learned(session, "2", data_version(session, "demonstration", demonstration=10))
    world.compared(session, learned)
    with pytest.raises(Conflict, match="XRAY_TRIAL_MODE"):
        activate(session, world.settings, learned, by=BY, override=REASON)
    trial = world.settings.model_copy(update={"trial_mode": True})
    with pytest.raises(InvalidForm, match="demonstration set"):
        activate(session, trial, learned, by=BY)
    assert activate(session, trial, learned, by=BY, override=REASON).override == REASON


def test_card_and_generator_name_the_demonstration_set(world: World, session: Session) -> None:
    data = world.released.data.model_copy(
        update={"by_source": {"train": {DEMONSTRATION: {"covid": 9}}}}
    )
    carded = world.classifier(session, "2", data=data)
    write_generator(world.folder / "g")
    run = run_on(session, "train-gan", data_version(session, "demo", demonstration=3))
    generator = register_generator(session, world.settings, world.folder / "g", run=run, by=BY)
    child = world.classifier(session, "3", synthetic={generator.sha256: {"covid": 5}})
    assert "demonstration set" in trial_reasons(session, carded)[0]
    assert generator.version in trial_reasons(session, child)[0]
    assert not trial_reasons(session, find_model(session, world.released.sha256))


def test_unchecked_synthetic_images_need_trial_mode(world: World, session: Session) -> None:
    write_generator(world.folder / "g")
    generator = register_generator(session, world.settings, world.folder / "g", run=None, by=BY)
    of = data_version(session, "synthetic")
    for number, percentile in enumerate((40.0, None)):
        session.add(
            SyntheticImage(
                model_sha256=generator.sha256,
                data_sha256=of,
                label="covid",
                seed=str(number),
                image=f"images/{number}.png",
                nearest_percentile=percentile,
                privacy_check={},
            )
        )
    run = run_on(session, "train-classifier", data_version(session, "patients"))
    run.options = {"synthetic": [of]}
    world.bundle("2")
    model = register_classifier(session, world.settings, world.folder / "2", run=run, by=BY)
    assert "1 of its synthetic training images had no privacy check" in " ".join(
        trial_reasons(session, model)
    )


def test_changed_files_cannot_be_activated_by_any_override(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    world.compared(session, model)
    _damage_graph(model_folder(world.settings, model))
    (blocker,) = find_blockers(session, world.settings, model)
    assert (blocker.check, blocker.can_be_overridden) == (PromotionCheck.USABLE, False)
    assert "damaged" in blocker.reason
    with pytest.raises(Conflict, match="damaged"):
        activate(session, world.settings, model, by=BY, override=REASON)
    shutil.rmtree(model_folder(world.settings, model))
    with pytest.raises(Conflict, match=r"no card\.json"):
        activate(session, world.settings, model, by=BY, override=REASON)


def test_generator_cannot_be_record_activation(world: World, session: Session) -> None:
    write_generator(world.folder / "g")
    generator = register_generator(session, world.settings, world.folder / "g", run=None, by=BY)
    with pytest.raises(Conflict, match="Only a classifier"):
        activate(session, world.settings, generator, by=BY, override=REASON)


def test_roll_back_leads_to_a_version_that_passed(world: World, session: Session) -> None:
    with pytest.raises(Conflict, match="no earlier"):
        roll_back(session, world.settings, by=BY)
    passed, overridden, last = (world.classifier(session, version) for version in ("2", "3", "4"))
    world.compared(session, passed)
    activate(session, world.settings, passed, by=BY)
    for model in (overridden, last):
        activate(session, world.settings, model, by=BY, override=REASON)
    # The version below was activated although checks had failed, so it is passed over.
    assert roll_back_target(session, world.settings) is passed
    roll_back(session, world.settings, by=BY)
    assert active_sha256(session) == passed.sha256
    assert events(session, passed.sha256)[-1] == "model.rolled-back"
    # Not forward again: the versions above were left. The one below came with the application.
    roll_back(session, world.settings, by=BY)
    assert active_sha256(session) == world.released.sha256
    assert roll_back_target(session, world.settings) is None


def test_roll_back_passes_over_archived_and_trial_versions(world: World, session: Session) -> None:
    archived, demonstration, last = (
        world.classifier(session, "2"),
        world.learned(session, "3", data_version(session, "demo", demonstration=9)),
        world.classifier(session, "4"),
    )
    trial = world.settings.model_copy(update={"trial_mode": True})
    for model in (archived, demonstration, last):
        activate(session, trial, model, by=BY, override=REASON)
    session.execute(update(Activation).values(override=None))
    archive(session, world.settings, archived, by=BY)
    assert roll_back_target(session, trial) is demonstration
    target = roll_back_target(session, world.settings)
    assert target is not None
    assert target.sha256 == world.released.sha256


def test_going_forward_again_asks_for_checks_and_a_reason(world: World, session: Session) -> None:
    model = world.classifier(session, "2")
    world.compared(session, model)
    activate(session, world.settings, model, by=BY)
    assert find_blockers(session, world.settings, model) == []
    roll_back(session, world.settings, by=BY)
    (blocker,) = find_blockers(session, world.settings, model)
    assert blocker.check is PromotionCheck.NOT_ROLLED_BACK
    with pytest.raises(InvalidForm, match="rolled back"):
        activate(session, world.settings, model, by=BY)
    assert activate(session, world.settings, model, by=BY, override=REASON).override == REASON
    # It passed its checks when it was new, and this time it had a reason.
    assert roll_back(session, world.settings, by=BY).model_sha256 == world.released.sha256


def test_roll_back_of_version_0_1_does_not_count_as_passed(world: World, session: Session) -> None:
    """It put a classifier whose checks had failed back without a word."""
    bad, last = world.classifier(session, "2"), world.classifier(session, "3")
    activate(session, world.settings, bad, by=BY, override=REASON)
    released = find_model(session, world.released.sha256)
    for number, model in enumerate((released, bad), start=2):
        session.add(Activation(id=number, by=BY, model_sha256=model.sha256))
        session.flush()
    activate(session, world.settings, last, by=BY, override=REASON)
    assert roll_back_target(session, world.settings) is released


def test_roll_back_to_a_damaged_classifier_changes_nothing(world: World, session: Session) -> None:
    second = world.classifier(session, "2")
    activate(session, world.settings, second, by=BY, override=REASON)
    session.commit()
    _damage_graph(model_folder(world.settings, find_model(session, world.released.sha256)))
    with pytest.raises(Conflict, match="damaged"):
        roll_back(session, world.settings, by=BY)
    assert active_sha256(session) == second.sha256


def test_archived_models_are_kept_and_not_used(world: World, session: Session) -> None:
    released = find_model(session, world.released.sha256)
    with pytest.raises(Conflict, match="active"):
        archive(session, world.settings, released, by=BY)
    model = world.classifier(session, "2")
    archive(session, world.settings, model, by=BY)
    session.commit()
    assert list_models(session, ModelKind.CLASSIFIER) == [released]
    assert model in list_models(session, all_of_them=True)
    with pytest.raises(Conflict, match="archived already"):
        archive(session, world.settings, model, by=BY)
    with pytest.raises(Conflict, match="is archived"):
        activate(session, world.settings, model, by=BY, override=REASON)
    assert active_sha256(session) is None
    restore_model(session, model, by=BY)
    activate(session, world.settings, model, by=BY, override=REASON)
    assert active_sha256(session) == model.sha256
    with pytest.raises(Conflict, match="not archived"):
        restore_model(session, model, by=BY)


def test_decision_on_an_old_page_is_refused(world: World, session: Session) -> None:
    second, third = (world.classifier(session, version) for version in ("2", "3"))
    seen = serving_sha256(session, world.settings)
    activate(session, world.settings, second, by=BY, override=REASON, seen=seen)
    session.commit()
    with pytest.raises(Conflict, match="in the meantime"):
        activate(session, world.settings, third, by=BY, override=REASON, seen=seen)
    with pytest.raises(Conflict, match="in the meantime"):
        roll_back(session, world.settings, by=BY, seen=seen)
    assert active_sha256(session) == second.sha256


def test_of_admins_at_once_one_wins(world: World) -> None:
    versions = ["2", "3", "4"]
    with world.database.session() as session:
        digests = [world.classifier(session, version).sha256 for version in versions]
    together = Barrier(3)

    def activate_model(sha256: str) -> str:
        with world.database.sessions() as session:
            model = find_model(session, sha256)
            seen = serving_sha256(session, world.settings)
            together.wait()
            try:
                activate(session, world.settings, model, by=BY, override=REASON, seen=seen)
                session.commit()
            except Conflict:
                return "refused"
        return sha256

    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(activate_model, digests))
    assert sorted(outcomes)[1:] == ["refused", "refused"]
    with world.database.sessions() as session:
        assert session.scalars(select(Activation.model_sha256)).all() == [min(outcomes)]
        actions = session.scalars(select(AuditEvent.action)).all()
        assert actions.count("model.activated") == 1


def test_nothing_is_serving_sha256_and_archived(world: World) -> None:
    with world.database.session() as session:
        digests = [world.classifier(session, version).sha256 for version in ("2", "3", "4", "5")]

    def both(sha256: str) -> list[bool]:
        together = Barrier(2)

        def act(retiring: bool) -> bool:
            with world.database.sessions() as session:
                model = find_model(session, sha256)
                together.wait()
                try:
                    if retiring:
                        archive(session, world.settings, model, by=BY)
                    else:
                        activate(session, world.settings, model, by=BY, override=REASON)
                    session.commit()
                except Conflict:
                    return False
            return True

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(act, (True, False)))

    for sha256 in digests:
        assert sum(both(sha256)) == 1
        with world.database.sessions() as session:
            is_archived = find_model(session, sha256).archived_at is not None
            assert is_archived != (active_sha256(session) == sha256)


# --- from the command line -------------------------------------------------------------------


def test_command_line_registers_activates_and_rolls_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def xray(*arguments: str) -> Result:
        monkeypatch.setenv("COLUMNS", "200")
        environment = {
            "XRAY_HOME": str(world.settings.home),
            "XRAY_BUNDLE": str(world.settings.bundle),
            "XRAY_DATABASE_URL": world.settings.database_url,
        }
        return CliRunner().invoke(model_app, arguments, env=environment)

    card = world.bundle("2")
    generator = write_generator(world.folder / "g")["sha256"]
    assert xray("register", str(world.folder / "2")).stdout.strip() == card.sha256
    assert xray("register", str(world.folder / "g")).stdout.strip() == generator
    shut = xray("activate", card.sha256[:10])
    assert isinstance(shut.exception, InvalidForm)
    assert "active" in xray("activate", card.sha256[:10], "--override", REASON).stdout
    listed = {line.split()[1]: line for line in xray("list").stdout.splitlines() if "│" in line}
    assert "active" in listed[card.sha256[:12]]
    assert "registered" in listed[world.released.sha256[:12]]
    assert "generator" in listed[generator[:12]]
    assert world.released.sha256 in xray("roll-back").stdout
    assert isinstance(xray("activate", "").exception, XrayError)
    assert isinstance(xray("roll-back").exception, Conflict)
    with world.database.sessions() as session:
        assert active_sha256(session) == world.released.sha256
        actors = session.scalars(select(Activation.by).distinct()).all()
    assert actors == ["command-line"]
