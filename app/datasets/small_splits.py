"""Cautions about data sets that are too small to measure anything on."""

from app.datasets.tables import DataVersion
from ml.data.splits import Split
from ml.labels import label_name, ordered_labels
from ml.texts import msg

# Below this many images of a class a metric says little.
FEW_IMAGES = 20


def small_splits(data: DataVersion) -> list[str]:
    """Cautions about splits with few images of a class, in sentences."""
    cautions = []
    for split in (Split.VALIDATION, Split.TEST):
        counts = data.contents.by_split.get(split, {})
        few = [label for label in ordered_labels(counts) if 0 < counts[label] < FEW_IMAGES]
        if few:
            listed = ", ".join(f"{counts[label]} of {label_name(label)}" for label in few)
            cautions.append(
                msg(
                    "The %(split)s split has few images: %(listed)s. Metrics on fewer than "
                    "%(few_images)s images of a class are very uncertain.",
                    split=split,
                    listed=listed,
                    few_images=FEW_IMAGES,
                )
            )
    return cautions
