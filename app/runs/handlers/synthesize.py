"""Generate synthetic images and publish them in the gallery."""

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass
from sqlalchemy.orm import Session

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
    length_options,
    on_each_device,
    typed_options,
    typed_values,
)
from app.runs.tables import RunLane
from app.runs.work import Work, area, generator_option
from ml.json_model import JsonObject
from ml.option_fields import BASIC
from ml.options.gan import SynthesisOptions
from ml.texts import msg

_LONGEST_NAME = 200


@dataclass(frozen=True)
class CheckedSynthesisOptions(SynthesisOptions):
    """Options of generating images, with the choice not to check them."""

    privacy_check: bool = Field(
        default=True,
        title=msg("Privacy check"),
        description=msg(
            "Compare every image with the generator's training data. Images that were "
            "not checked are not public until an admin publishes them."
        ),
        json_schema_extra=BASIC,
    )


class RegisteredImages(RegisteredData):
    """Synthetic images that a run has registered."""

    in_gallery: int


class Synthesize(RunType):
    """Generate synthetic images and publish them in the gallery."""

    name = "synthesize"
    title = msg("Generate synthetic images")
    summary = msg(
        "Generate images, check each against the generator's training data, and "
        "publish those that were checked in the gallery."
    )
    program = ("ml", "synthesize")
    lane = RunLane.SHORT
    inputs = (
        Input("generator", InputType.GENERATOR, msg("Generator to use.")),
        Input(
            "against",
            InputType.DATA,
            msg("Images for the privacy check: near copies are refused."),
            required=False,
            none=msg("Training data of the generator"),
        ),
    )
    Options = CheckedSynthesisOptions
    out = DATA_SET_FOLDER
    lengths = on_each_device(
        length_options(trial={"count": 16}, standard={"count": 256}, long={"count": 2_000})
    )

    def work(self, session: Session, options: JsonObject) -> Work | None:
        """The images, by their area."""
        of = typed_values(CheckedSynthesisOptions, self, options)
        size = generator_option(session, options.get("generator"), "size")
        network = generator_option(session, options.get("generator"), "network")
        if of.seeds or size is None:
            return None
        kind = f"{network}{', checked' if of.privacy_check else ''}"
        return Work(
            kind,
            of.count * area(size),
            of.count,
            msg("%(count)s images at %(size)s px", count=of.count, size=str(size)),
        )

    def default_inputs(
        self, session: Session, options: JsonObject
    ) -> tuple[dict[str, JsonValue], dict[str, str]]:
        """The privacy check compares with the data set that the generator was trained on."""
        if not options["privacy_check"] or options["against"]:
            return {}, {}
        own = session.get_one(ModelVersion, str(options["generator"])).data_sha256
        if own:
            return {"against": own}, {}
        return {}, {
            "against": msg(
                "The training data of this generator is not registered here. Choose a data "
                "set to compare with, or switch the privacy check off: the images are then "
                "not public."
            )
        }

    def prepare(self, before: Preparation) -> dict[str, JsonValue]:
        """Choose number or seeds, and whether images are checked."""
        options = typed_options(CheckedSynthesisOptions, self, before.run)
        changes: dict[str, JsonValue] = {
            "progress": True,
            "freeze": True,
            # Embeddings of real images, for later runs.
            "cache": str(before.settings.home_folder.cache),
        }
        if options.seeds:
            changes["count"] = None
        if not options.privacy_check:
            changes |= {"against": None, "refuse_below": None}
        return changes

    def complete(self, done: Completion) -> RegisteredImages:
        """Register the images as a data set version and publish them in the gallery."""
        generator = done.session.get_one(ModelVersion, done.input("generator"))
        label = typed_options(CheckedSynthesisOptions, self, done.run).label or "images"
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
