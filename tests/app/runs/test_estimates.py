"""How long runs will take, from the times of earlier ones."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.amounts import about
from app.core.database import Database, now
from app.migrations import upgrade
from app.runs.command_line import start_command
from app.runs.estimates import Estimator, Ground, shipped_speeds
from app.runs.handlers.base import Length
from app.runs.heartbeat import Heartbeat
from app.runs.progress import RunProgress
from app.runs.run_lengths import ChosenLength, devices_of, length_choices, length_values
from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run, RunLane, RunQueue, RunStatus
from app.settings import Settings
from ml.json_model import JsonObject
from ml.option_fields import option_values, validated_options
from tests.support.synthetic_set import data_version

DATA = "d" * 64
GAN = RUN_TYPES["train-gan"]
BEGAN = now() - timedelta(days=2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.effective_database_url)
    upgrade(database.engine)
    with database.session() as session:
        session.add(data_version(DATA))
    yield database
    database.close()


def gan_options(**changed: object) -> JsonObject:
    return {**option_values(validated_options(GAN.Options, changed)), "data": DATA}


def record(
    database: Database,
    options: JsonObject,
    *,
    steps_s: float | None,
    seconds: float,
    run_type: str = "train-gan",
    worker: str = "here",
) -> None:
    """A run that succeeded."""
    progress = RunProgress(step=float(str(options.get("steps", 0))) or None, steps_s=steps_s)
    with database.session() as session:
        session.add(
            Run(
                id=uuid.uuid4(),
                run_type=run_type,
                options=options,
                queue=RunQueue.CPU,
                status=RunStatus.SUCCEEDED,
                requested_by="test",
                started_at=BEGAN,
                finished_at=BEGAN + timedelta(seconds=seconds),
                attempts=1,
                worker=worker,
                progress=progress.model_dump(mode="json"),
            )
        )


def test_estimate_grows_with_steps_and_area_and_adds_what_is_besides(
    database: Database, settings: Settings
) -> None:
    record(database, gan_options(size=32, steps=100), steps_s=50.0, seconds=80.0)
    with database.session() as session:
        found = Estimator(session, settings, GAN).estimate(
            gan_options(size=64, steps=1000), RunQueue.CPU
        )
    assert found is not None
    # Ten times the steps of four times the area, and the same 30 s of everything else.
    assert found.seconds == pytest.approx(50 * 40 + 30)
    assert (found.text, found.ground, found.machine, found.runs) == (
        "1,000 steps at 64 px",
        Ground.OTHER,
        "here",
        1,
    )


def test_runs_of_workers_that_are_alive_and_most_alike_count_first(
    database: Database, settings: Settings
) -> None:
    here = Heartbeat(settings, [RunQueue.CPU], list(RunLane), "")
    here.beat()
    host = here.sign.host
    record(database, gan_options(steps=100), steps_s=10.0, seconds=10.0, worker="elsewhere")
    for steps_s in (100.0, 110.0, 120.0):
        record(database, gan_options(steps=100), steps_s=steps_s, seconds=steps_s, worker=host)
    # Neither another loss function nor another device says anything about it.
    record(database, gan_options(objective="r3gan"), steps_s=1.0, seconds=1.0, worker=host)
    with database.session() as session:
        estimator = Estimator(session, settings, GAN)
        found = estimator.estimate(gan_options(steps=200), RunQueue.CPU)
        assert found is not None
        assert (found.ground, found.runs, found.seconds) == (Ground.WORKER, 3, 220.0)
        assert estimator.estimate(gan_options(steps=200), RunQueue.GPU) is None
    here.end()


def test_program_that_counts_no_steps_takes_at_least_as_long_as_before(
    database: Database, settings: Settings
) -> None:
    evaluate = RUN_TYPES["evaluate-gan"]
    options: JsonObject = {"data": DATA, "generator": "a" * 64, "run": ""}
    measured = {**options, "samples": 500, "features": "classifier"}
    record(database, measured, steps_s=None, seconds=60.0, run_type="evaluate-gan")
    with database.session() as session:
        estimator = Estimator(session, settings, evaluate)
        real = 180
        for samples, seconds in ((100, 60.0), (500 + 500 + real, 120.0)):
            found = estimator.estimate({**measured, "samples": samples}, RunQueue.CPU)
            assert found is not None
            assert found.seconds == pytest.approx(seconds)


def test_work_of_every_type_is_known_from_its_options(database: Database) -> None:
    given: JsonObject = {"data": DATA, "bundle": "b" * 64, "reference": "c" * 64, "run": ""}
    with database.session() as session:
        for name, run_type in RUN_TYPES.items():
            options = {**option_values(validated_options(run_type.Options, {})), **given}
            work = run_type.work(session, options)
            # Neither images that were not read nor a generator that is not there.
            if name in ("import-data", "synthesize"):
                assert work is None
            else:
                assert work is not None
                assert work.units > 0
                assert work.text


def test_lengths_are_valid_options_and_longer_ones_take_longer(
    database: Database, settings: Settings
) -> None:
    with database.session() as session:
        for run_type in RUN_TYPES.values():
            choices = length_choices(
                run_type, Estimator(session, settings, run_type), {"data": DATA}, list(RunQueue)
            )
            assert len(choices) in (0, 6)
            for each in choices:
                values = length_values(run_type, ChosenLength.of(each.key))
                validated_options(run_type.Options, values)
        cpu = length_choices(GAN, Estimator(session, settings, GAN), {}, [RunQueue.CPU])
    assert [each.length for each in cpu] == list(Length)
    seconds = [each.seconds for each in cpu]
    assert all(seconds)
    assert seconds == sorted(seconds, key=lambda each: each or 0)
    assert cpu[0].text == "image size 32, steps 300"


def test_shipped_speeds_name_their_machine_and_a_known_run_type() -> None:
    assert {each.kind for each in shipped_speeds() if each.run_type == "train-gan"} >= {
        "wgan-gp report",
        "wgan-gp resnet",
    }
    for each in shipped_speeds():
        assert each.run_type in RUN_TYPES
        assert each.machine.startswith("one core of ")


def test_devices_are_those_of_running_workers(settings: Settings) -> None:
    with_gpu = Heartbeat(settings, list(RunQueue), list(RunLane), "NVIDIA H200").sign
    without = with_gpu.model_copy(update={"gpu": ""})
    cpu_only = with_gpu.model_copy(update={"queues": [RunQueue.CPU]})
    assert devices_of([without, with_gpu]) == [RunQueue.CPU, RunQueue.GPU]
    assert devices_of([without, cpu_only]) == devices_of([]) == [RunQueue.CPU]


def test_command_has_what_is_not_the_default_and_is_safe_in_a_shell() -> None:
    options = gan_options(steps=5, conditional=True, labels="covid,normal")
    command = start_command(GAN, {**options, "data": "/my images"}, RunQueue.GPU, 3)
    assert command == (
        "xray run start train-gan --set 'data=/my images' --set labels=covid,normal "
        "--set conditional=true --set steps=5 --queue gpu --priority 3"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2, "5 s"),
        (43, "45 s"),
        (61, "1 min"),
        (1290, "20 min"),
        (5000, "85 min"),
        (9100, "2 h 30 min"),
        (25_300, "7 h"),
        (400_000, "5 days"),
    ],
)
def test_rough_times_have_few_digits(seconds: float, text: str) -> None:
    assert about(seconds) == text
