"""Forms made of the options of a kind of run."""

import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pydantic.dataclasses
import pytest
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.core.database import Base, Database
from app.core.errors import InvalidForm
from app.datasets.small_splits import small_splits
from app.datasets.tables import DataKind, DataVersion
from app.registry.tables import ModelKind, ModelVersion
from app.runs import forms
from app.runs.forms import Control
from app.runs.handlers.base import Input, InputType, RunType
from app.runs.options import RunRefused, checked_options
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunQueue, RunStatus
from ml.option_fields import option_fields
from ml.options.gan import GAN_PRESETS
from tests.support.synthetic_set import data_version, summary_of


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A database in which nothing is registered; the pages' tests ask the other kind, too."""
    database = Database(f"sqlite:///{tmp_path / 'xray.db'}")
    Base.metadata.create_all(database.engine)
    with database.sessions() as opened:
        yield opened
    database.close()


def digest(letter: str) -> str:
    return letter * 64


def add_data(session: Session, letter: str, kind: DataKind = DataKind.IMAGES) -> str:
    session.add(
        data_version(digest(letter), kind, name=f"set {letter}", folder="data/x", images=1200)
    )
    session.flush()
    return digest(letter)


def add_model(
    session: Session, letter: str, kind: ModelKind, *, folder: str | None = "models/x"
) -> ModelVersion:
    model = ModelVersion(
        sha256=digest(letter), kind=kind, version=f"v{letter}", card={}, folder=folder
    )
    session.add(model)
    session.flush()
    return model


def field_of(session: Session, kind: str, name: str) -> forms.FormField:
    return next(each for each in forms.fields_of(RUN_TYPES[kind], session) if each.name == name)


def posted(form: list[forms.FormField]) -> FormData:
    """What a browser sends of a form."""
    sent: list[tuple[str, str]] = []
    for each in form:
        if each.control is Control.MANY:
            sent += [(each.name, value) for value in each.values]
        elif each.control is not Control.SWITCH or each.value:
            sent.append((each.name, each.value))
    return FormData(sent)


@pytest.mark.parametrize("kind", RUN_TYPES)
def test_form_has_every_input_and_option_with_its_help(session: Session, kind: str) -> None:
    named = RUN_TYPES[kind]
    form = forms.fields_of(named, session)
    options = [each for each in option_fields(named.Options) if not each.is_hidden]
    names = [each.name for each in (*named.inputs, *options)]
    assert [each.name for each in form] == names
    for each in form:
        assert each.label
        # A help that would only repeat the label is left out.
        assert each.help or each.label.rstrip(".") == _written_help(named, each.name).rstrip(".")


def _written_help(named: RunType, name: str) -> str:
    described = (*named.inputs, *option_fields(named.Options))
    return next(each.help for each in described if each.name == name)


def test_control_follows_the_type(session: Session) -> None:
    controls = {name: field_of(session, "train-gan", name) for name in ("steps", "clip", "labels")}
    assert controls["steps"].control is Control.WHOLE
    assert (controls["steps"].value, controls["steps"].low) == ("20000", 1)
    assert (controls["clip"].control, controls["clip"].value) == (Control.NUMBER, "0.01")
    # Without a data set there are no classes to choose from.
    assert controls["labels"].control is Control.TEXT
    switch = field_of(session, "train-gan", "generator_norm")
    assert (switch.control, switch.value) == (Control.SWITCH, "on")
    choice = field_of(session, "train-gan", "objective")
    assert choice.control is Control.ONE
    values = [each.value for each in choice.choices]
    assert values == ["gan", "wgan", "wgan-gp", "r3gan", "hinge"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "0.00001"),
        (1e-4, "0.0001"),
        (0.0, "0"),
        (10.0, "10"),
        (0.995, "0.995"),
        (1e-15, "1e-15"),
    ],
)
def test_number_is_written_as_people_do_and_is_the_same_number(value: float, text: str) -> None:
    assert forms.number_text(value) == text
    assert float(text) == value


def add_counted(session: Session, letter: str, splits: dict[str, dict[str, int]]) -> str:
    """A data set with that many images of each class in each split."""
    sha256 = add_data(session, letter)
    by_label: dict[str, int] = {}
    for counts in splits.values():
        for label, count in counts.items():
            by_label[label] = by_label.get(label, 0) + count
    summary = summary_of(sha256, images=sum(by_label.values()))
    changed = summary.model_copy(update={"by_label": by_label, "by_split": splits})
    session.get_one(DataVersion, sha256).summary = changed.as_json()
    session.flush()
    return sha256


WHOLE = {part: {"covid": 30, "normal": 40} for part in ("train", "validation", "test")}


