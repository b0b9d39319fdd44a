"""Options as flags: the words an option may be, and an option written back as a flag."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from ml.classifier.networks import BACKBONES
from ml.commands.common import DataFolder
from ml.commands.main import app
from ml.commands.options_to_flags import flag_of, given_of, with_flags
from ml.errors import XrayError
from ml.gan.network_pairs import NETWORKS
from ml.gan.objectives import OBJECTIVES
from ml.option_fields import option_fields
from ml.options.classifier import ClassifierOptions
from ml.options.gan import GanOptions


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("batch_size", 8, "--batch-size=8"),
        ("clip", 1e-05, "--clip=1e-05"),
        ("leave_out", "", "--leave-out="),
        ("batch_std", True, "--batch-std"),
        ("batch_std", False, "--no-batch-std"),
    ],
)
def test_option_is_written_as_one_flag(name: str, value: Any, flag: str) -> None:
    assert flag_of(name, value) == flag


@pytest.mark.parametrize("options", [ClassifierOptions, GanOptions])
def test_options_come_back_from_the_flags_they_are_written_as(options: type[Any]) -> None:
    seen: list[dict[str, Any]] = []
    program = typer.Typer()

    @program.command()
    @with_flags(options, panel="")
    def take(**given: Any) -> None:
        seen.append(given)

    wanted = asdict(options())
    done = CliRunner().invoke(program, [flag_of(name, value) for name, value in wanted.items()])
    assert done.exit_code == 0, done.output
    assert seen == [wanted]


def test_word_that_is_no_choice_is_refused_before_the_command_begins() -> None:
    @dataclass
    class Options:
        shape: Literal["round", "flat"] = Field(default="round", description="Its form.")

    program = typer.Typer()
    seen: list[str] = []

    @program.command()
    @with_flags(Options, panel="")
    def draw(**given: Any) -> None:
        seen.append(given["shape"])

    def run(*arguments: str) -> Any:
        return CliRunner(env={"COLUMNS": "120"}).invoke(program, arguments)

    assert run("--shape", "flat").exit_code == 0
    refused = run("--shape", "square")
    assert isinstance(refused.exception, XrayError)
    assert str(refused.exception) == "shape: Expected one of round, flat, got 'square'."
    assert seen == ["flat"]
    assert "[round|flat]" in run("--help").stdout


def test_choices_are_all_that_there_is() -> None:
    def words(options: type[Any], name: str) -> list[str]:
        return list(next(each for each in option_fields(options) if each.name == name).choices)

    assert words(ClassifierOptions, "network") == list(BACKBONES)
    assert words(GanOptions, "network") == list(NETWORKS)
    assert words(GanOptions, "objective") == list(OBJECTIVES)


def test_every_option_of_a_classifier_is_a_flag() -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", "classifier", "--help"]).stdout
    for each in option_fields(ClassifierOptions):
        assert f"--{each.name.replace('_', '-')} " in shown
        assert each.help in shown
        assert not each.default or f"[default: ({each.default})]" in shown
    assert "[efficientnet-lite0|report-cnn]" in shown


@dataclass
class Recipe:
    """Options of a program that is only tested."""

    epochs: int = Field(default=12, ge=1, description="Epochs.")
    ema_images: int = Field(default=5, description="Half-life.")
    norm: bool = Field(default=True, description="Batch norm.")


@pytest.fixture
def program() -> tuple[typer.Typer, list[dict[str, Any]]]:
    """A program with an options file, and what it was called with."""
    app, seen = typer.Typer(), []

    @app.command()
    @with_flags(Recipe, panel="")
    def train(
        data: DataFolder,
        synthetic: Annotated[list[Path] | None, typer.Option()] = None,
        **given: Any,
    ) -> None:
        seen.append({"data": data, "synthetic": synthetic, **given})

    return app, seen


def invoke(app: typer.Typer, tmp_path: Path, content: object, *flags: str) -> Any:
    """Call a program with an options file while the environment names another data set."""
    file = tmp_path / "options.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    environment = {"XRAY_DATA": "/elsewhere"}
    return CliRunner(env=environment).invoke(app, [*flags, "--options", str(file)])


def test_options_file_stands_for_flags(
    program: tuple[typer.Typer, list[dict[str, Any]]], tmp_path: Path
) -> None:
    app, seen = program
    content = {"data": "/images", "synthetic": ["/a", "/b"], "epochs": 3, "norm": False}
    assert invoke(app, tmp_path, content).exit_code == 0
    assert invoke(app, tmp_path, content, "--epochs", "4", "--data", "/typed").exit_code == 0
    assert invoke(app, tmp_path, {"epochs": 3, "ema_films": 7}).exit_code == 0
    both = [Path("/a"), Path("/b")]
    assert seen == [
        {"data": Path("/images"), "synthetic": both, "epochs": 3, "norm": False},
        {"data": Path("/typed"), "synthetic": both, "epochs": 4, "norm": False},
        {"data": Path("/elsewhere"), "synthetic": None, "epochs": 3, "ema_images": 7},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": "/images", "epoch": 3}, r"Unknown option in .*: epoch. Expected some of data,"),
        ({"data": "/images", "norm": "perhaps"}, "--norm"),
        ({"data": "/images", "epochs": 0}, "--epochs"),
        ("[]", "expected a JSON object"),
        ("{", "Cannot read the options in .*options.json"),
    ],
)
def test_options_file_is_checked(
    program: tuple[typer.Typer, list[dict[str, Any]]],
    tmp_path: Path,
    content: object,
    message: str,
) -> None:
    app, seen = program
    refused = invoke(app, tmp_path, content)
    assert refused.exit_code != 0
    assert re.search(message, f"{refused.exception} {refused.output}")
    assert seen == []


@pytest.mark.parametrize("command", ["train gan", "train classifier", "evaluate gan",
    "evaluate classifier", "compare classifiers", "compare conditions", "synthesize",
    "data prepare"])  # fmt: skip
def test_every_program_of_a_run_reads_an_options_file(command: str) -> None:
    assert "--options" in CliRunner().invoke(app, [*command.split(), "--help"]).stdout


def test_command_has_the_flags_of_two_classes() -> None:
    @dataclass
    class Colours:
        shade: str = Field(default="grey", description="Its colour.")

    @dataclass
    class Shapes:
        corners: int = Field(default=4, description="Its corners.")

    seen: list[dict[str, Any]] = []
    program = typer.Typer()

    @program.command()
    @with_flags(Colours, panel="")
    @with_flags(Shapes, panel="")
    def take(**given: Any) -> None:
        seen.append(given)

    done = CliRunner().invoke(program, ["--corners", "3", "--shade", "red"])
    assert done.exit_code == 0, done.output
    assert seen == [{"corners": 3, "shade": "red"}]
    assert given_of(Shapes, seen[0]) == {"corners": 3}
