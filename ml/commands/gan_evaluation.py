"""The commands that measure GANs: metrics of one generator, a comparison of many."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml.commands.common import DataFolder, DeviceName, device_named, until_stopped
from ml.commands.options_to_flags import with_flags
from ml.data.manifest import read_manifest
from ml.errors import XrayError
from ml.options.gan import (
    DEFAULT_FEATURES,
    GanComparisonOptions,
    GanEvaluationOptions,
    GanOptions,
)

if TYPE_CHECKING:
    import torch

    from ml.gan.evaluation.comparison import GanComparison
    from ml.gan.evaluation.features import FeatureSpace
    from ml.gan.evaluation.results import GeneratorEvaluation
InceptionFile = Annotated[
    Path | None, typer.Option("--inception", help="File of Inception's weights.")
]


@with_flags(GanEvaluationOptions, panel="Options of the evaluation")
def evaluate_gan_command(
    data: DataFolder,
    generator: Annotated[
        Path | None, typer.Option(help="File of a generator; default: the released one.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a training run: evaluates its best generator and adds its curves."
        ),
    ] = None,
    inception: InceptionFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and report.html.")
    ] = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Measure a generator against the test split: distance, variety, copies of training images."""
    from ml.gan.evaluation.evaluate import evaluate_gan
    from ml.gan.generator_file import GENERATOR, PRETRAINED, load_generator
    from ml.reporting.gan_report import draw_sheet, write_generator_evaluation
    from ml.training.metrics_log import read_metrics

    if generator and run:
        raise XrayError("Give --generator or --run, not both. A run has its own generator.")
    options, place = GanEvaluationOptions(**given), device_named(device)
    loaded = load_generator(run / GENERATOR if run else generator or PRETRAINED, place)
    spaces = spaces_named(options.features, inception, place, [loaded.card.options])
    evaluation = evaluate_gan(loaded, read_manifest(data), features=spaces, samples=options.samples)
    print_evaluation(evaluation)
    if out:
        rows = read_metrics(run) if run else []
        write_generator_evaluation(out, evaluation, draw_sheet(loaded), rows)
        print(f"wrote {out / 'metrics.json'} and {out / 'report.html'}")


def spaces_named(
    names: str,
    inception: Path | None,
    device: "torch.device",
    trained: Sequence[GanOptions],
) -> "list[FeatureSpace]":
    """The feature spaces of a list with commas, without those that a critic saw.

    Args:
        names: of the spaces; efficientnet-lite2 takes the place of one that a critic saw.
        inception: file of Inception's weights.
        device: where to embed images.
        trained: the options of the generators that are measured.

    Raises:
        XrayError: the list names no space, or an unknown one.
    """
    from ml.gan.evaluation.features import feature_space, unseen_spaces

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise XrayError(f"--features is empty. Give some, such as {DEFAULT_FEATURES}.")
    judging = unseen_spaces(wanted, trained)
    for name in set(wanted) - set(judging):
        print(f"note: the critic saw {name}, so {judging[0]} judges in its place")
    return [feature_space(name, weights=inception, device=device) for name in judging]


def print_evaluation(evaluation: "GeneratorEvaluation") -> None:
    """Print a generator's metrics as tables."""
    from ml.reporting.gan_tables import pixel_rows, space_rows

    real, samples = evaluation.real, evaluation.samples.images
    parts = [("pixel metrics", pixel_rows(evaluation.pixels, samples, real.held_out_images))]
    for space in evaluation.spaces:
        of_classes = space.per_class.items()
        parts += [(f"{space.title}, {label}", space_rows(own)) for label, own in of_classes if own]
        parts.append((space.title, space_rows(space)))
    for title, rows in parts:
        table = Table("metric", f"{samples} samples", "real images", title=title)
        for row in rows:
            table.add_row(row.name, row.value, row.real)
        Console().print(table)
    print(f"against {real.images} test images of {real.patients} patients")
    for note in evaluation.notes:
        print(f"note: {note}")


@with_flags(GanComparisonOptions, panel="Options of every training")
def compare_gans_command(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one resumes.")],
    budget_minutes: Annotated[
        float, typer.Option(min=0.0, help="Training time in minutes for each preset and seed.")
    ],
    inception: InceptionFile = None,
    device: DeviceName = "auto",
    **given: Any,
) -> None:
    """Train presets under one budget, measure them alike, and write one page.

    Interrupted, the same command continues; presets and seeds can be added to a folder later. A
    model that diverges or collapses is a result, with that verdict.
    """
    from ml.gan.evaluation.compare import compare_gans
    from ml.gan.evaluation.comparison import ComparisonOptions

    wanted = GanComparisonOptions(**given)
    options = ComparisonOptions(
        size=wanted.size,
        labels=wanted.labels,
        budget_minutes=budget_minutes,
        presets=tuple(name.strip() for name in wanted.presets.split(",") if name.strip()),
        seeds=wanted.seeds,
        samples=wanted.samples,
        changes={"conditional": wanted.conditional, "precision": wanted.precision},
    )
    place = device_named(device)
    with until_stopped() as should_stop:
        comparison = compare_gans(
            read_manifest(data),
            out,
            options,
            device=place,
            features=spaces_named(
                wanted.features,
                inception,
                place,
                [options.options_of(run) for run in options.runs()],
            ),
            on_tick=_print_tick,
            should_stop=should_stop,
        )
    _print_comparison(comparison)
    print(f"wrote {out / 'comparison.html'}, comparison.md and comparison.json beside it")


def _print_tick(preset: str, seed: int, row: dict[str, float]) -> None:
    print(
        f"{preset}, seed {seed}, step {row['step']:.0f}: KID {row['kid']:.4f}, diversity "
        f"{row['diversity']:.2f}, {row['seconds'] / 60:.1f} min",
        flush=True,
    )


def _print_comparison(comparison: "GanComparison") -> None:
    from ml.reporting.gan_tables import metric_tables, model_table

    _print_table("training", *model_table(comparison))
    for title, (head, rows) in metric_tables(comparison).items():
        _print_table(title, head, rows)


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
