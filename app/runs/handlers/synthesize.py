"""Generate synthetic images and publish them in the gallery."""

from pydantic import JsonValue

from app.datasets.tables import DataKind
from app.datasets.versions import data_folder, register_data
from app.gallery.registration import register_images
from app.registry.tables import ModelVersion
from app.runs.handlers.base import (
    DATA_SET_FOLDER,
    Completion,
    Input,
    InputType,
    Preparation,
    RegisteredData,
    RunType,
    typed_options,
)
from ml.options.gan import SynthesisOptions

_LONGEST_NAME = 200


class RegisteredImages(RegisteredData):
    """Synthetic images that a run has registered."""

    in_gallery: int


class Synthesize(RunType):
    """Generate synthetic images and publish them in the gallery."""

    name = "synthesize"
    title = "Generate synthetic images"
    summary = "Generate images with a privacy check each, and publish them in the gallery."
    program = ("ml", "synthesize")
    inputs = (
        Input("generator", InputType.GENERATOR, "Generator to use."),
        Input(
            "against",
            InputType.DATA,
            "Training data of the generator, for the privacy check: near copies are refused.",
            required=False,
        ),
    )
    Options = SynthesisOptions
    out = DATA_SET_FOLDER

    def prepare(self, before: Preparation) -> dict[str, JsonValue]:
        """Choose number or seeds, and whether images are checked."""
        options = typed_options(SynthesisOptions, self, before.run)
        changes: dict[str, JsonValue] = {
            "progress": True,
            "freeze": True,
            # Embeddings of real images, for later runs.
            "cache": str(before.settings.home_folder.cache),
        }
        if options.seeds:
            changes["count"] = None
        if not before.input("against"):
            changes |= {"privacy_check": False, "refuse_below": None}
        return changes

    def complete(self, done: Completion) -> RegisteredImages:
        """Register the images as a data set version and publish them in the gallery."""
        generator = done.session.get_one(ModelVersion, done.input("generator"))
        label = typed_options(SynthesisOptions, self, done.run).label or "images"
        version = register_data(
            done.session,
            done.settings,
            done.linked_data_set(),
            name=f"Synthetic {label} of {generator.version}"[:_LONGEST_NAME],
            kind=DataKind.SYNTHETIC,
            by=done.run.requested_by,
            run_id=done.run.id,
        )
        added = register_images(done.session, version, data_folder(done.settings, version))
        return RegisteredImages(data=version.sha256, images=version.images, in_gallery=added)
