"""Run one step of the GPU kit within its time, and collect its results.

    python scripts/gpu/step.py check|gan|sites --home HOME --out RESULTS [--minutes M]

A step that ran out of time continues with the same command.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from scripts.gpu.transfer import collect

# Between the signal to stop and the end of the process, for a checkpoint.
GRACE_SECONDS = 30
Runner = Callable[[Sequence[str], Path, float], int]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the kit.

    Attributes:
        minutes: it is stopped after these.
        program: arguments of Python; {home} is the folder on the machine.
        toy: further arguments for a rehearsal.
        results: what comes back, as patterns in the folder, the most important first.
    """

    minutes: float
    program: tuple[str, ...]
    toy: tuple[str, ...]
    results: tuple[str, ...]


STEPS = {
    "check": Step(
        minutes=3.0,
        program=("-m", "scripts.gpu.check", "--out", "{home}/check/check.json"),
        toy=("--toy",),
        results=("check/check.json",),
    ),
    # Five critic steps and larger batches: what a GPU has time for.
    "gan": Step(
        minutes=8.0,
        program=(
            *("-m", "ml", "train", "gan", "--data", "{home}/data", "--out", "{home}/gan"),
            *("--preset", "resnet", "--size", "256", "--labels", "covid,pneumonia,normal"),
            *("--conditional", "--precision", "bfloat16", "--batch-size", "64", "--width", "32"),
            *("--critic-steps", "2", "--critic-learning-rate", "4e-4"),
            *("--generator-learning-rate", "2e-4", "--beta2", "0.99", "--batch-std"),
            *("--augment", "0.5", "--evaluation-interval", "500", "--steps", "1000000"),
        ),
        toy=(
            *("--size", "16", "--steps", "2", "--evaluation-interval", "1", "--batch-size", "8"),
            *("--width", "2", "--latent", "8", "--min-diversity", "0", "--device", "cpu"),
        ),
        results=(
            *("gan/generator.safetensors", "gan/metrics.jsonl", "gan/options.json"),
            *("gan/samples/*.png", "gan/checkpoint.pt"),
        ),
    ),
    "sites": Step(
        minutes=8.0,
        program=(
            *("-m", "ml", "evaluate", "sites", "--data", "{home}/data", "--out", "{home}/sites"),
            *("--precision", "bfloat16"),
        ),
        toy=(
            *("--network", "report-cnn", "--epochs", "1", "--small-epochs", "0"),
            *("--batch-size", "16", "--precision", "float32", "--device", "cpu"),
        ),
        results=("sites/sites.json", "sites/sites.md", "sites/folds/*/predictions.json"),
    ),
}


def run_step(
    name: str,
    home: Path,
    out: Path,
    *,
    minutes: float | None = None,
    toy: bool = False,
    runner: Runner | None = None,
) -> int:
    """Run a step until it ends or its time is over, and collect what it has written.

    Args:
        name: a key of `STEPS`.
        home: the folder on the machine, as unpacked.
        out: folder of the results.
        minutes: instead of the step's usual ones.
        toy: tiny sizes, for a rehearsal.
        runner: runs arguments of Python in a folder for so many seconds and returns the status.

    Returns:
        The exit status of the step's program; 143 where its time was over.
    """
    step = STEPS[name]
    # A program takes the last of options that are given twice.
    given = (*step.program, *(step.toy if toy else ()))
    command = [argument.format(home=home) for argument in given]
    status = (runner or run_process)(command, home, 60 * (minutes or step.minutes))
    files = [path for pattern in step.results for path in sorted(home.glob(pattern))]
    for missing in collect(files, home, out, name):
        print(f"no room for {missing}")
    return status


def run_process(command: Sequence[str], home: Path, seconds: float) -> int:
    """Run Python on the unpacked code; SIGTERM ends it after its time."""
    environment = os.environ | {"PYTHONPATH": f"{home / 'site'}:{home / 'code'}"}
    process = subprocess.Popen([sys.executable, *command], cwd=home / "code", env=environment)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 128 + signal.SIGTERM


def main() -> None:
    """The command line; a step whose time was over is no failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, for a rehearsal")
    given = parser.parse_args()
    home, out = given.home.resolve(), given.out.resolve()
    status = run_step(given.step, home, out, minutes=given.minutes, toy=given.toy)
    raise SystemExit(0 if status == 128 + signal.SIGTERM else status)


if __name__ == "__main__":
    main()
