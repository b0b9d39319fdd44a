"""Check a run's classes and splits against the data set that it names, before it is queued."""

from collections.abc import Iterator, Mapping

from sqlalchemy.orm import Session

from app.datasets.tables import DataVersion
from app.registry.tables import ModelVersion
from app.runs.handlers.base import RunType
from ml.json_model import JsonObject
from ml.labels import label_name, ordered_labels
from ml.texts import msg

# Options that name classes of the data set, with commas between.
LABELS_OPTION = "labels"


def data_faults(session: Session, run_type: RunType, options: JsonObject) -> dict[str, str]:
    """What the data set or the generator of a run lacks for it, by the option concerned.

    Args:
        session: the database.
        run_type: of the run.
        options: its inputs and options, each valid by itself.
    """
    faults = {}
    data = session.get(DataVersion, str(options.get("data", "")))
    # A folder is read by the program alone.
    if data is not None and data.summary:
        if fault := _unknown_classes(named_classes(options), data.contents.by_label, data.name):
            faults[LABELS_OPTION] = fault
        if fault := " ".join(_empty_splits(run_type, options, data)):
            faults["data"] = fault
    generator = session.get(ModelVersion, str(options.get("generator", "")))
    if generator is not None and generator.card:
        known = str(generator.card["options"]["labels"]).split(",")
        unknown = [label for label in named_classes(options, "label") if label not in known]
        if unknown:
            faults["label"] = msg(
                "This generator makes no images of %(unknown)s. Choose among %(known)s.",
                unknown=", ".join(unknown),
                known=", ".join(known),
            )
    return faults


def named_classes(options: Mapping[str, object], option: str = LABELS_OPTION) -> list[str]:
    """The classes that the options of a run name."""
    names = str(options.get(option, "")).split(",")
    return [name.strip() for name in names if name.strip()]


def _unknown_classes(labels: list[str], known: Mapping[str, int], data_set: str) -> str:
    unknown = [label for label in labels if label not in known]
    if not unknown:
        return ""
    return msg(
        "%(data_set)s has no images of %(unknown)s. Choose among %(known)s.",
        data_set=data_set,
        unknown=", ".join(unknown),
        known=", ".join(ordered_labels(known)),
    )


def _empty_splits(run_type: RunType, options: JsonObject, data: DataVersion) -> Iterator[str]:
    """Splits that the run measures on and that lack a class of the data set."""
    if options.get("leave_out"):
        # Measured on the images of the sites that were left out, of any split.
        return
    for split in run_type.measured_splits:
        present = data.contents.by_split.get(split, {})
        missing = [
            label for label in ordered_labels(data.contents.by_label) if not present.get(label)
        ]
        if missing:
            names = ", ".join(label_name(label) for label in missing)
            yield (
                msg(
                    "The %(split)s split of %(name)s has no images of %(names)s, so nothing can "
                    "be measured on it. Add images of more patients.",
                    split=split,
                    name=data.name,
                    names=names,
                )
            )
