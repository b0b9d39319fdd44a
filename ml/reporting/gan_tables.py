"""Metrics of generators as tables: the same in the terminal, on a page and in Markdown."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from ml.reporting.format import markdown_table

AUROC = "AUROC, trained on samples"
Space = Mapping[str, Any]  # the metrics in one feature space, as of `ml.gan.evaluation.evaluate`


class Metric(NamedTuple):
    """A metric of a feature space: what it is called, what it means, where it stands.

    Attributes:
        name: in the head of a table.
        meaning: a sentence for those who have not met it.
        of_samples: the generator's.
        of_real: the same of real images that were never generated.
        brief: whether a comparison of many models shows it.
    """

    name: str
    meaning: str
    of_samples: Callable[[Space], float | None]
    of_real: Callable[[Space], float | None]
    brief: bool = True


def _at(*keys: str) -> Callable[[Space], float | None]:
    """A metric by the keys that lead to it; None where the way ends before."""

    def find(metrics: Any) -> float | None:
        for key in keys:
            metrics = metrics.get(key) if metrics else None
        return metrics if metrics is None else float(metrics)

    return find


def _alike(name: str, meaning: str, *keys: str, brief: bool = True) -> Metric:
    """A metric that training images have too when they take the samples' place."""
    return Metric(name, meaning, _at(*keys), _at("real", *keys), brief)


def _by_definition(value: float) -> Callable[[Space], float | None]:
    return lambda _: value


