"""Figures of generators as tables: the same in the terminal, on a page and in Markdown."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from ml.reporting.format import markdown_table

AUROC = "AUROC, trained on samples"
Space = Mapping[str, Any]  # the figures in one feature space, as of `ml.gan.evaluation.evaluate`


class Figure(NamedTuple):
    """A figure of a feature space: what it is called, what it means, where it stands.

    Attributes:
        name: in the head of a table.
        meaning: a sentence for those who have not met it.
        of_samples: the generator's.
        of_real: the same of real films that were never generated.
        brief: whether a comparison of many models shows it.
    """

    name: str
    meaning: str
    of_samples: Callable[[Space], float | None]
    of_real: Callable[[Space], float | None]
    brief: bool = True


def _at(*keys: str) -> Callable[[Space], float | None]:
    """A figure by the keys that lead to it; None where the way ends before."""

    def find(figures: Any) -> float | None:
        for key in keys:
            figures = figures.get(key) if figures else None
        return figures if figures is None else float(figures)

    return find


def _alike(name: str, meaning: str, *keys: str, brief: bool = True) -> Figure:
    """A figure that training films have too when they take the samples' place."""
    return Figure(name, meaning, _at(*keys), _at("real", *keys), brief)


def _by_definition(value: float) -> Callable[[Space], float | None]:
    return lambda _: value


FIGURES = (
    Figure(
        "KID",
        "Distance of the samples from the real films, unbiased where films are few; 0 is best.",
        _at("kid", "value"),
        _at("floor", "kid"),
    ),
    Figure(
        "FID",
        "The usual distance; the fewer films, the larger: compare at equal numbers only.",
        _at("fid", "value"),
        _at("floor", "fid"),
    ),
    Figure(
        "floor/FID",
        "The distance between two sets of real films over that of the samples: 1 is as near as "
        "other real films.",
        _at("ratio"),
        _by_definition(1.0),
    ),
    _alike("precision", "Share of samples that lie among the real films.", "manifold", "precision"),
    _alike("recall", "Share of real films that lie among the samples.", "manifold", "recall"),
    _alike(
        "density",
        "How many neighbourhoods of real films a sample lies in; may exceed 1.",
        "manifold",
        "density",
    ),
    _alike(
        "coverage",
        "Share of real films with a sample in their neighbourhood.",
        "manifold",
        "coverage",
    ),
    _alike(
        "diversity",
        "Mean distance of two samples over that of two real films: 0 is collapse.",
        "diversity",
    ),
    _alike(
        "KL, missed",
        "Kullback-Leibler divergence of the samples from the real films, in nats: high where "
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
        "Wasserstein-1 distance along the real films' main axes, in their standard deviations.",
        "divergences",
        "wasserstein",
        brief=False,
    ),
    Figure(
        "nearest percentile",
        "Median, over the samples, of the share of held-out real films that are as near to a "
        "training film: 0.5 as for real films, towards 0 for copies, towards 1 for samples that "
        "are unlike any film.",
        _at("memorisation", "percentiles", "median"),
        _by_definition(0.5),
        brief=False,
    ),
    Figure(
        "too near",
        "Share of samples nearer to a training film than all but 5 % of held-out films.",
        _at("memorisation", "suspicious"),
        _by_definition(0.05),
    ),
    Figure(
        "C_T",
        "The test for data copying: below -3 says copies, far above 3 that samples miss the data.",
        _at("memorisation", "copying"),
        _by_definition(0.0),
    ),
    Figure(
        "C_T, worst region",
        "The same where it is lowest, of five regions of the space.",
        _at("memorisation", "copying_by_cell", "lowest"),
        lambda _: None,
        brief=False,
    ),
    Figure(
        AUROC,
        "A probe that learned from samples tells the classes of real test films apart; beside it "
        "the same probe that learned from as many real films.",
        _at("probe", "synthetic", "value"),
        _at("probe", "real", "value"),
        brief=False,
    ),
)


class Row(NamedTuple):
    """A figure of a generator beside that of real films."""

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
    """The figures of one feature space, or of one class in it, which has fewer."""
    shown = [figure for figure in FIGURES if figure.of_samples(space) is not None]
    return [Row(f.name, _of_samples(f, space), _of_real(f, space), f.meaning) for f in shown]


def _of_samples(figure: Figure, space: Space) -> str:
    text = significant(figure.of_samples(space))
    if figure.name == "KID":
        return f"{text} ({_reach(space['kid'])})"
    if figure.name == "FID":
        return f"{text} ± {significant(space['fid']['error'])}"
    return f"{text} ({_reach(space['probe']['synthetic'])})" if figure.name == AUROC else text


