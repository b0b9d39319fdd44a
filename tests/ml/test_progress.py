"""Progress of commands where nobody watches: lines, so that a log shows what is being done."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ml import progress as shown
from ml.progress import Counter, progress, tracked


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come at once and often."""
    monkeypatch.setattr(shown, "FIRST_LINE_S", 0.01)
    monkeypatch.setattr(shown, "LINE_EVERY_S", 0.01)


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.usefixtures("fast")
def test_long_work_prints_lines(capfd: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def lines() -> list[str]:
        printed.extend(capfd.readouterr().err.splitlines())
        return printed

    for number in tracked([1, 2, 3], "counting"):
        wait_for(lambda n=number: any(f"counting: {n - 1} of 3" in line for line in lines()))
    assert lines()[-1].startswith("counting: 3 of 3, ")
    assert not any("\r" in line or "\x1b" in line for line in printed)


@pytest.mark.usefixtures("fast")
def test_work_that_does_not_come_back_prints_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("converting"):
        wait_for(lambda: capfd.readouterr().err.count("converting: ") > 0)


def test_quick_work_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("fast")
def test_hidden_work_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("counting", 3, hidden=True) as counter:
        counter.advance(2)
        time.sleep(0.1)
    assert counter.done == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("fast")
def test_error_ends_the_lines(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress("counting", 3):
            wait_for(lambda: capfd.readouterr().err)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    capfd.readouterr()
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_line_says_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter("reading images", 6000)
    counter.advance(1500, note="loss 0.5")
    monkeypatch.setattr(shown.time, "monotonic", lambda: counter._began + 100)
    line = "reading images: 1,500 of 6,000, 1:40 min, about 5:00 min left, loss 0.5"
    assert counter.line() == line
    counter = Counter("converting", None)
    monkeypatch.setattr(shown.time, "monotonic", lambda: counter._began + 7300)
    assert counter.line() == "converting: 2:01 h"


def test_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    for _ in tracked([1, 2], "counting"):
        time.sleep(0.15)
    assert "counting" in capfd.readouterr().err


def test_no_command_has_a_bar_of_its_own() -> None:
    from tests.support import REPOSITORY

    for package in ("app", "ml"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if path != REPOSITORY / "ml" / "progress.py":
                assert "rich.progress" not in path.read_text(), path
