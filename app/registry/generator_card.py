"""Read and validate the card of a generator."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from app.registry.card_views import GeneratorView
from app.registry.tables import ModelVersion
from ml.classifier.bundle import CARD
from ml.errors import BundleError
from ml.labels import LABELS
from ml.legacy import rename_keys

# What a generator's card has, as pages say it.
_OF_CARD: Mapping[str, type] = {
    "sha256": str,
    "options": dict,
    "images": dict,
    "metrics": dict,
    "notes": list,
    "step": int,
    "images_seen": int,
    "code_version": str,
    "created_at": str,
}
_OF_OPTIONS: Mapping[str, type] = {
    "objective": str,
    "network": str,
    "labels": str,
    "size": int,
    "latent": int,
    "conditional": bool,
}
_IN_WORDS: Mapping[type, str] = {
    str: "a text",
    dict: "an object",
    list: "a list",
    int: "a whole number",
    bool: "true or false",
}
# Sides in pixels between which a classifier's images are decoded here.
LEAST_SIDE, MOST_SIDE = 16, 1024


def read_generator_card(folder: Path) -> dict[str, Any]:
    """A card with all that is said of a generator here: no page meets one that lacks a part."""
    try:
        card = rename_keys(json.loads((folder / CARD).read_text(encoding="utf-8")))
    except ValueError as problem:
        raise BundleError(f"{CARD} is not a generator's card: {problem!r}") from problem
    faults = _faults(card, _OF_CARD, "")
    if not faults:
        faults = [*_faults(card["options"], _OF_OPTIONS, "options."), *_odd_values(card)]
    if not faults:
        # The metrics have many parts, so they are told once, as on the generator's page.
        try:
            GeneratorView.of(ModelVersion(version="", sha256=card["sha256"], card=card))
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            faults = [f"its metrics cannot be told: {problem!r}"]
    if faults:
        raise BundleError(
            f"{CARD} is not a generator's card: {'; '.join(faults)}: export the generator again"
        )
    found: dict[str, Any] = card
    return found


def _faults(part: Any, kinds: Mapping[str, type], prefix: str) -> list[str]:
    if not isinstance(part, dict):
        return ["it is no object of JSON"]
    faults = [f"{prefix}{name} is missing" for name in kinds if name not in part]
    return faults + [
        f"{prefix}{name} is {part[name]!r:.40}, expected {_IN_WORDS[kind]}"
        for name, kind in kinds.items()
        # In Python yes and no are numbers too.
        if name in part and type(part[name]) is not kind
    ]


def _odd_values(card: Mapping[str, Any]) -> Iterator[str]:
    """What is of the right kind and makes no sense."""
    labels = card["options"].get("labels")
    if isinstance(labels, str) and not set(labels.split(",")) <= set(LABELS):
        yield f"options.labels is {labels!r:.40}, expected some of {','.join(LABELS)}"
    if any(type(count) is not int for count in card["images"].values()):
        yield "images has what is no number of images"
    if any(type(note) is not str for note in card["notes"]):
        yield "notes has what is no text"
    try:
        datetime.fromisoformat(card["created_at"])
    except ValueError:
        yield f"created_at is {card['created_at']!r:.40}, expected a moment as 2026-01-31T12:00:00Z"
