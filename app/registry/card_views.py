"""The public pages of a classifier and of a generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from app.registry.tables import ModelVersion
from ml.classifier.card import ModelCard
from ml.evaluation.results import EvaluationMetrics
from ml.gan.evaluation.results import GeneratorEvaluation
from ml.gan.generator_card import ReleasedGeneratorCard
from ml.labels import label_name
from ml.reporting.format import images_by_source, interval, percent, three
from ml.reporting.gan_tables import AUROC, Row, pixel_rows, space_rows
from ml.texts import msg


@dataclass(frozen=True, slots=True)
class MetricTile:
    """A metric in large type; `interval` is empty where there is none."""

    name: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The metrics of a class."""

    name: str
    precision: str
    recall: str
    f1: str
    support: int


@dataclass(frozen=True, slots=True)
class SourceRow:
    """How well two classes are told apart within one source."""

    name: str
    value: str
    interval: str
    n: int


@dataclass(frozen=True, slots=True)
class ClassifierCardView:
    """The public page of a classifier.

    Attributes:
        card: as it was registered; the page shows its plain facts as they are.
        status: whether the classifier is in use, as a sentence.
        labels: names of the classes.
        sources: source -> name of a class -> images.
        synthetic: SHA-256 of a generator -> synthetic training images of it.
    """

    card: ModelCard
    status: str
    created_at: datetime
    labels: list[str]
    metrics: list[MetricTile]
    per_class: list[ClassRow]
    within_source: list[SourceRow]
    sources: dict[str, dict[str, int]]
    synthetic: dict[str, int]

    @classmethod
    def of(cls, card: ModelCard, *, status: str) -> Self:
        """Show a card."""
        metrics = card.metrics
        return cls(
            card=card,
            status=status,
            created_at=datetime.fromisoformat(card.created_at),
            labels=[label_name(label) for label in card.labels],
            metrics=_tiles(metrics),
            per_class=[
                ClassRow(
                    label_name(label),
                    three(own.precision),
                    three(own.recall),
                    three(own.f1),
                    own.support,
                )
                for label, own in metrics.per_class.items()
            ],
            within_source=[
                SourceRow(
                    msg(
                        "%(source)s: %(positive)s against %(negative)s",
                        source=row.source,
                        positive=label_name(row.positive),
                        negative=label_name(row.negative),
                    ),
                    *interval(row.auroc),
                    row.auroc.n,
                )
                for row in metrics.within_source
            ],
            sources={
                name: {label_name(label): count for label, count in counts.items()}
                for name, counts in images_by_source(card.data).items()
            },
            synthetic={
                generator: sum(counts.values()) for generator, counts in card.data.synthetic.items()
            },
        )


def _tiles(metrics: EvaluationMetrics) -> list[MetricTile]:
    selective = metrics.selective
    return [
        MetricTile(
            msg("Accuracy"),
            *interval(metrics.accuracy),
            msg("of the most likely class, on patients not seen in training"),
        ),
        MetricTile(
            msg("Macro AUROC"),
            *interval(metrics.macro_auroc),
            msg("mean over the classes, each against the others, all sources mixed"),
        ),
        MetricTile(
            msg("Calibration error"),
            three(metrics.calibration_error),
            "",
            msg("mean gap between predicted probability and accuracy"),
        ),
        MetricTile(
            msg("Coverage"),
            percent(selective.coverage),
            "",
            msg("share of the images with a confident prediction; the others are uncertain"),
        ),
        MetricTile(
            msg("Accuracy of confident predictions"),
            three(selective.accuracy_when_answering),
            "",
            msg("without the uncertain images"),
        ),
    ]


# The metrics of a generator that stand first.
_HEADLINE = ("KID", "FID", "recall", AUROC)


@dataclass(frozen=True, slots=True)
class MetricTable:
    """The metrics of a generator in one feature space, or pixel by pixel."""

    title: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class GeneratorCardView:
    """The public page of a generator.

    Attributes:
        status: whether the generator is in use.
        headline: the first metrics of the first feature space.
        measured_on: on which images, as sentences; empty for a generator without an evaluation.
    """

    version: str
    sha256: str
    status: str
    created_at: datetime
    classes: list[str]
    on_demand: bool
    size: int
    objective: str
    steps: str
    training_images: list[tuple[str, int]]
    code_version: str
    licence: str
    notes: list[str]
    headline: list[Row]
    tables: list[MetricTable]
    measured_on: str
    samples_url: str

    @classmethod
    def of(cls, model: ModelVersion) -> Self:
        """Show a row."""
        card = model.generator_card
        options, evaluation = card.options, card.evaluation
        tables = _tables(evaluation) if evaluation else []
        headline = [row for table in tables[:1] for row in table.rows if row.name in _HEADLINE]
        return cls(
            version=model.version,
            sha256=model.sha256,
            status=msg("An archived generator") if model.archived_at else "A generator",
            created_at=datetime.fromisoformat(card.created_at),
            classes=[label_name(label) for label in card.labels],
            on_demand=options.conditional,
            size=options.size,
            objective=msg(
                "%(objective)s, %(network)s networks",
                objective=options.objective,
                network=options.network,
            ),
            steps=msg(
                "%(steps)s steps, %(images)s images shown",
                steps=card.step,
                images=card.images_seen,
            ),
            training_images=[(label_name(label), count) for label, count in card.images.items()],
            code_version=card.code_version,
            licence=card.licence or msg("not stated"),
            notes=[*card.notes, *(evaluation.notes if evaluation else [])],
            headline=headline,
            tables=tables,
            measured_on=_measured_on(evaluation) if evaluation else "",
            samples_url=f"/gallery/samples/{model.sha256}.png",
        )


def _tables(evaluation: GeneratorEvaluation) -> list[MetricTable]:
    samples, held_out = evaluation.samples.images, evaluation.real.held_out_images
    return [
        *(
            MetricTable(msg("Feature space %(name)s", name=space.name), space_rows(space))
            for space in evaluation.spaces
        ),
        MetricTable(msg("Pixel by pixel"), pixel_rows(evaluation.pixels, samples, held_out)),
    ]


def _measured_on(evaluation: GeneratorEvaluation) -> str:
    real = evaluation.real
    return msg(
        "%(images)s synthetic images compared with %(images2)s test images of "
        "%(patients)s patients. Brackets show 95 %% intervals; for FID, the standard "
        "error.",
        images=evaluation.samples.images,
        images2=real.images,
        patients=real.patients,
    )


def generator_metrics(
    card: ReleasedGeneratorCard, names: Sequence[str] = ("KID", "FID")
) -> list[Row]:
    """Selected metrics of the first feature space; empty for a generator without an evaluation."""
    spaces = card.evaluation.spaces[:1] if card.evaluation else []
    return [row for space in spaces for row in space_rows(space) if row.name in names]
