"""A run's log: rows for programs, event files for TensorBoard, no point twice."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.summary.writer import event_file_writer

from ml.training.metrics_log import EVENTS, METRICS, MetricsLog, _summary_writer


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard draws of one metric."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / EVENTS))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_resumed_run_has_every_point_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Within a second, files are read in the order of the number in their names, as a text.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    with MetricsLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write({"loss": step / 2}, step)
    # The checkpoint knows of two steps; the third is done again.
    with MetricsLog(tmp_path) as log:
        log.rewrite([{"loss": 0.5}, {"loss": 1.0}])
        for step in (3, 4):
            log.write({"loss": 8.0 * step}, step)
    assert rows(tmp_path) == [{"loss": 0.5}, {"loss": 1.0}, {"loss": 24.0}, {"loss": 32.0}]
    assert points(tmp_path, "loss") == [(1, 0.5), (2, 1.0), (3, 24.0), (4, 32.0)]


def test_pictures_reach_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path) as log:
        log.images("images", np.zeros((6, 9), np.uint8), 1)
    events = EventAccumulator(str(tmp_path / EVENTS))
    events.Reload()
    (picture,) = events.Images("images")
    assert (picture.step, picture.height, picture.width) == (1, 6, 9)


def test_of_several_processes_one_writes(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, writes=False) as log:
        log.rewrite([{"loss": 1.0}])
        log.write({"loss": 1.0}, 1)
        log.images("images", np.zeros((6, 9), np.uint8), 1)
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_rows_are_written_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    _summary_writer.cache_clear()
    try:
        with MetricsLog(tmp_path) as log:
            log.write({"loss": 1.0}, 1)
            log.write({"loss": 2.0}, 2)
    finally:
        _summary_writer.cache_clear()
    assert rows(tmp_path) == [{"loss": 1.0}, {"loss": 2.0}]
    assert capsys.readouterr().err.count("TensorBoard is not installed") == 1
    assert not (tmp_path / EVENTS).exists()
