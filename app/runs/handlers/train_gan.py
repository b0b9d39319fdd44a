"""Train a GAN and register its best generator."""

from typing import ClassVar

from sqlalchemy.orm import Session

from app.registry.registration import register_generator
from app.runs.handlers.base import (
    DATA_INPUT,
    Completion,
    Lengths,
    RegisteredModel,
    RunType,
    StepCount,
    length_options,
    typed_values,
)
from app.runs.tables import RunQueue
from app.runs.work import Work, area
from ml.json_model import JsonObject
from ml.options.gan import GAN_PRESETS, RELEASE_FOLDER, GanOptions
from ml.texts import msg


class RegisteredGenerator(RegisteredModel):
    """The generator that a training has registered."""

    generator: str


class TrainGan(RunType):
    """Train a GAN and register its best generator."""

    name = "train-gan"
    title = msg("Train a GAN")
    summary = msg("Train a GAN and keep the checkpoint with the lowest KID.")
    program = ("ml", "train", "gan", "--export")
    inputs = (DATA_INPUT,)
    Options = GanOptions
    presets = GAN_PRESETS
    steps = StepCount(total_option="steps")
    finishes_early = True
    # A core needs about a second for a step at 64 px, a GPU some hundredths.
    lengths: ClassVar[Lengths] = {
        RunQueue.CPU: length_options(
            trial={"size": 32, "steps": 300, "evaluation_interval": 100},
            standard={"size": 64, "steps": 5_000, "evaluation_interval": 500},
            long={"size": 64, "steps": 20_000, "evaluation_interval": 1_000},
        ),
        RunQueue.GPU: length_options(
            trial={"size": 64, "steps": 2_000, "evaluation_interval": 500},
            standard={"size": 64, "steps": 20_000, "evaluation_interval": 1_000},
            long={"size": 128, "steps": 100_000, "evaluation_interval": 2_000},
        ),
    }

    def work(self, session: Session, options: JsonObject) -> Work:  # noqa: ARG002
        """The images that both networks see, by their area."""
        of = typed_values(GanOptions, self, options)
        # The critic is trained in every of its steps, the generator through it in one more.
        cost = of.batch_size * (of.critic_steps + 1) * area(of.size)
        return Work(
            kind=f"{of.objective} {of.network}",
            units=of.steps * cost,
            steps=of.steps,
            text=msg("%(steps)s steps at %(size)s px", steps=of.steps, size=of.size),
        )

    def complete(self, done: Completion) -> RegisteredGenerator:
        """Register the released generator."""
        model = register_generator(
            done.session,
            done.settings,
            done.folder / RELEASE_FOLDER,
            run=done.run,
            by=done.run.requested_by,
        )
        return RegisteredGenerator(generator=model.sha256, version=model.version)
