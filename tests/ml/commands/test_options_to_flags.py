"""Options as flags: the words an option may be, and an option written back as a flag."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ml.classifier.networks import BACKBONES
from ml.commands.main import app
from ml.commands.options_to_flags import flag_of, with_flags
from ml.errors import XrayError
from ml.gan.networks import NETWORKS
from ml.gan.objectives import OBJECTIVES
from ml.options import ClassifierOptions, GanOptions


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
        shape: str = field(
            default="round",
            metadata={"help": "Its form.", "min": None, "max": None, "choices": ("round", "flat")},
        )

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
    assert str(refused.exception) == "unknown shape 'square', expected one of round, flat"
    assert seen == ["flat"]
    assert "[round|flat]" in run("--help").stdout


def test_choices_are_all_that_there_is() -> None:
    def words(options: type[Any], name: str) -> list[str]:
        return list(next(f for f in fields(options) if f.name == name).metadata["choices"])

    assert words(ClassifierOptions, "network") == list(BACKBONES)
    assert words(GanOptions, "network") == list(NETWORKS)
    assert words(GanOptions, "objective") == list(OBJECTIVES)


def test_every_option_of_a_classifier_is_a_flag() -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", "classifier", "--help"]).stdout
    for each in fields(ClassifierOptions):
        assert f"--{each.name.replace('_', '-')} " in shown
        assert each.metadata["help"] in shown
        assert not each.default or f"[default: ({each.default})]" in shown
    assert "[efficientnet-lite0|report-cnn]" in shown
