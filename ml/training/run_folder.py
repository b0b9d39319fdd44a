"""A training run's folder: what it was begun with, so that the same command resumes it."""

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
    """Write what the run is, or check that the run already there is the same.

    A run without a checkpoint has learned nothing: stopped by an image that could not be read, say.
    Its folder is free for whatever comes next.

    Args:
        out: the folder; it is made where it is missing.
        options: a dataclass with defaults for all its fields.
        images: what the run learns from and chooses by.
        facts: what else it learns from and is no option, by name; empty values are those of a
            run that did not write the fact down.

    Raises:
        CheckpointError: the folder holds a run with other options, other facts or other images.
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
    # An option that is younger than the run had its default then.
    before = asdict(type(options)()) | found["options"]
    changed = [name for name, value in asdict(options).items() if before[name] != value]
    changed += [
        name for name, value in facts.items() if (found.get(name) or None) != (value or None)
    ]
    if found["images_sha256"] != wanted["images_sha256"]:
        changed.append("images of the data set")
    if changed:
        raise CheckpointError(
            f"{out} holds a run with other options ({', '.join(changed)}): "
            "give the same to resume it, or another --out"
        )


def fingerprint(images: Sequence[ImageRecord]) -> str:
    """A digest of which images a run learns from, wherever the data set lies."""
    lines = sorted(
        f"{image.path.name}|{image.label}|{image.source}|{image.patient}" for image in images
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