def _of_real(figure: Figure, space: Space) -> str:
    value = figure.of_real(space)
    text = "" if value is None else significant(value)
    if value is not None and figure.name in ("KID", "FID"):
        return f"{text} ± {significant(space['floor'][figure.name.lower() + '_spread'])}"
    return f"{text} ({_reach(space['probe']['real'])})" if figure.name == AUROC else text


def _reach(figure: Mapping[str, Any]) -> str:
    return f"{significant(figure['low'])} to {significant(figure['high'])}"


def pixel_rows(pixels: Mapping[str, Any], samples: int, held_out: int) -> list[Row]:
    """The figures that need no network.

    Args:
        pixels: as in an evaluation.
        samples: number of samples.
        held_out: number of held-out real films.
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
            "Mean distance of two samples over that of two real films, pixel by pixel.",
        ),
        Row(
            "exact copies",
            f"{pixels['exact_copies']} of {samples}",
            "",
            "Samples that equal a training film or its mirror image.",
        ),
        Row(
            "near copies",
            f"{pixels['near_copies']} of {samples}",
            f"{real['near_copies']} of {held_out}",
            "Samples that the search for duplicates takes for a training film; beside it the "
            "held-out real films that it takes for one.",
        ),
    ]


Table = tuple[list[str], list[list[str]]]  # head, rows


def model_table(comparison: Mapping[str, Any]) -> Table:
    """How each training went; `comparison` is what `compare_gans` gives."""
    head = ["model", "verdict", "steps", "films seen", "minutes", "best at minute", "weights"]
    return head, [_model_row(model, title) for title, model in titled_models(comparison)]


def titled_models(comparison: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model with its name, in which the seed stands where there are several."""
    several = {model["seed"] for model in comparison["models"]} != {0}
    for model in comparison["models"]:
        yield model["preset"] + (f", seed {model['seed']}" if several else ""), model


def _model_row(model: Mapping[str, Any], title: str) -> list[str]:
    rows, evaluation = model["rows"], model["evaluation"]
    last = rows[-1] if rows else {"step": 0, "films": 0, "seconds": 0.0}
    best = ""
    if evaluation:
        step = evaluation["generator"]["step"]
        best = next((f"{row['seconds'] / 60:.1f}" for row in rows if row["step"] == step), "")
    weights = f"{model['weights']['generator'] / 1e6:.2f} M"
    numbers = [f"{last['step']:,.0f}", f"{last['films']:,.0f}", f"{last['seconds'] / 60:.1f}"]
    return [title, model["verdict"], *numbers, best, weights]


def figure_tables(comparison: Mapping[str, Any]) -> dict[str, Table]:
    """The figures of all presets in each feature space, by its title; real films come first.

    With several seeds a figure is the mean over them, with its standard deviation.
    """
    measured = [model for model in comparison["models"] if model["evaluation"]]
    if not measured:
        return {}
    shown = [figure for figure in FIGURES if figure.brief]
    head = ["model", *(figure.name for figure in shown)]
    presets = list(dict.fromkeys(model["preset"] for model in comparison["models"]))
    tables = {}
    for number, space in enumerate(measured[0]["evaluation"]["spaces"]):
        rows = [["real films", *(_of_real(figure, space) for figure in shown)]]
        for preset in presets:
            own = [
                model["evaluation"]["spaces"][number]
                for model in measured
                if model["preset"] == preset
            ]
            rows.append([preset, *(_over_seeds(figure, own) for figure in shown)])
        tables[f"{space['name']} ({space['sha256'][:12]})"] = (head, rows)
    return tables


def _over_seeds(figure: Figure, spaces: Sequence[Space]) -> str:
    if not spaces:
        return "none"
    if len(spaces) == 1:
        return _of_samples(figure, spaces[0])
    values = [value for space in spaces if (value := figure.of_samples(space)) is not None]
    if len(values) < 2:
        return ", ".join(significant(value) for value in values)
    return f"{significant(mean(values))} ± {significant(stdev(values))}"


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """The tables of a comparison as Markdown."""
    options = comparison["options"]
    lines = [
        f"Films of {options['labels']}, {options['size']} px, {options['budget_minutes']:g} "
        f"minutes of training for each model and seed, {options['seeds']} seed(s), "
        f"{options['samples']} samples measured. Trained on: {comparison['device']}.",
        "",
        markdown_table(*model_table(comparison)),
    ]
    for title, table in figure_tables(comparison).items():
        lines += ["", f"In {title}:", "", markdown_table(*table)]
    problems = [(title, model) for title, model in titled_models(comparison) if model["problem"]]
    if problems:
        lines += ["", *(f"- {title}: {model['problem']}" for title, model in problems)]
    return "\n".join(lines) + "\n"
