"""A trained generator becomes a released one: measured, described, with unselected samples."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ml.classifier.card_texts import LICENCE
from ml.data.manifest import ImageRecord, in_split, real_images
from ml.data.splits import Split
from ml.errors import TooFewImages
from ml.files import write_whole
from ml.gan.evaluation.comparison import DEFAULT_SAMPLES
from ml.gan.evaluation.evaluate import evaluate_gan
from ml.gan.evaluation.features import FeatureSpace
from ml.gan.evaluation.results import GeneratorEvaluation
from ml.gan.generator_card import ReleasedGeneratorCard
from ml.gan.generator_file import GENERATOR, LoadedGenerator, load_generator, save_generator
from ml.gan.onnx_export import export_graph
from ml.gan.onnx_generator import CARD, GRAPH
from ml.reporting.gan_report import draw_sheet

SHEET = "samples.png"
FEWEST_SAMPLES = 64
NOTES = [
    "Intended use: research and education; to enlarge the training part of a data set, never to "
    "judge a patient, and never in a set that a classifier is measured on.",
    "An image's class is what the generator was asked for, which no physician has confirmed.",
    "The classes come from different hospitals and the generator learned their marks with them: a "
    "classifier that learns from its images learns these marks as well.",
    "Some samples show anatomy that does not exist. Nobody chose the samples shown: they are those "
    "of seeds 0 to 63.",
    "A sample may come close to an image that the generator learned from: xray synthesize compares "
    "each one and refuses those that are too near.",
]


@dataclass(frozen=True, slots=True)
class Release:
    """What was written.

    Attributes:
        generator: as its file gives it.
        evaluation: its metrics, as `ml.gan.evaluation.evaluate.measure_generator` gives them; None
            where
            there were too few images to measure it, which its card's last note says.
    """

    generator: LoadedGenerator
    evaluation: GeneratorEvaluation | None


def release_generator(
    trained: Path,
    records: Sequence[ImageRecord],
    out: Path,
    *,
    features: Sequence[FeatureSpace],
    samples: int | None = None,
    quiet: bool = False,
    on_measured: Callable[[], None] | None = None,
) -> Release:
    """Measure a generator on the test split and write it with its graph, card and samples.

    All is made beside the folder and moved there once it is whole.

    Args:
        trained: the generator's file.
        records: the data set's images, of all splits.
        out: the folder; it is made where it is missing.
        features: where images are compared.
        samples: how many images the generator makes to be measured; `usual_samples` by default.
        quiet: shows no progress.
        on_measured: called when the generator is measured, before it is exported.

    Raises:
        CheckpointError: the file holds no generator.
        DataError: images that are missing or unreadable.
        BundleError: the generator's graph does not make its images.
    """
    loaded = load_generator(trained)
    card = loaded.card.model_copy(update={"notes": NOTES, "licence": LICENCE})
    evaluation = None
    try:
        evaluation = evaluate_gan(
            loaded,
            records,
            features=features,
            samples=samples or usual_samples(records, loaded.labels),
            quiet=quiet,
        ).metrics
        card = card.model_copy(update={"metrics": evaluation})
    except TooFewImages as problem:
        card = card.model_copy(update={"notes": [*NOTES, f"Not measured. {problem}"]})
    if on_measured:
        on_measured()
    with _whole_folder(out) as part:
        save_generator(part / GENERATOR, loaded.network, card)
        write_beside(part, trained_sha256=loaded.sha256)
    return Release(load_generator(out / GENERATOR), evaluation)


def usual_samples(records: Sequence[ImageRecord], labels: Sequence[str]) -> int:
    """As many samples as there are test images of some classes, but 64 to 512 of them."""
    test = [image for image in in_split(real_images(records), Split.TEST) if image.label in labels]
    return min(max(len(test), FEWEST_SAMPLES), DEFAULT_SAMPLES)


def write_beside(folder: Path, *, trained_sha256: str = "") -> None:
    """Write graph, samples and card beside a generator's file.

    Args:
        folder: has the file.
        trained_sha256: of the file that a run left, before it was measured.

    Raises:
        BundleError: the graph does not make the generator's images.
    """
    loaded = load_generator(folder / GENERATOR)
    graph = export_graph(loaded)
    card = ReleasedGeneratorCard(
        sha256=loaded.sha256,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        trained_sha256=trained_sha256,
        **dict(loaded.card),
    )
    files = {GRAPH: graph, SHEET: draw_sheet(loaded), CARD: card.to_json().encode()}
    for name, content in files.items():
        write_whole(folder / name, content)


def is_released(trained: Path, out: Path) -> bool:
    """Whether a folder holds the release of just this trained generator."""
    card = out / CARD
    if not card.is_file():
        return False
    digest = hashlib.sha256(trained.read_bytes()).hexdigest()
    return bool(json.loads(card.read_text(encoding="utf-8")).get("trained_sha256") == digest)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; what is in it is moved to `out` once all is there, the card last."""
    part = out.with_name(f".{out.name}.part")
    # What an interrupted call left.
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if not out.exists():
            part.replace(out)
            return
        for name in (GENERATOR, GRAPH, SHEET, CARD):
            (part / name).replace(out / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
