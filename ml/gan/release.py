"""A trained generator becomes a released one: measured, described, with samples nobody chose."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ml.bundle import finite
from ml.checkpoint import replacing
from ml.data import FilmRecord
from ml.export import LICENCE
from ml.figures import markdown_table
from ml.gan.evaluation import evaluate_gan
from ml.gan.features import FeatureSpace
from ml.gan.generator_file import GENERATOR, LoadedGenerator, load_generator, save_generator
from ml.gan.reference import SAMPLES
from ml.gan.report import draw_sheet
from ml.gan.tables import pixel_rows, space_rows
from ml.labels import label_name

CARD, SHEET = "card.json", "samples.png"

NOTES = [
    "Intended use: research and education; to enlarge the training part of a data set, never to "
    "judge a patient, and never in a set that a classifier is measured on.",
    "A film's class is what the generator was asked for, which no physician has confirmed.",
    "The classes come from different hospitals and the generator learned their marks with them: a "
    "classifier that learns from its films learns these marks as well.",
    "Some samples show anatomy that does not exist. Nobody chose the samples shown: they are those "
    "of seeds 0 to 63.",
    "A sample may come close to a film that the generator learned from: xray synthesize compares "
    "each one and refuses those that are too near.",
]


@dataclass(frozen=True, slots=True)
class Release:
    """What was written."""

    generator: LoadedGenerator
    evaluation: dict[str, Any]


def release_generator(
    trained: Path,
    records: Sequence[FilmRecord],
    out: Path,
    *,
    features: Sequence[FeatureSpace],
    samples: int = SAMPLES,
    quiet: bool = False,
) -> Release:
    """Measure a generator on the test split and write it with its card and samples.

    Args:
        trained: the generator's file.
        records: the data set's films, of all splits.
        out: the folder; it is made where it is missing.
        features: where films are compared.
        samples: how many films the generator makes to be measured.
        quiet: shows no progress.

    Raises:
        CheckpointError: the file holds no generator.
        DataError: films that are missing, unreadable or too few.
    """
    loaded = load_generator(trained)
    evaluation = evaluate_gan(loaded, records, features=features, samples=samples, quiet=quiet)
    figures = {key: value for key, value in evaluation.items() if key != "generator"}
    card = replace(loaded.card, figures=figures, notes=NOTES, licence=LICENCE)
    out.mkdir(parents=True, exist_ok=True)
    save_generator(out / GENERATOR, loaded.network, card)
    released = load_generator(out / GENERATOR)
    described = finite({"sha256": released.sha256, **asdict(released.card)})
    for name, content in (
        (CARD, (json.dumps(described, indent=2, allow_nan=False) + "\n").encode()),
        (SHEET, draw_sheet(released)),
    ):
        with replacing(out / name) as file:
            file.write(content)
    return Release(released, evaluation)


def render_generator_card(loaded: LoadedGenerator) -> str:
    """The card as Markdown; every number in it stands in the generator's file."""
    card, options = loaded.card, loaded.card.options
    classes = ", ".join(label_name(label) for label in loaded.labels)
    technical = [
        ("classes", f"{classes}{', made on demand' if options.conditional else ''}"),
        ("films", f"{options.size} x {options.size}, 8 bit grey"),
        ("game", f"{options.objective}, {options.network} networks, seed {options.seed}"),
        ("parameters", f"{sum(p.numel() for p in loaded.network.parameters()):,}"),
        ("trained for", f"{card.step:,} steps, {card.films_seen:,} real films shown"),
        ("learned from", ", ".join(f"{n:,} {label}" for label, n in card.films.items())),
        ("SHA-256 of the file", f"`{loaded.sha256}`"),
        ("made", f"{card.created_at}, code {card.code_version}"),
    ]
    parts = [
        "# Generator card",
        "This page is generated from the generator's file by `xray card --generator FILE`.",
        "\n".join(f"- {note}" for note in card.notes),
        f"**Licence of the weights.** {card.licence or 'not stated'}",
        markdown_table(("", ""), technical),
    ]
    if "spaces" in card.figures:
        parts.append(_figures(card.figures))
    return "\n\n".join(parts) + "\n"


def _figures(figures: Mapping[str, Any]) -> str:
    real, samples = figures["real"], figures["samples"]["films"]
    head = ("figure", f"{samples} samples", "real films")
    parts = [
        f"## Figures\n\n{samples} samples against {real['films']} test films of "
        f"{real['patients']} patients. In brackets: 95 % intervals; of FIDs, standard errors. "
        "Right: real training films in the samples' place, or for KID and FID the floor. What each "
        "figure says stands in [gans.md](gans.md)."
    ]
    for space in figures["spaces"]:
        parts.append(f"### {space['name']} ({space['sha256'][:12]})")
        parts.append(markdown_table(head, [(r.name, r.value, r.real) for r in space_rows(space)]))
    pixels = pixel_rows(figures["pixels"], samples, real["held_out_films"])
    parts += [
        "### Pixel by pixel",
        markdown_table(head, [(r.name, r.value, r.real) for r in pixels]),
    ]
    return "\n\n".join([*parts, *figures["notes"]])