def test_classes_are_check_boxes_with_their_counts(session: Session) -> None:
    add_counted(session, "a", WHOLE)
    field = field_of(session, "train-gan", "labels")
    assert field.control is Control.MANY
    assert [(each.value, each.text) for each in field.choices] == [
        ("covid", "COVID-19: 90 in set a"),
        ("normal", "Normal: 120 in set a"),
    ]
    assert field.values == ("covid",)
    told = forms.read_run_form(
        RUN_TYPES["train-gan"], FormData([("labels", "covid"), ("labels", "normal")])
    )
    assert told["labels"] == "covid,normal"


def test_classes_are_checked_before_a_run_is_queued(session: Session) -> None:
    data = add_counted(session, "a", WHOLE)
    with pytest.raises(RunRefused) as refused:
        checked_options(session, "train-gan", {"data": data, "labels": "covid,tb"})
    assert refused.value.faults == {
        "labels": "set a has no images of tb. Choose among covid, normal."
    }
    assert checked_options(session, "train-gan", {"data": data, "labels": "normal"})


@pytest.mark.parametrize(
    ("kind", "lacking", "blocked"),
    [
        ("train-classifier", "validation", True),
        ("train-classifier", "test", True),
        ("train-gan", "test", False),
    ],
)
def test_split_without_a_class_blocks_what_is_measured_on_it(
    session: Session, kind: str, lacking: str, blocked: bool
) -> None:
    data = add_counted(session, "a", WHOLE | {lacking: {"covid": 4}})
    if not blocked:
        assert checked_options(session, kind, {"data": data})
        return
    with pytest.raises(RunRefused) as refused:
        checked_options(session, kind, {"data": data})
    assert f"The {lacking} split of set a has no images of Normal" in refused.value.faults["data"]


def test_small_split_is_cautioned_against(session: Session) -> None:
    data = add_counted(session, "a", WHOLE | {"test": {"covid": 4, "normal": 30}})
    (caution,) = small_splits(session.get_one(DataVersion, data))
    assert "The test split has few images: 4 of COVID-19." in caution
    (choice,) = field_of(session, "train-classifier", "data").choices
    assert choice.text.endswith("few to measure on")


def test_inputs_are_chosen_among_what_is_registered_and_usable(session: Session) -> None:
    add_data(session, "a")
    add_data(session, "b", DataKind.SYNTHETIC)
    add_model(session, "c", ModelKind.CLASSIFIER)
    add_model(session, "d", ModelKind.GENERATOR)
    add_model(session, "e", ModelKind.CLASSIFIER, folder=None)
    archived = add_model(session, "f", ModelKind.CLASSIFIER)
    archived.archived_at = archived.registered_at

    data = field_of(session, "train-gan", "data")
    assert [(each.value, each.text) for each in data.choices] == [
        (digest("a"), "set a, 1,200 images (aaaaaaaa)")
    ]
    assert data.value == digest("a")
    # Of several none is the default: the user who starts a run chooses the images.
    add_data(session, "9")
    assert field_of(session, "train-gan", "data").value == ""
    synthetic = field_of(session, "train-classifier", "synthetic")
    assert synthetic.control is Control.MANY
    assert [each.value for each in synthetic.choices] == [digest("b")]
    assert synthetic.values == ()
    bundle = field_of(session, "evaluate-classifier", "bundle")
    assert [each.value for each in bundle.choices] == [digest("c")]
    generator = field_of(session, "synthesize", "generator")
    assert [each.value for each in generator.choices] == [digest("d")]


def test_classifier_is_compared_with_the_one_serving_sha256(session: Session) -> None:
    for letter in "ab":
        add_model(session, letter, ModelKind.CLASSIFIER)
    for serving_sha256, other in (("a", "b"), ("b", "a")):
        form = forms.fields_of(RUN_TYPES["compare-classifiers"], session, digest(serving_sha256))
        fields_by_name = {each.name: each for each in form}
        assert fields_by_name["bundle"].value == digest(other)
        assert fields_by_name["reference"].value == digest(serving_sha256)
        texts = {each.value: each.text for each in fields_by_name["bundle"].choices}
        assert texts[digest(serving_sha256)].endswith("active)")


def test_link_chooses_what_can_be_chosen(session: Session) -> None:
    add_data(session, "a", DataKind.SYNTHETIC)
    form = forms.fields_of(RUN_TYPES["train-classifier"], session)
    wanted = {"synthetic": digest("a"), "data": digest("z"), "epochs": "3"}
    chosen = {each.name: each for each in forms.choose_inputs(form, wanted)}
    assert chosen["synthetic"].values == (digest("a"),)
    assert (chosen["data"].value, chosen["epochs"].value) == ("", "12")


