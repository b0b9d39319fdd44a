"""Metrics of generators as tables: the same in the terminal, on a page and in Markdown."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from ml.evaluation.metrics import Interval
from ml.gan.evaluation.comparison import ComparedGenerator, GanComparison
from ml.gan.evaluation.measured_generator import TrainingRow
from ml.gan.evaluation.results import GroupMetrics, KidMetric, PixelMetrics, SpaceMetrics
from ml.reporting.format import markdown_table

AUROC = "AUROC, trained on samples"
# SpaceMetrics has everything; a class of a space lacks memorisation and probe.
Metrics = GroupMetrics


class MetricColumn(NamedTuple):
    """A metric of a feature space, as tables show it.

    Attributes:
        name: in the head of a table.
        meaning: one sentence of explanation.
        of_samples: the generator's value; None where it is not defined.
        of_real: the value of real images.
        brief: whether comparisons of many models show it.
    """

    name: str
    meaning: str
    of_samples: Callable[[Metrics], float | None]
    of_real: Callable[[Metrics], float | None]
    brief: bool = True


def _at(*path: str) -> Callable[[Metrics], float | None]:
    """A metric by the path of fields that leads to it; None where it is missing or not defined."""

    def find(metrics: object) -> float | None:
        for name in path:
            found = metrics.get(name) if isinstance(metrics, dict) else None
            metrics = found if found is not None else getattr(metrics, name, None)
        value = metrics if isinstance(metrics, float) else math.nan
        return value if math.isfinite(value) else None

    return find


def _with_real(name: str, meaning: str, *path: str, brief: bool = True) -> MetricColumn:
    """A metric that real training images have as well when they take the samples' place."""
    return MetricColumn(name, meaning, _at(*path), _at("real", *path), brief)


def _by_definition(value: float) -> Callable[[Metrics], float | None]:
    return lambda _: value


METRIC_COLUMNS: tuple[MetricColumn, ...] = (
    MetricColumn(
        "KID",
        "Distance of the samples from the real images, unbiased also with few images; 0 is best.",
        _at("kid", "value"),
        _at("floor", "kid"),
    ),
    MetricColumn(
        "FID",
        "The most common distance. It grows with fewer images: compare equal numbers only.",
        _at("fid", "value"),
        _at("floor", "fid"),
    ),
    MetricColumn(
        "floor/FID",
        "The FID of two sets of real images divided by that of the samples: 1 is as near as other "
        "real images.",
        _at("ratio"),
        _by_definition(1.0),
    ),
    _with_real(
        "precision",
        "Share of samples in the neighbourhood of a real image.",
        "manifold",
        "precision",
    ),
    _with_real(
        "recall", "Share of real images in the neighbourhood of a sample.", "manifold", "recall"
    ),
    _with_real(
        "density",
        "Number of neighbourhoods of real images around a sample, divided by k; may exceed 1.",
        "manifold",
        "density",
    ),
    _with_real(
        "coverage",
        "Share of real images with a sample in their neighbourhood.",
        "manifold",
        "coverage",
    ),
    _with_real(
        "diversity",
        "Mean distance of two samples divided by that of two real images: 0 is collapse.",
        "diversity",
    ),
    _with_real(
        "KL, missed",
        "Kullback-Leibler divergence of the samples from the real images, in nats: high where "
        "samples miss something.",
        "divergences",
        "kl_real_samples",
        brief=False,
    ),
    _with_real(
        "KL, invented",
        "The same the other way round: high where samples invent something.",
        "divergences",
        "kl_samples_real",
        brief=False,
    ),
    _with_real(
        "JS", "Jensen-Shannon divergence, at most log 2 = 0.693.", "divergences", "js", brief=False
    ),
    _with_real(
        "Wasserstein",
        "Wasserstein-1 distance along the real images' main axes, in their standard deviations.",
        "divergences",
        "wasserstein",
        brief=False,
    ),
    MetricColumn(
        "nearest percentile",
        "Median over the samples of the share of held-out real images that are as near to a "
        "training image: 0.5 for real images, towards 0 for copies, towards 1 for samples unlike "
        "any image.",
        _at("memorisation", "percentiles", "median"),
        _by_definition(0.5),
        brief=False,
    ),
    MetricColumn(
        "too near",
        "Share of samples nearer to a training image than all but 5 % of held-out images.",
        _at("memorisation", "suspicious"),
        _by_definition(0.05),
    ),
    MetricColumn(
        "C_T",
        "Test for data copying: below -3 indicates copies, far above 3 samples that miss the data.",
        _at("memorisation", "copying"),
        _by_definition(0.0),
    ),
    MetricColumn(
        "C_T, worst region",
        "The lowest C_T of five regions of the feature space.",
        _at("memorisation", "copying_by_cell", "lowest"),
        lambda _: None,
        brief=False,
    ),
    MetricColumn(
        AUROC,
        "How well a probe trained on samples separates the classes of real test images, compared "
        "with the same probe trained on as many real images.",
        _at("probe", "synthetic", "value"),
        _at("probe", "real", "value"),
        brief=False,
    ),
)


