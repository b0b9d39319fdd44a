"""The journal and progress of preparing a data set, so that an interrupted one resumes."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml.data.importers.import_images import (
    Report,
)
from ml.data.importers.records import Skipped
from ml.errors import CheckpointError
from ml.files import write_whole
from ml.training.metrics_log import METRICS

# Between two rows of progress, unless it is the last one.
ROW_EVERY_S = 1.0


class PrepareJournal:
    """What was done of the work, on disk before the next step begins."""

    NAME = "journal.json"

    def __init__(self, path: Path, inputs: Mapping[str, Any], done: dict[str, Any]) -> None:
        self._path, self._inputs = path, inputs
        self._done = done

    @classmethod
    def open(cls, work: Path, inputs: Mapping[str, Any]) -> "PrepareJournal":
        """Resume the same work where it was interrupted, or start it."""
        path = work / cls.NAME
        if path.exists():
            found = json.loads(path.read_text())
            if found["inputs"] == inputs:
                return cls(path, inputs, found["reports"])
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        journal = cls(path, inputs, {})
        journal._write()
        return journal

    @property
    def reports(self) -> dict[str, Report]:
        """Of what is done, by its name."""
        return as_reports(self._done)

    def add(self, name: str, report: Report) -> None:
        """Write down that a step is done."""
        self._done[name] = {
            "added": dict(report.added),
            "total": report.total,
            "changed": report.changed,
            "left_out": [(str(one.path), one.reason, one.detail) for one in report.left_out],
        }
        self._write()

    def _write(self) -> None:
        text = json.dumps({"inputs": self._inputs, "reports": self._done}, indent=1)
        write_whole(self._path, text.encode())


def as_reports(done: Mapping[str, Any]) -> dict[str, Report]:
    """The reports of imports, from their JSON."""
    return {
        name: Report(
            Counter(fields["added"]),
            fields["total"],
            [Skipped(Path(path), reason, detail) for path, reason, detail in fields["left_out"]],
            fields["changed"],
        )
        for name, fields in done.items()
    }


@dataclass(slots=True)
class PrepareProgress:
    """Counts images as they pass, writes how far it is, and ends the work when it is to end."""

    out: Path
    should_stop: Callable[[], bool]
    step: int = 0
    of: int = 0
    _written_at: float = field(default=0.0)

    def __post_init__(self) -> None:
        (self.out / METRICS).write_text("")

    def expect(self, images: int) -> None:
        """So many more are to come."""
        self.of += images

    def stop_if_asked(self) -> None:
        """Nothing is counted, but this may be the end."""
        if self.should_stop():
            raise CheckpointError(
                "Stopped before the data set was complete. Run the same command again to resume."
            )

    def __call__(self) -> None:
        """One more has passed."""
        self.stop_if_asked()
        self.step += 1
        self.of = max(self.of, self.step)
        if self.step == self.of or time.monotonic() - self._written_at > ROW_EVERY_S:
            self._written_at = time.monotonic()
            with (self.out / METRICS).open("a") as log:
                log.write(json.dumps({"step": self.step, "of": self.of}) + "\n")