def test_run_is_chosen_among_those_that_succeeded(session: Session) -> None:
    for status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
        session.add(
            Run(
                run_type="train-gan",
                options={},
                queue=RunQueue.CPU,
                status=status,
                requested_by="t",
            )
        )
    session.flush()
    (choice,) = field_of(session, "evaluate-gan", "run").choices
    run = session.get_one(Run, uuid.UUID(choice.value))
    assert run.status is RunStatus.SUCCEEDED


def test_empty_list_says_what_to_do_first(session: Session) -> None:
    generator = field_of(session, "synthesize", "generator")
    assert generator.choices == ()
    assert "Train a GAN" in generator.nothing
    assert generator.nothing_url == "/admin/runs/new/train-gan"


def test_form_gives_the_options_back_that_it_was_filled_with(session: Session) -> None:
    data = add_data(session, "a")
    options = checked_options(
        session,
        "train-gan",
        {"data": data, "steps": 7, "generator_learning_rate": 3e-5, "conditional": True},
    )
    form = forms.fill(forms.fields_of(RUN_TYPES["train-gan"], session), options)
    told = forms.read_run_form(RUN_TYPES["train-gan"], posted(form))
    assert checked_options(session, "train-gan", told) == options


@pytest.mark.parametrize("preset", GAN_PRESETS)
def test_form_filled_with_a_preset_is_the_preset(session: Session, preset: str) -> None:
    kind, data = RUN_TYPES["train-gan"], add_data(session, "a")
    form = forms.fill(forms.fields_of(kind, session), forms.preset_options(kind, preset))
    checked = checked_options(session, "train-gan", forms.read_run_form(kind, posted(form)))
    assert checked == {"data": data} | asdict(GAN_PRESETS[preset])
    texts = forms.preset_texts(kind, preset)
    assert texts == {each.name: each.value for each in form if each.name != "data"}


def test_folder_that_an_earlier_run_named_can_be_chosen_again(session: Session) -> None:
    add_data(session, "a")
    form = forms.fill(forms.fields_of(RUN_TYPES["train-gan"], session), {"data": "/images"})
    assert form[0].value == "/images"
    assert form[0].choices[0] == forms.FieldChoice("/images", "/images")


def test_switch_that_is_off_is_told_from_one_that_is_on(session: Session) -> None:
    form = forms.fields_of(RUN_TYPES["train-gan"], session)
    sent = [(name, text) for name, text in posted(form).multi_items() if name != "generator_norm"]
    told = forms.read_run_form(RUN_TYPES["train-gan"], FormData(sent))
    assert told["generator_norm"] is False
    assert forms.read_run_form(RUN_TYPES["train-gan"], posted(form))["generator_norm"] is True


def test_what_was_typed_is_kept_beside_its_fault(session: Session) -> None:
    form = forms.fields_of(RUN_TYPES["train-gan"], session)
    typed = FormData([("steps", "many"), ("labels", "covid")])
    kept = {each.name: each for each in forms.keep_typed(form, typed, {"steps": "no number"})}
    assert (kept["steps"].value, kept["steps"].fault) == ("many", "no number")
    assert (kept["labels"].value, kept["labels"].fault) == ("covid", "")
    assert kept["generator_norm"].value == ""


@pydantic.dataclasses.dataclass(frozen=True)
class OneOption:
    """Of a run type that has one."""

    steps: int = 3


class Try(RunType):
    """A run type with one input and one option."""

    name = "try"
    inputs = (Input("data", InputType.DATA, "Images."),)
    Options = OneOption


def test_option_without_a_description_gets_a_field_too(session: Session) -> None:
    assert [(each.name, each.value) for each in forms.fields_of(Try(), session)] == [
        ("data", ""),
        ("steps", "3"),
    ]


def test_device_and_priority_are_read() -> None:
    typed = FormData([(forms.QUEUE_FIELD, "gpu"), (forms.PRIORITY_FIELD, "-3")])
    assert forms.read_queue(typed) == (RunQueue.GPU, -3)
    assert forms.read_queue(FormData()) == (RunQueue.CPU, 0)


def test_senseless_device_and_priority_are_refused_together() -> None:
    with pytest.raises(InvalidForm) as refused:
        forms.read_queue(FormData([(forms.QUEUE_FIELD, "tpu"), (forms.PRIORITY_FIELD, "1000")]))
    assert set(refused.value.faults) == {forms.QUEUE_FIELD, forms.PRIORITY_FIELD}