class Row(NamedTuple):
    """A metric of a generator beside that of real images."""

    name: str
    value: str
    real: str
    meaning: str


def significant(value: float | None) -> str:
    """Three significant digits, no exponent: KID and FID live on different scales."""
    if value is None or not math.isfinite(value):
        return "not defined"
    if round(value, 5) == 0:
        return "0"
    return f"{value:.{min(max(2 - math.floor(math.log10(abs(value))), 0), 5)}f}"


def space_rows(metrics: Metrics) -> list[Row]:
    """The defined metrics of one feature space, or of one class in it, which has fewer."""
    shown = [column for column in METRIC_COLUMNS if column.of_samples(metrics) is not None]
    return [
        Row(each.name, _sample_text(each, metrics), _real_text(each, metrics), each.meaning)
        for each in shown
    ]


def _sample_text(column: MetricColumn, metrics: Metrics) -> str:
    text = significant(column.of_samples(metrics))
    match column.name:
        case "KID" if metrics.kid:
            return f"{text} ({_bounds(metrics.kid)})"
        case "FID" if metrics.fid:
            return f"{text} ± {significant(metrics.fid.error)}"
        case name if name == AUROC and isinstance(metrics, SpaceMetrics) and metrics.probe:
            return f"{text} ({_bounds(metrics.probe.synthetic)})"
    return text


def _real_text(column: MetricColumn, metrics: Metrics) -> str:
    value = column.of_real(metrics)
    text = "" if value is None else significant(value)
    match column.name:
        case "KID" if metrics.floor:
            return f"{text} ± {significant(metrics.floor.kid_spread)}"
        case "FID" if metrics.floor:
            return f"{text} ± {significant(metrics.floor.fid_spread)}"
        case name if name == AUROC and isinstance(metrics, SpaceMetrics) and metrics.probe:
            return f"{text} ({_bounds(metrics.probe.real)})"
    return text


def _bounds(metric: KidMetric | Interval) -> str:
    return f"{significant(metric.low)} to {significant(metric.high)}"


def pixel_rows(pixels: PixelMetrics, samples: int, held_out: int) -> list[Row]:
    """The metrics that need no network.

    Args:
        pixels: as in an evaluation.
        samples: number of samples.
        held_out: number of held-out real images.
    """
    ours, real = pixels.divergences, pixels.real.divergences
    numbers = (
        ("KL, missed", ours.kl_real_samples, real.kl_real_samples, "Of the grey levels."),
        ("KL, invented", ours.kl_samples_real, real.kl_samples_real, "In the other direction."),
        ("JS", ours.js, real.js, "Jensen-Shannon divergence of the grey levels."),
        ("Wasserstein", ours.wasserstein, real.wasserstein, "Of the grey levels, in grey levels."),
        (
            "diversity",
            pixels.diversity,
            pixels.real.diversity,
            "Mean distance of two samples divided by that of two real images, pixel by pixel.",
        ),
    )
    return [
        *(Row(name, significant(a), significant(b), meaning) for name, a, b, meaning in numbers),
        Row(
            "exact copies",
            f"{pixels.exact_copies} of {samples}",
            "",
            "Samples that equal a training image or its mirror image.",
        ),
        Row(
            "near copies",
            f"{pixels.near_copies} of {samples}",
            f"{pixels.real.near_copies} of {held_out}",
            "Samples that are near-duplicates of a training image, compared with the number of "
            "held-out real images that are.",
        ),
    ]


