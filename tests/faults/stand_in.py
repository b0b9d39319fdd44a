"""A stand-in for a trainer: it counts, keeps its count in a file, and resumes from it."""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.runs import Kind

KIND = "stand-in"


@dataclass(frozen=True)
class StandInOptions:
    steps: int = 10
    step_s: float = 0.05
    fail_at: int = 0  # the step at which it gives up; 0: never
    stubborn: bool = False  # whether it takes no notice of SIGTERM


def kind() -> "Kind":
    from app.runs import Kind

    return Kind(("tests.faults.stand_in",), StandInOptions, "step", "steps")


def register() -> None:
    """Make it a kind of run, in this process."""
    from app.runs import KINDS

    KINDS[KIND] = kind()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("data", "out", "device", *(field.name for field in fields(StandInOptions))):
        parser.add_argument(f"--{name.replace('_', '-')}")
    told = parser.parse_args()
    if told.stubborn == "True":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    folder = Path(told.out)
    with (folder / "starts.txt").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    counter = folder / "counter.txt"
    done = int(counter.read_text()) if counter.exists() else 0
    print(f"beginning after step {done}")
    for step in range(done + 1, int(told.steps) + 1):
        time.sleep(float(told.step_s))
        if step == int(told.fail_at):
            sys.exit(f"no luck in step {step}")
        counter.with_suffix(".part").write_text(str(step))
        counter.with_suffix(".part").replace(counter)
        with (folder / "metrics.jsonl").open("a") as metrics:
            row = {"step": step, "loss": 1 / step, "odd": float("nan"), "seconds": 0.05}
            metrics.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
