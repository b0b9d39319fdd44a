"""The card of a generator as Markdown."""

from ml.gan.evaluation.results import GeneratorEvaluation
from ml.gan.generator_file import LoadedGenerator
from ml.labels import label_name
from ml.reporting.format import markdown_table
from ml.reporting.gan_tables import pixel_rows, space_rows


def render_generator_card(loaded: LoadedGenerator) -> str:
    """The card as Markdown; every number in it stands in the generator's file."""
    card, options = loaded.card, loaded.card.options
    classes = ", ".join(label_name(label) for label in loaded.labels)
    technical = [
        ("classes", f"{classes}{', made on demand' if options.conditional else ''}"),
        ("images", f"{options.size} x {options.size}, 8 bit grey"),
        ("game", f"{options.objective}, {options.network} networks, seed {options.seed}"),
        ("parameters", f"{sum(p.numel() for p in loaded.network.parameters()):,}"),
        ("trained for", f"{card.step:,} steps, {card.images_seen:,} real images shown"),
        ("learned from", ", ".join(f"{n:,} {label}" for label, n in card.images.items())),
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
    if card.evaluation:
        parts.append(_metrics(card.evaluation))
    return "\n\n".join(parts) + "\n"


def _metrics(evaluation: GeneratorEvaluation) -> str:
    real, samples = evaluation.real, evaluation.samples.images
    head = ("metric", f"{samples} samples", "real images")
    parts = [
        f"## Metrics\n\n{samples} samples against {real.images} test images of "
        f"{real.patients} patients. In brackets: 95 % intervals; of FIDs, standard errors. "
        "Right: real training images in the samples' place, or for KID and FID the floor. What "
        "each "
        "metric says stands in [gans.md](gans.md)."
    ]
    for space in evaluation.spaces:
        parts.append(f"### {space.title}")
        parts.append(markdown_table(head, [(r.name, r.value, r.real) for r in space_rows(space)]))
    pixels = pixel_rows(evaluation.pixels, samples, real.held_out_images)
    parts += [
        "### Pixel metrics",
        markdown_table(head, [(r.name, r.value, r.real) for r in pixels]),
    ]
    return "\n\n".join([*parts, *evaluation.notes])
