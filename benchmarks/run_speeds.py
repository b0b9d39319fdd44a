"""Measure the times that estimates of runs rest on before a machine has done any.

    OMP_NUM_THREADS=1 python -m benchmarks.run_speeds --out app/runs/speeds.json

Small runs of each type on the demonstration set, through the queue and the worker as in the
console. What counts is the processor time of their programs, which other load on the machine does
not change; with one thread it is the time on one idle core.
"""

import argparse
import json
import platform
import resource
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from app.core.database import Database
from app.datasets.versions import ensure_demonstration
from app.migrations import upgrade
from app.registry.registration import register_classifier, register_generator
from app.runs.estimates import Measured, measured
from app.runs.queue import get_run
from app.runs.run_types import RUN_TYPES
from app.runs.service import create_run
from app.runs.tables import RunQueue
from app.settings import Settings
from app.worker.worker import Worker
from ml.classifier.bundle import PRETRAINED
from ml.gan.onnx_generator import PRETRAINED as PRETRAINED_GENERATOR
from ml.json_model import JsonObject
from ml.option_fields import option_values
from ml.options.gan import GAN_PRESETS

GAN_STEPS = 16


def specifications(data: str, classifier: str, generator: str) -> list[tuple[str, JsonObject]]:
    """The runs, as small as they can be measured."""
    short: JsonObject = {"epochs": 2, "small_epochs": 1, "data": data}
    found: list[tuple[str, JsonObject]] = [
        ("evaluate-classifier", {"data": data, "bundle": classifier}),
        ("validate-classifier", {"data": data, "bundle": classifier}),
        ("audit-classifier", {"data": data, "bundle": classifier}),
        ("synthesize", {"generator": generator, "against": data, "count": 32}),
        ("synthesize", {"generator": generator, "count": 64, "privacy_check": False}),
        ("evaluate-gan", {"data": data, "generator": generator, "samples": 64}),
        ("train-classifier", short),
        ("train-classifier", short | {"crop": "lungs"}),
    ]
    for preset in GAN_PRESETS.values():
        changed = {"steps": GAN_STEPS, "evaluation_interval": GAN_STEPS, "data": data}
        found.append(("train-gan", {**option_values(preset), **changed}))
    return found


def processor_seconds() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    out = arguments.parse_args().out
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(_env_file=None, home=Path(home))  # type: ignore[call-arg]
        database = Database(settings.effective_database_url)
        upgrade(database.engine)
        with database.session() as session:
            data = ensure_demonstration(session, settings).sha256
            classifier = register_classifier(
                session, settings, PRETRAINED, run=None, by="benchmark"
            ).sha256
            generator = register_generator(
                session, settings, PRETRAINED_GENERATOR, run=None, by="benchmark"
            ).sha256
        worker = Worker(settings, [RunQueue.CPU])
        for name, options in specifications(data, classifier, generator):
            with database.session() as session:
                run = create_run(session, name, options, requested_by="benchmark")
            before = processor_seconds()
            worker.execute(run.id)
            used = processor_seconds() - before
            with database.session() as session:
                done = get_run(session, run.id)
                each = measured(session, RUN_TYPES[name], done)
                print(name, done.status, done.reason or "", f"{used:.1f} s", flush=True)
            if each is None:
                continue
            found.append(on_an_idle_core(each, used))
            rows = [one.model_dump(mode="json") for one in found]
            out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        worker.database.close()
        database.close()


def on_an_idle_core(each: Measured, used: float) -> Measured:
    """The measurement in processor time, of the steps in proportion."""
    wall = each.other_s + (each.steps_s or 0.0)
    steps = None if each.steps_s is None else round(each.steps_s * used / wall, 2)
    changes = {
        "steps_s": steps,
        "other_s": round(used - (steps or 0.0), 2),
        "machine": machine_name(),
        "day": datetime.now(UTC).date(),
    }
    return each.model_copy(update=changes)


def machine_name() -> str:
    """One core of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"one core of {line.partition(':')[2].strip()}"
    return f"one core of {platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
