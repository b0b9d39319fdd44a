"""A training run's folder: what it was begun with, so that the same command resumes it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml.data.manifest import FilmRecord
from ml.errors import CheckpointError

OPTIONS, CHECKPOINT = "options.json", "checkpoint.pt"


def claim_folder(
    out: Path,
    options: Any,
    films: Sequence[FilmRecord],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write what the run is, or check that the run already there is the same.

    A run without a checkpoint has learned nothing: stopped by a film that could not be read, say.
    Its folder is free for whatever comes next.

    Args:
        out: the folder; it is made where it is missing.
        options: a dataclass with defaults for all its fields.
        films: what the run learns from and chooses by.
        facts: what else it learns from and is no option, by name; empty values are those of a
            run that did not write the fact down.

    Raises:
        CheckpointError: the folder holds a run with other options, other facts or other films.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / OPTIONS
    facts = facts or {}
    wanted = {"options": asdict(options), "films_sha256": fingerprint(films), **facts}
    if not (path.exists() and (out / CHECKPOINT).exists()):
        path.write_text(json.dumps(wanted, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    # An option that is younger than the run had its default then.
    before = asdict(type(options)()) | found["options"]
    changed = [name for name, value in asdict(options).items() if before[name] != value]
    changed += [
        name for name, value in facts.items() if (found.get(name) or None) != (value or None)
    ]
    if found["films_sha256"] != wanted["films_sha256"]:
        changed.append("films of the data set")
    if changed:
        raise CheckpointError(
            f"{out} holds a run with other options ({', '.join(changed)}): "
            "give the same to resume it, or another --out"
        )


def fingerprint(films: Sequence[FilmRecord]) -> str:
    """A digest of which films a run learns from, wherever the data set lies."""
    lines = sorted(f"{film.path.name}|{film.label}|{film.source}|{film.patient}" for film in films)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
