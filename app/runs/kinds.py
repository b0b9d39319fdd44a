"""The kinds of runs: the program of each, what it is told, and what becomes of its results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.runs.handlers import (
    SET,
    Completion,
    Preparation,
    choose_images,
    gather_images,
    keep_classifier,
    keep_comparison,
    keep_data,
    keep_generator,
    keep_images,
    name_bundle,
    one_generator,
    some_images,
    tell_classifier,
    tell_conditions,
    tell_generator,
    two_classifiers,
)
from app.runs.kind_options import ImportOptions, NamedClassifierOptions
from ml.options import (
    GAN_PRESETS,
    AblationOptions,
    ClassifierEvaluationOptions,
    GanEvaluationOptions,
    GanOptions,
    NoOptions,
    SynthesisOptions,
)


class Ref(StrEnum):
    """What an input of a run refers to."""

    DATA = "data"  # a data version with images of people
    SYNTHETIC = "synthetic"  # a data version of a generator
    CLASSIFIER = "classifier"
    GENERATOR = "generator"
    RUN = "run"  # its folder


@dataclass(frozen=True, slots=True)
class Input:
    """An option that names something registered.

    In the run's row stands its digest or, of a run, its id; the program is told a path.

    Attributes:
        name: of the option and of the program's flag.
        ref: what it refers to.
        help: what it is for, for a person.
        required: whether there has to be one.
        many: whether there may be several.
        of: where it refers to a run, the kind of that.
        newest: whether a schedule takes the newest version that grew out of the one it names.

    """

    name: str
    ref: Ref
    help: str
    required: bool = True
    many: bool = False
    of: str = ""
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of run: the program that does it and what it may be told.

    Attributes:
        title: what it does, for a person.
        summary: the same in a sentence.
        program: what follows `python -m`. It takes `--out`, its inputs and every option as
            `--name=value`, resumes in the same `--out` folder, and writes `metrics.jsonl`.
        inputs: what it works on.
        options: the dataclass that defines the options; every one has a default, and in its
            metadata what a person is told, the range and the choices.
        step: field of a row of `metrics.jsonl` that counts the steps done.
        steps: the option that says how many there are; empty where the rows say it (`of`).
        seconds_each: whether the `seconds` of a row are those of its step, not of all so far.
        presets: sets of options to start from, by name.
        out: the folder within the run's that is given as `--out`; empty: the run's own.
        device: whether the program takes `--device`.
        faults: what is wrong with options that are each right by themselves, by name.
        prepare: called before the program starts; what it returns is added to the flags, and None
            leaves a flag out.
        complete: called when the program has succeeded, within the transaction that says so; what
            it returns is the run's result.

    """

    title: str
    summary: str
    program: tuple[str, ...]
    inputs: tuple[Input, ...]
    options: type[Any]
    step: str = "step"
    steps: str = ""
    seconds_each: bool = False
    presets: Mapping[str, Any] = field(default_factory=dict)
    out: str = ""
    device: bool = True
    faults: Callable[[Mapping[str, Any]], dict[str, str]] | None = None
    prepare: Callable[[Preparation], dict[str, Any]] | None = None
    complete: Callable[[Completion], dict[str, Any]] | None = None


_DATA = Input("data", Ref.DATA, "The images to learn from, and to measure on.", newest=True)
# A further kind of run is one entry here.
KINDS: dict[str, Kind] = {
    "train-gan": Kind(
        title="Train a GAN",
        summary="Learn to make synthetic images, and keep the best generator.",
        program=("ml", "train", "gan", "--export"),
        inputs=(_DATA,),
        options=GanOptions,
        steps="steps",
        presets=GAN_PRESETS,
        complete=keep_generator,
    ),
    "evaluate-gan": Kind(
        title="Measure a generator",
        summary="Compare a generator's images with those of the test split, and write a report.",
        program=("ml", "evaluate", "gan"),
        inputs=(
            Input("data", Ref.DATA, "The images to compare with."),
            Input("generator", Ref.GENERATOR, "The generator.", required=False),
            Input(
                "run",
                Ref.RUN,
                "Or the training of it, for its curves in the report.",
                required=False,
                of="train-gan",
            ),
        ),
        options=GanEvaluationOptions,
        faults=one_generator,
        complete=tell_generator,
    ),
    "synthesize": Kind(
        title="Make synthetic images",
        summary="Make images with a generator, certify each, and hang them in the gallery.",
        program=("ml", "synthesize"),
        inputs=(
            Input("generator", Ref.GENERATOR, "What makes them."),
            Input(
                "against",
                Ref.DATA,
                "The images that the generator learned from; those too near to one are refused.",
                required=False,
            ),
        ),
        options=SynthesisOptions,
        out=SET,
        prepare=choose_images,
        complete=keep_images,
    ),
    "train-classifier": Kind(
        title="Train a classifier",
        summary="Learn to answer images, with synthetic ones if you like; makes a new version.",
        program=("ml", "train", "classifier"),
        inputs=(
            _DATA,
            Input(
                "synthetic",
                Ref.SYNTHETIC,
                "Synthetic images to train with too.",
                required=False,
                many=True,
            ),
        ),
        options=NamedClassifierOptions,
        step="epoch",
        steps="epochs",
        seconds_each=True,
        prepare=name_bundle,
        complete=keep_classifier,
    ),
    "evaluate-classifier": Kind(
        title="Measure a classifier",
        summary="Measure a classifier on the test split, and write a report.",
        program=("ml", "evaluate", "classifier"),
        inputs=(
            Input("data", Ref.DATA, "The images to measure on."),
            Input("bundle", Ref.CLASSIFIER, "The classifier."),
        ),
        options=ClassifierEvaluationOptions,
        device=False,
        complete=tell_classifier,
    ),
    "compare-classifiers": Kind(
        title="Compare two classifiers",
        summary="Measure a classifier and the active one on the same test images: the promotion "
        "checks.",
        program=("ml", "compare", "classifiers"),
        inputs=(
            Input("data", Ref.DATA, "The images to measure on."),
            Input("bundle", Ref.CLASSIFIER, "The classifier that may go active."),
            Input("reference", Ref.CLASSIFIER, "The classifier to compare it with."),
        ),
        options=NoOptions,
        device=False,
        faults=two_classifiers,
        complete=keep_comparison,
    ),
    "compare-conditions": Kind(
        title="Find out whether synthetic images help",
        summary="Train without, with augmented and with synthetic images, and say what came of it.",
        program=("ml", "compare", "conditions"),
        inputs=(
            _DATA,
            Input("synthetic", Ref.SYNTHETIC, "The synthetic images.", many=True),
        ),
        options=AblationOptions,
        complete=tell_conditions,
    ),
    "import-data": Kind(
        title="Add a data set",
        summary="Take images in from an archive, a folder or the reviews, as a new version.",
        program=("ml", "data", "prepare"),
        inputs=(
            Input("base", Ref.DATA, "A version that the images are added to.", required=False),
        ),
        options=ImportOptions,
        device=False,
        faults=some_images,
        prepare=gather_images,
        complete=keep_data,
    ),
}
