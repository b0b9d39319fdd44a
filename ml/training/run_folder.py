"""A training run's folder: its options and images, so that the same command resumes it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml.data.manifest import ImageRecord
from ml.errors import CheckpointError
from ml.labels import KNOWN_LABELS
from ml.legacy import rename_keys

OPTIONS, CHECKPOINT = "options.json", "checkpoint.pt"


def claim_folder(
    out: Path,
    options: Any,
    images: Sequence[ImageRecord],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the run's options, or check that the run in the folder has the same ones.

    A run without a checkpoint has no result to protect, so its folder can be used again.

    Args:
        out: the folder; it is created where it is missing.
        options: a dataclass with defaults for all its fields.
        images: the training and validation images.
        facts: other inputs of the run by name; a run that did not record a fact has it empty.

    Raises:
        CheckpointError: the folder holds a run with other options, facts or images.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / OPTIONS
    facts = facts or {}
    wanted = {"options": asdict(options), "images_sha256": fingerprint(images), **facts}
    if not (path.exists() and (out / CHECKPOINT).exists()):
        path.write_text(json.dumps(wanted, indent=2) + "\n")
        return
    # Runs of 0.1.0 named no classes: classifiers had these three.
    found = {"labels": list(KNOWN_LABELS)} | rename_keys(json.loads(path.read_text()))
    # An option that was added after the run started had its default then.
    before = asdict(type(options)()) | found["options"]
    changed = [name for name, value in asdict(options).items() if before[name] != value]
    changed += [
        name for name, value in facts.items() if (found.get(name) or None) != (value or None)
    ]
    if found["images_sha256"] != wanted["images_sha256"]:
        changed.append("images of the data set")
    if changed:
        raise CheckpointError(
            f"{out} holds a run with other options ({', '.join(changed)}). Give the same options "
            "to resume it, or another --out."
        )


def read_options(out: Path) -> dict[str, Any]:
    """The options of the run in a folder, by name; none where there is no run."""
    path = out / OPTIONS
    if not path.exists():
        return {}
    found: dict[str, Any] = rename_keys(json.loads(path.read_text(encoding="utf-8")))["options"]
    return found


def fingerprint(images: Sequence[ImageRecord]) -> str:
    """A digest of the set of training images, independent of where the data set lies."""
    lines = sorted(
        f"{image.path.name}|{image.label}|{image.source}|{image.patient}" for image in images
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
