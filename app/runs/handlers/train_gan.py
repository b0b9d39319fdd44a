"""Train a GAN and register its best generator."""

from app.registry.registration import register_generator
from app.runs.handlers.base import DATA_INPUT, Completion, RegisteredModel, RunType, StepCount
from ml.options.gan import GAN_PRESETS, RELEASE_FOLDER, GanOptions


class RegisteredGenerator(RegisteredModel):
    """The generator that a training has registered."""

    generator: str


class TrainGan(RunType):
    """Train a GAN and register its best generator."""

    name = "train-gan"
    title = "Train a GAN"
    summary = "Train a GAN and keep the checkpoint with the lowest KID."
    program = ("ml", "train", "gan", "--export")
    inputs = (DATA_INPUT,)
    Options = GanOptions
    presets = GAN_PRESETS
    steps = StepCount(total_option="steps")

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