Table = tuple[list[str], list[list[str]]]  # head, rows


def model_table(comparison: GanComparison) -> Table:
    """The course of each training."""
    head = ["model", "verdict", "steps", "images seen", "minutes", "best at minute", "weights"]
    return head, [_model_row(model, title) for title, model in titled_models(comparison)]


def titled_models(comparison: GanComparison) -> Iterator[tuple[str, ComparedGenerator]]:
    """Each model with its name, which includes the seed where there are several."""
    several = {model.seed for model in comparison.models} != {0}
    for model in comparison.models:
        yield model.preset + (f", seed {model.seed}" if several else ""), model


def _model_row(model: ComparedGenerator, title: str) -> list[str]:
    start: TrainingRow = {"step": 0, "images": 0, "seconds": 0.0}
    last = model.rows[-1] if model.rows else start
    best = ""
    if model.evaluation:
        step = model.evaluation.generator.step
        minutes = (_minutes(row) for row in model.rows if row["step"] == step)
        best = next(minutes, "")
    weights = f"{model.weights['generator'] / 1e6:.2f} M"
    numbers = [f"{last[name] or 0:,.0f}" for name in ("step", "images")]
    return [title, model.verdict, *numbers, _minutes(last), best, weights]


def _minutes(row: TrainingRow) -> str:
    return f"{(row['seconds'] or 0) / 60:.1f}"


def metric_tables(comparison: GanComparison) -> dict[str, Table]:
    """The metrics of all presets by the title of a feature space; real images come first.

    With several seeds a metric is the mean over them, with its standard deviation.
    """
    measured = [model.evaluation for model in comparison.models if model.evaluation]
    if not measured:
        return {}
    shown = [column for column in METRIC_COLUMNS if column.brief]
    head = ["model", *(column.name for column in shown)]
    presets = list(dict.fromkeys(model.preset for model in comparison.models))
    tables = {}
    for number, space in enumerate(measured[0].spaces):
        rows = [["real images", *(_real_text(column, space) for column in shown)]]
        for preset in presets:
            own = [
                model.evaluation.spaces[number]
                for model in comparison.models
                if model.preset == preset and model.evaluation
            ]
            rows.append([preset, *(_over_seeds(column, own) for column in shown)])
        tables[space.title] = (head, rows)
    return tables


def _over_seeds(column: MetricColumn, spaces: Sequence[SpaceMetrics]) -> str:
    if not spaces:
        return "none"
    if len(spaces) == 1:
        return _sample_text(column, spaces[0])
    values = [value for space in spaces if (value := column.of_samples(space)) is not None]
    if len(values) < 2:
        return ", ".join(significant(value) for value in values)
    return f"{significant(mean(values))} ± {significant(stdev(values))}"


def comparison_markdown(comparison: GanComparison) -> str:
    """The tables of a comparison as Markdown."""
    options = comparison.options
    seeds = "seed" if options.seeds == 1 else "seeds"
    lines = [
        f"Images of {options.labels}, {options.size} px, {options.budget_minutes:g} minutes of "
        f"training for each model and seed, {options.seeds} {seeds}, {options.samples} samples "
        f"measured. Trained on: {comparison.device}.",
        "",
        markdown_table(*model_table(comparison)),
    ]
    for title, table in metric_tables(comparison).items():
        lines += ["", f"Feature space {title}:", "", markdown_table(*table)]
    problems = [(title, model) for title, model in titled_models(comparison) if model.problem]
    if problems:
        lines += ["", *(f"- {title}: {model.problem}" for title, model in problems)]
    return "\n".join(lines) + "\n"
