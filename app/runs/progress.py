"""How far a run is, read from the `metrics.jsonl` that its program writes."""

import json
import os
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from app.core.database import now
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run
from ml.legacy import rename_keys

METRICS = "metrics.jsonl"
# Of `ml.training.run_folder`, which imports torch.
CHECKPOINT = "checkpoint.pt"
LOG = "log.txt"
_MAX_TAIL = 64 * 2**10


class RunProgress(BaseModel):
    """How far a run is, as its row stores it.

    Attributes:
        step: the steps done; None before the first.
        of: how many there are, where known.
        eta_s: seconds until the last one, where known.
        images_per_second: speed, where the program measures it.
        metrics: of the last step.
        first_step_at: when the worker first saw a step.
        last_step_at: when it saw the present step first.
        steps_s: seconds that the steps have taken in all attempts, where the program measures them.
        checkpoint_step: the step at which a worker last saw a new checkpoint.
    """

    model_config = ConfigDict(frozen=True)

    step: float | None = None
    of: float | None = None
    eta_s: float | None = None
    images_per_second: float | None = None
    metrics: dict[str, JsonValue] = {}
    first_step_at: datetime | None = None
    last_step_at: datetime | None = None
    steps_s: float | None = None
    checkpoint_step: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the last step is done."""
        return self.step is not None and self.of is not None and self.step >= self.of


def tail_of(path: Path) -> str:
    """The end of a file that is being written; empty where there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_TAIL))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def read_progress(folder: Path, run: Run) -> RunProgress:
    """How far a run is; what its row says where the program has written nothing new.

    Args:
        folder: of the run.
        run: its row.
    """
    known = RunProgress.model_validate(run.progress)
    rows = _rows(folder / METRICS)
    row = dict(rows[-1]) if rows else {}
    counted = RUN_TYPES[run.run_type].steps
    if (step := _number(row.pop(counted.field, None))) is None:
        return known
    of = _number(row.pop("of", run.options.get(counted.total_option)))
    seconds = _number(row.get("seconds"))
    return RunProgress(
        step=step,
        of=of,
        eta_s=_remaining(seconds, step, of, per_row=counted.seconds_per_row),
        images_per_second=_number(row.get("images_per_second")),
        metrics=row,
        first_step_at=known.first_step_at or now(),
        last_step_at=known.last_step_at if step == known.step else now(),
        steps_s=_steps_seconds(rows, step, per_row=counted.seconds_per_row),
        checkpoint_step=known.checkpoint_step,
    )


def newest_checkpoint(folder: Path) -> int:
    """When a run's program last saved its state, in ns; 0 where it never did.

    Programs that train several networks keep the state of each in its own folder.
    """
    saved = [folder / CHECKPOINT, *folder.glob(f"*/{CHECKPOINT}")]
    return max(map(_modified_ns, saved))


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _rows(path: Path) -> list[dict[str, JsonValue]]:
    """The last whole rows; of a long file not all."""
    rows = []
    for line in tail_of(path).rpartition("\n")[0].splitlines():
        try:
            # JSON in PostgreSQL has no infinity.
            row = rename_keys(json.loads(line, parse_constant=lambda _: None))
        except ValueError:
            # One that a killed program left unfinished, or of which the beginning is not here.
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _steps_seconds(rows: list[dict[str, JsonValue]], step: float, *, per_row: bool) -> float | None:
    """Seconds of all steps; None where rows of them are missing."""
    seconds = [_number(row.get("seconds")) for row in rows]
    if not per_row:
        return seconds[-1]
    return round(sum(filter(None, seconds)), 3) if len(rows) == step else None


def _number(value: JsonValue) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _remaining(
    seconds: float | None, step: float, of: float | None, *, per_row: bool
) -> float | None:
    """Seconds until the last step, if every further one takes as long as those before."""
    if seconds is None or of is None or not (per_row or step):
        return None
    return round((seconds if per_row else seconds / step) * max(0, of - step), 1)
