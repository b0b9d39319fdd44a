"""What every run type has: a program, inputs, options, and hooks around the program."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy.orm import Session

from app.runs.tables import Run, RunLane, RunQueue
from app.runs.work import Work
from app.settings import Settings
from ml.data.splits import Split
from ml.files import link_or_copy
from ml.json_model import JsonObject
from ml.option_fields import option_fields, option_title, validated_options
from ml.options.common import NoOptions
from ml.texts import msg

Options = TypeVar("Options")
Value = TypeVar("Value")
# The folder of a data set that a program writes, within its run's.
DATA_SET_FOLDER: Final = "set"
# Marks a run whose program has succeeded, and of which only the completion is left.
DONE: Final = ".done"


class Length(StrEnum):
    """How long a run takes, next to others of its type."""

    TRIAL = msg("trial")
    STANDARD = msg("standard")
    LONG = msg("long")


Lengths = Mapping[RunQueue, Mapping[Length, Mapping[str, JsonValue]]]


def length_options(
    trial: Mapping[str, JsonValue], standard: Mapping[str, JsonValue], long: Mapping[str, JsonValue]
) -> Mapping[Length, Mapping[str, JsonValue]]:
    """The options of each length."""
    return {Length.TRIAL: trial, Length.STANDARD: standard, Length.LONG: long}


def on_each_device(of: Mapping[Length, Mapping[str, JsonValue]]) -> Lengths:
    """Lengths that do not depend on the device."""
    return dict.fromkeys(RunQueue, of)


class InputType(StrEnum):
    """What an input of a run refers to."""

    DATA = "data"  # a data set version with images of people
    SYNTHETIC = "synthetic"  # a data set version of a generator
    CLASSIFIER = "classifier"
    GENERATOR = "generator"
    RUN = "run"  # its folder


@dataclass(frozen=True, slots=True)
class Input:
    """An option that names something registered.

    The run's row holds its digest or, of a run, its id; the program is given a path.

    Attributes:
        name: of the option and of the program's flag.
        type: what it refers to.
        help: what it is for, in a sentence.
        required: whether it has to be given.
        many: whether it may name several.
        run_type: of an input of type RUN, the type of that run.
        newest: whether a schedule uses the newest version based on the named one.
        none: what it means to name nothing, where it is not required.

    """

    name: str
    type: InputType
    help: str
    required: bool = True
    many: bool = False
    run_type: str = ""
    newest: bool = False
    none: str = msg("None")


@dataclass(frozen=True, slots=True)
class StepCount:
    """How the rows of `metrics.jsonl` count the steps of a program.

    Attributes:
        field: of a row, the steps done.
        total_option: the option with the number of steps; empty if rows hold it as `of`.
        seconds_per_row: whether the `seconds` of a row are those of its step, not of all so far.
    """

    field: str = "step"
    total_option: str = ""
    seconds_per_row: bool = False


class RunResult(BaseModel):
    """What a run has produced, as its row stores it; run types add their fields."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=True)


class RegisteredModel(RunResult):
    """A model version that a run has registered."""

    version: str


class RegisteredData(RunResult):
    """A data set version that a run has registered."""

    data: str
    images: int


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is known before a run's program starts.

    Attributes:
        session: the database.
        settings: the worker's.
        run: the run, claimed.
        folder: of the run; an earlier attempt may have left files there.

    """

    session: Session
    settings: Settings
    run: Run
    folder: Path

    def input(self, name: str) -> str:
        """The digest, id or folder that an input names; empty if none."""
        named = self.run.options.get(name)
        return named if isinstance(named, str) else ""


@dataclass(frozen=True, slots=True)
class Completion(Preparation):
    """What is known after a run's program has succeeded.

    Changes in the session are committed together with the run's success, or not at all; files are
    in their place before. A completion may be repeated after a crash in between.
    """

    def read_json(self, name: str) -> JsonObject:
        """A JSON file that the program has written."""
        found: JsonObject = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return found

    def linked_data_set(self) -> Path:
        """The program's data set as a second tree of the same files, to be moved away.

        The program's own folder stays complete until the success is committed, so that an attempt
        after a crash finds everything done.
        """
        folder = self.folder / DATA_SET_FOLDER
        copy = folder.with_name(f".{folder.name}.linked")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy, copy_function=link_or_copy)
        return copy


class RunType:
    """One type of run.

    A program takes `--options FILE`, resumes in the same `out` folder, and writes `metrics.jsonl`.

    Attributes:
        name: in URLs, rows and commands.
        title: what it does, in a few words.
        summary: the same in a sentence.
        program: what follows `python -m`.
        inputs: what it works on.
        Options: the class of its options (`ml.option_fields`).
        presets: options to start from, by name.
        steps: how progress is counted.
        out: the folder within the run's that the program writes to; empty: the run's own.
        uses_device: whether the program takes `device`.
        measured_splits: where every class of the data set needs images.
        lane: which runs it waits for.
        finishes_early: whether the program can be asked to stop and keep its best result.
        lengths: options of a trial, a usual and a long run, by device and name.

    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    program: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[Input, ...]] = ()
    Options: ClassVar[type[object]] = NoOptions
    presets: ClassVar[Mapping[str, object]] = {}
    steps: ClassVar[StepCount] = StepCount()
    out: ClassVar[str] = ""
    uses_device: ClassVar[bool] = True
    measured_splits: ClassVar[tuple[Split, ...]] = ()
    lane: ClassVar[RunLane] = RunLane.LONG
    lengths: ClassVar[Lengths] = {}
    finishes_early: ClassVar[bool] = False

    def work(
        self,
        session: Session,  # noqa: ARG002
        options: JsonObject,  # noqa: ARG002
    ) -> Work | None:
        """How much a run has to do; None where that is known only once it is at work.

        Args:
            session: the database, where inputs are registered.
            options: inputs and options, as its row stores them.
        """
        return None

    def validate(self, options: JsonObject) -> dict[str, str]:  # noqa: ARG002  # for subclasses
        """What is wrong with values that are each valid: a sentence for each, by name."""
        return {}

    def default_inputs(
        self,
        session: Session,  # noqa: ARG002
        options: JsonObject,  # noqa: ARG002
    ) -> tuple[dict[str, JsonValue], dict[str, str]]:
        """Inputs that follow from the other ones, and a fault for each that does not.

        Args:
            session: the database, where inputs are registered.
            options: inputs and options, each valid by itself.
        """
        return {}, {}

    def prepare(self, before: Preparation) -> dict[str, JsonValue]:  # noqa: ARG002
        """Make ready what the program needs.

        Returns:
            Changes to the program's options; None removes one.

        Raises:
            XrayError: the program cannot be started.
        """
        return {}

    def complete(self, done: Completion) -> RunResult:  # noqa: ARG002
        """Register what the program has produced."""
        return RunResult()

    def known_options(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """The values that are options of this run type, without inputs and unknown names."""
        known = {each.name for each in option_fields(self.Options)}
        return {name: value for name, value in options.items() if name in known}

    def title_of(self, option: str) -> str:
        """The label of an input or option."""
        titles = {each.name: each.title for each in option_fields(self.Options)}
        return titles.get(option, option_title(option))


def typed_options(options: type[Options], of: RunType, run: Run) -> Options:
    """The options of a run as their class."""
    return typed_values(options, of, run.options)


def typed_values(options: type[Options], of: RunType, values: JsonObject) -> Options:
    """Inputs and options, as a row stores them, as the class of the options."""
    return validated_options(options, of.known_options(values))


DATA_INPUT: Final = Input(
    "data", InputType.DATA, msg("Images to train on and to measure with."), newest=True
)