METRIC_COLUMNS = (
    Metric(
        "KID",
        "Distance of the samples from the real images, unbiased where images are few; 0 is best.",
        _at("kid", "value"),
        _at("floor", "kid"),
    ),
    Metric(
        "FID",
        "The usual distance; the fewer images, the larger: compare at equal numbers only.",
        _at("fid", "value"),
        _at("floor", "fid"),
    ),
    Metric(
        "floor/FID",
        "The distance between two sets of real images over that of the samples: 1 is as near as "
        "other real images.",
        _at("ratio"),
        _by_definition(1.0),
    ),
    _alike(
        "precision", "Share of samples that lie among the real images.", "manifold", "precision"
    ),
    _alike("recall", "Share of real images that lie among the samples.", "manifold", "recall"),
    _alike(
        "density",
        "How many neighbourhoods of real images a sample lies in; may exceed 1.",
        "manifold",
        "density",
    ),
    _alike(
        "coverage",
        "Share of real images with a sample in their neighbourhood.",
        "manifold",
        "coverage",
    ),
    _alike(
        "diversity",
        "Mean distance of two samples over that of two real images: 0 is collapse.",
        "diversity",
    ),
    _alike(
        "KL, missed",
        "Kullback-Leibler divergence of the samples from the real images, in nats: high where "
        "samples miss something.",
        "divergences",
        "kl_real_samples",
        brief=False,
    ),
    _alike(
        "KL, invented",
        "The same the other way round: high where samples invent something.",
        "divergences",
        "kl_samples_real",
        brief=False,
    ),
    _alike(
        "JS", "Jensen-Shannon divergence, at most log 2 = 0.693.", "divergences", "js", brief=False
    ),
    _alike(
        "Wasserstein",
        "Wasserstein-1 distance along the real images' main axes, in their standard deviations.",
        "divergences",
        "wasserstein",
        brief=False,
    ),
    Metric(
        "nearest percentile",
        "Median, over the samples, of the share of held-out real images that are as near to a "
        "training image: 0.5 as for real images, towards 0 for copies, towards 1 for samples that "
        "are unlike any image.",
        _at("memorisation", "percentiles", "median"),
        _by_definition(0.5),
        brief=False,
    ),
    Metric(
        "too near",
        "Share of samples nearer to a training image than all but 5 % of held-out images.",
        _at("memorisation", "suspicious"),
        _by_definition(0.05),
    ),
    Metric(
        "C_T",
        "The test for data copying: below -3 says copies, far above 3 that samples miss the data.",
        _at("memorisation", "copying"),
        _by_definition(0.0),
    ),
    Metric(
        "C_T, worst region",
        "The same where it is lowest, of five regions of the space.",
        _at("memorisation", "copying_by_cell", "lowest"),
        lambda _: None,
        brief=False,
    ),
    Metric(
        AUROC,
        "A probe that learned from samples tells the classes of real test images apart; beside it "
        "the same probe that learned from as many real images.",
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
    if value is None:
        return "not defined"
    if round(value, 5) == 0:
        return "0"
    return f"{value:.{min(max(2 - math.floor(math.log10(abs(value))), 0), 5)}f}"


def space_rows(space: Space) -> list[Row]:
    """The metrics of one feature space, or of one class in it, which has fewer."""
    shown = [metric for metric in METRIC_COLUMNS if metric.of_samples(space) is not None]
    return [Row(f.name, _of_samples(f, space), _of_real(f, space), f.meaning) for f in shown]


def _of_samples(metric: Metric, space: Space) -> str:
    text = significant(metric.of_samples(space))
    if metric.name == "KID":
        return f"{text} ({_reach(space['kid'])})"
    if metric.name == "FID":
        return f"{text} ± {significant(space['fid']['error'])}"
    return f"{text} ({_reach(space['probe']['synthetic'])})" if metric.name == AUROC else text


def _of_real(metric: Metric, space: Space) -> str:
    value = metric.of_real(space)
    text = "" if value is None else significant(value)
    if value is not None and metric.name in ("KID", "FID"):
        return f"{text} ± {significant(space['floor'][metric.name.lower() + '_spread'])}"
    return f"{text} ({_reach(space['probe']['real'])})" if metric.name == AUROC else text


def _reach(metric: Mapping[str, Any]) -> str:
    return f"{significant(metric['low'])} to {significant(metric['high'])}"


def pixel_rows(pixels: Mapping[str, Any], samples: int, held_out: int) -> list[Row]:
    """The metrics that need no network.

    Args:
        pixels: as in an evaluation.
        samples: number of samples.
        held_out: number of held-out real images.
    """
    real = pixels["real"]
    alike = (
        ("KL, missed", "divergences", "kl_real_samples", "Of the grey levels of all pixels."),
        ("KL, invented", "divergences", "kl_samples_real", "The same the other way round."),
        ("JS", "divergences", "js", "Jensen-Shannon divergence of the grey levels."),
        ("Wasserstein", "divergences", "wasserstein", "Of the grey levels, in grey levels."),
    )
    rows = [
        Row(name, significant(pixels[part][key]), significant(real[part][key]), meaning)
        for name, part, key, meaning in alike
    ]
    return [
        *rows,
        Row(
            "diversity",
            significant(pixels["diversity"]),
            significant(real["diversity"]),
            "Mean distance of two samples over that of two real images, pixel by pixel.",
        ),
        Row(
            "exact copies",
            f"{pixels['exact_copies']} of {samples}",
            "",
            "Samples that equal a training image or its mirror image.",
        ),
        Row(
            "near copies",
            f"{pixels['near_copies']} of {samples}",
            f"{real['near_copies']} of {held_out}",
            "Samples that the search for duplicates takes for a training image; beside it the "
            "held-out real images that it takes for one.",
        ),
    ]


Table = tuple[list[str], list[list[str]]]  # head, rows


def model_table(comparison: Mapping[str, Any]) -> Table:
    """How each training went; `comparison` is what `compare_gans` gives."""
    head = ["model", "verdict", "steps", "images seen", "minutes", "best at minute", "weights"]
    return head, [_model_row(model, title) for title, model in titled_models(comparison)]


def titled_models(comparison: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model with its name, in which the seed stands where there are several."""
    several = {model["seed"] for model in comparison["models"]} != {0}
    for model in comparison["models"]:
        yield model["preset"] + (f", seed {model['seed']}" if several else ""), model


def _model_row(model: Mapping[str, Any], title: str) -> list[str]:
    rows, evaluation = model["rows"], model["evaluation"]
    last = rows[-1] if rows else {"step": 0, "images": 0, "seconds": 0.0}
    best = ""
    if evaluation:
        step = evaluation["generator"]["step"]
        best = next((f"{row['seconds'] / 60:.1f}" for row in rows if row["step"] == step), "")
    weights = f"{model['weights']['generator'] / 1e6:.2f} M"
    numbers = [f"{last['step']:,.0f}", f"{last['images']:,.0f}", f"{last['seconds'] / 60:.1f}"]
    return [title, model["verdict"], *numbers, best, weights]


def metric_tables(comparison: Mapping[str, Any]) -> dict[str, Table]:
    """The metrics of all presets in each feature space, by its title; real images come first.

    With several seeds a metric is the mean over them, with its standard deviation.
    """
    measured = [model for model in comparison["models"] if model["evaluation"]]
    if not measured:
        return {}
    shown = [metric for metric in METRIC_COLUMNS if metric.brief]
    head = ["model", *(metric.name for metric in shown)]
    presets = list(dict.fromkeys(model["preset"] for model in comparison["models"]))
    tables = {}
    for number, space in enumerate(measured[0]["evaluation"]["spaces"]):
        rows = [["real images", *(_of_real(metric, space) for metric in shown)]]
        for preset in presets:
            own = [
                model["evaluation"]["spaces"][number]
                for model in measured
                if model["preset"] == preset
            ]
            rows.append([preset, *(_over_seeds(metric, own) for metric in shown)])
        tables[f"{space['name']} ({space['sha256'][:12]})"] = (head, rows)
    return tables


def _over_seeds(metric: Metric, spaces: Sequence[Space]) -> str:
    if not spaces:
        return "none"
    if len(spaces) == 1:
        return _of_samples(metric, spaces[0])
    values = [value for space in spaces if (value := metric.of_samples(space)) is not None]
    if len(values) < 2:
        return ", ".join(significant(value) for value in values)
    return f"{significant(mean(values))} ± {significant(stdev(values))}"


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """The tables of a comparison as Markdown."""
    options = comparison["options"]
    lines = [
        f"Images of {options['labels']}, {options['size']} px, {options['budget_minutes']:g} "
        f"minutes of training for each model and seed, {options['seeds']} seed(s), "
        f"{options['samples']} samples measured. Trained on: {comparison['device']}.",
        "",
        markdown_table(*model_table(comparison)),
    ]
    for title, table in metric_tables(comparison).items():
        lines += ["", f"In {title}:", "", markdown_table(*table)]
    problems = [(title, model) for title, model in titled_models(comparison) if model["problem"]]
    if problems:
        lines += ["", *(f"- {title}: {model['problem']}" for title, model in problems)]
    return "\n".join(lines) + "\n"
