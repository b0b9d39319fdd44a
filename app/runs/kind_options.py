"""Options of run types that their programs do not have themselves; the others: `ml.options`."""

from typing import Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ml.option_fields import BASIC, HIDDEN
from ml.options import ClassifierOptions

# Images that come with a manifest; the other layouts are those of `ml.data.importers.layouts`.
DATA_SET: Final = "data-set"
Layout = Literal[
    "data-set", "covid-chestxray-dataset", "radiography", "kermany", "nih", "folders", "dicom"
]


@dataclass(frozen=True)
class NamedClassifierOptions(ClassifierOptions):
    """Options of training a classifier, with the name of the version that results."""

    bundle_version: str = Field(
        default="",
        title="Version name",
        description="Name of the new model version; empty: date and run.",
        json_schema_extra=BASIC,
    )


@dataclass(frozen=True)
class ImportOptions:
    """Options of importing images as a data set version."""

    name: str = Field(default="", description="Name of the data set.", json_schema_extra=BASIC)
    kind: Layout = Field(
        default=DATA_SET,
        title="Layout",
        description="How the images are laid out: a data set with its manifest, or a public set "
        "as it was downloaded.",
        json_schema_extra=BASIC,
    )
    folder: str = Field(
        default="",
        description="Folder on the worker's machine that contains the images.",
        json_schema_extra=BASIC,
    )
    upload: str = Field(
        default="",
        description="Uploaded archive: the name of its folder in staging.",
        json_schema_extra=HIDDEN,
    )
    corrections: bool = Field(
        default=False,
        title="Reviewed images",
        description="Add the images that clinicians have reviewed.",
        json_schema_extra=BASIC,
    )
