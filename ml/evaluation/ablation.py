"""Do synthetic images help? The same classifier, trained with and without them, several times.

Three conditions learn from the same real images with the same number of steps in an epoch and
answer the
same images: one from the real images alone, one also from synthetic images, and one, in their
place,
from as many changed copies of real images of each class. The copies are the cheap alternative that
synthetic images have to beat; they are drawn with the same chance.

What one training gives more than another may be chance, so a condition is trained with several
seeds,
and an interval is over patients and seeds.
"""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from ml.classifier.networks import backbone
from ml.classifier.sampling import require_all_classes, require_classes
from ml.classifier.training import infer, train_classifier
from ml.data.leaks import without_leaks
from ml.data.left_out import images_left_out, without_left_out
from ml.data.loading import ImageSet, load_images, require_known
from ml.data.manifest import ImageRecord, in_split, is_demonstration, labels_of, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.evaluation import metrics
from ml.evaluation.ablation_setting import (
    AUGMENTED,
    CONDITIONS,
    REAL,
    Question,
    class_counts,
    synthetic_images,
)
from ml.evaluation.ablation_statistics import ByCondition, measure_conditions, sentence
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Floats, Interval, Ints
from ml.evaluation.reproduction import change_image
from ml.files import write_whole
from ml.json_model import finite
from ml.options import AblationOptions
from ml.reporting.ablation_report import HTML, render_conditions
from ml.training.distributed import join_process_group
from ml.training.metrics_log import METRICS, read_metrics
from ml.training.run_folder import CHECKPOINT, fingerprint

# Stands where a synthetic image has the SHA-256 of its generator.
RECIPE = hashlib.sha256(
    b"the report's augmentation: ml.evaluation.reproduction.change_image"
).hexdigest()
JSON, TRAININGS, COPIES, ANSWERS = "conditions.json", "trainings", "copies", "answers.json"
OnTick = Callable[[dict[str, float]], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Training:
    """One training of one condition."""

    question: Question
    condition: str
    number: int  # which of the condition's

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.question.name}-{self.condition}-{self.number}"


def compare_conditions(
    records: Sequence[ImageRecord],
    synthetic: Sequence[ImageRecord],
    out: Path,
    options: AblationOptions,
    *,
    device: torch.device,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
) -> dict[str, Any] | None:
    """Train all conditions, measure them on the same images, and write `conditions.json` and
    `conditions.html`.

    Interrupted anywhere, the same call goes on with the training that is not finished, from its
    last whole epoch. `metrics.jsonl` has a row for every training that is over.

    Args:
        records: images of all splits of a data set; the synthetic ones among them are left aside.
        synthetic: images that train the third condition.
        out: the folder of the results, of `metrics.jsonl`, and of a run's folder for each training.
        options: all that decides the result.
        device: where to compute.
        on_tick: called with the metrics of every epoch of every training.
        should_stop: asked after every batch; a true answer ends it at the last whole epoch.

    Returns:
        What `conditions.json` says; None where it was stopped.

    Raises:
        DataError: there are no synthetic images, images cannot be read, a split lacks a class, or
            there is no site or source of a name that is to be left out.
        CheckpointError: the folder holds trainings with other options or of other images.
        XrayError: several processes were started together.
    """
    if join_process_group(device).world_size > 1:
        raise XrayError(
            "several processes share one training, not a comparison: start a single one"
        )
    out.mkdir(parents=True, exist_ok=True)
    size = backbone(options.network).size
    real = real_images(records)
    questions = [
        _question(real, synthetic, left_out, size)
        for left_out in dict.fromkeys(("", options.leave_out))
    ]
    trainings = [
        Training(question, condition, number)
        for number in range(options.seeds)
        for question in questions
        for condition in CONDITIONS
    ]
    answers: dict[str, Floats] = {}
    rows: list[dict[str, float]] = []
    written = len(read_metrics(out))
    for training in trainings:
        found = _see_through(training, out, options, device, on_tick, should_stop)
        if found is None:
            return None
        answers[training.name] = np.array(found["probabilities"])
        so_far = (rows[-1]["seconds"] if rows else 0.0) + found["metrics"]["seconds"]
        counted = {"step": len(rows) + 1, "of": len(trainings)}
        rows.append(counted | found["metrics"] | {"seconds": so_far})
        # Not while a resumed call goes past what is over: progress would seem to begin anew.
        if len(rows) > written:
            write_whole(out / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(out / COPIES, ignore_errors=True)
    result = _describe(questions, answers, options)
    write_whole(out / HTML, render_conditions(result))
    write_whole(out / JSON, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _question(
    real: Sequence[ImageRecord], synthetic: Sequence[ImageRecord], left_out: str, size: int
) -> Question:
    without_left_out(real, left_out)  # says so where there is no such site or source
    labels = labels_of(real)
    require_classes(labels)
    require_known(synthetic, labels)
    learned = without_leaks([*real, *synthetic], left_out)
    if not synthetic_images(learned):
        raise DataError(
            "there is no synthetic image to learn from that is not nearly an image measured on: "
            "make "
            "some with xray synthesize, and name their folder with --synthetic"
        )
    if left_out:
        measured = images_left_out(real, left_out)
    else:
        measured = in_split(real, Split.TEST)
        require_all_classes(measured, "test", labels)
    title = f"reading images of {left_out}" if left_out else "reading test images"
    images = load_images(measured, size, title=title, classes=labels)
    return Question(left_out, learned, images)


# --- training -------------------------------------------------------------------------------------


def _see_through(
    training: Training,
    out: Path,
    options: AblationOptions,
    device: torch.device,
    on_tick: OnTick | None,
    should_stop: ShouldStop | None,
) -> dict[str, Any] | None:
    """Train, or continue, one training and answer the images: what its `answers.json` says.

    None where it was stopped. One that is over is not trained again, unless anything that it came
    from has changed: then its folder is refused, as that of any other run.
    """
    question, folder = training.question, out / TRAININGS / training.name
    own = options.training(training.number, question.left_out)
    pairs = _copies(question, out / COPIES, options.seed) if training.condition == AUGMENTED else []
    records = question.records(training.condition, [copy for _, copy in pairs])
    about = {
        "options": asdict(own),
        "learned_sha256": fingerprint(records),
        "measured_sha256": fingerprint(question.measured.records),
    }
    if found := _finished(folder / ANSWERS, about):
        return found
    _write_copies(pairs, backbone(own.network).size, options.seed)
    network = train_classifier(
        records, folder, own, device=device, on_tick=on_tick, should_stop=should_stop
    )
    if should_stop and should_stop():
        return None
    probabilities = metrics.softmax(infer(network.to(device), question.measured.images, device))
    found = about | {
        "metrics": _metrics_of(probabilities, question.measured, folder) | {"seed": own.seed},
        "probabilities": probabilities.tolist(),
    }
    write_whole(folder / ANSWERS, json.dumps(found) + "\n")
    # The best weights stay; what a training is continued from is five times as large.
    (folder / CHECKPOINT).unlink()
    return found


def _metrics_of(probabilities: Floats, images: ImageSet, folder: Path) -> dict[str, Any]:
    rows = read_metrics(folder)
    scores: dict[str, Any] = finite(
        {
            "accuracy": metrics.accuracy(images.labels, probabilities),
            "macro_auroc": metrics.macro_auroc(images.labels, probabilities),
            "epochs": len(rows),
            "seconds": sum(row["seconds"] for row in rows),
        }
    )
    return scores


def _finished(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a training came to, where it is over."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name, value in about.items() if found[name] != value]
    if changed:
        raise CheckpointError(
            f"{path.parent} is of other options or other images: give the same, or another --out"
        )
    return found


def _copies(question: Question, folder: Path, seed: int) -> list[tuple[ImageRecord, ImageRecord]]:
    """Training images and the changed copies to be made of them: as many as images are
    synthetic.
    """
    training = in_split(
        real_images(without_left_out(question.learned, question.left_out)), Split.TRAIN
    )
    wanted = Counter(image.label for image in synthetic_images(question.learned))
    random = np.random.default_rng(seed)
    pairs: list[tuple[ImageRecord, ImageRecord]] = []
    for label in labels_of(training):
        own = [image for image in training if image.label == label]
        # Every image is copied about equally often.
        for place in np.resize(random.permutation(len(own)), wanted[label] if own else 0):
            image = own[place]
            name = f"{question.name}-{len(pairs):06}-{image.path.stem}.png"
            pairs.append((image, replace(image, path=folder / name, synthetic=RECIPE)))
    return pairs


def _write_copies(pairs: Sequence[tuple[ImageRecord, ImageRecord]], size: int, seed: int) -> None:
    """Make the copies that are not there yet; each has randomness of its own."""
    for number, (image, copy) in enumerate(track(pairs, "changing images", transient=True)):
        if copy.path.exists():
            continue
        copy.path.parent.mkdir(exist_ok=True)
        original = load_images([image], size, title="", quiet=True).images[0]
        stream = io.BytesIO()
        changed = change_image(original, np.random.default_rng([seed, number]))
        Image.fromarray(changed).save(stream, "PNG")
        write_whole(copy.path, stream.getvalue())


# --- measuring ------------------------------------------------------------------------------------


def _describe(
    questions: Sequence[Question], answers: Mapping[str, Floats], options: AblationOptions
) -> dict[str, Any]:
    asked = [_answered(question, answers, options) for question in questions]
    everything = [image for question in questions for image in question.learned]
    found: dict[str, Any] = finite(
        {
            "options": asdict(options),
            "conditions": {
                condition: {"name": name, "learns": text}
                for condition, (name, text) in CONDITIONS.items()
            },
            "draws": BOOTSTRAP_DRAWS,
            "seed": BOOTSTRAP_SEED,
            "demonstration": is_demonstration(everything),
            "questions": asked,
            "sentences": [sentence for one in asked for sentence in one["sentences"]],
        }
    )
    return found


def _answered(
    question: Question, answers: Mapping[str, Floats], options: AblationOptions
) -> dict[str, Any]:
    images, seeds = question.measured, range(options.seeds)
    by_condition = {
        condition: np.stack(
            [answers[Training(question, condition, number).name] for number in seeds]
        )
        for condition in CONDITIONS
    }
    everywhere = np.arange(len(images))
    conditions = measure_conditions(images.labels, images.patients, by_condition)
    sources = [
        {
            "source": source,
            **class_counts(images, own),
            "conditions": _part(images, by_condition, own),
        }
        for source in sorted(set(images.sources.tolist()))
        for own in (np.flatnonzero(images.sources == source),)
    ]
    learned = without_left_out(question.learned, question.left_out)
    labels = labels_of(question.learned)
    return {
        "name": question.name,
        "left_out": question.left_out,
        **class_counts(images, everywhere),
        "learned": {
            "real": _by_label(in_split(real_images(learned), Split.TRAIN), labels),
            "synthetic": _by_label(synthetic_images(learned), labels),
        },
        "conditions": _plain(conditions),
        "trainings": {
            condition: [
                {
                    "seed": options.seed + number,
                    "accuracy": metrics.accuracy(images.labels, one),
                    "macro_auroc": metrics.macro_auroc(images.labels, one),
                }
                for number, one in enumerate(of_condition)
            ]
            for condition, of_condition in by_condition.items()
        },
        "sources": sources if len(sources) > 1 else [],
        "sentences": [
            sentence(condition, conditions[condition], question, options.seeds)
            for condition in CONDITIONS
            if condition != REAL
        ],
    }


def _by_label(images: Sequence[ImageRecord], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(image.label for image in images)
    return {label: counts[label] for label in labels}


def _part(images: ImageSet, by_condition: ByCondition, chosen: Ints) -> dict[str, Any]:
    answers = {
        condition: of_condition[:, chosen] for condition, of_condition in by_condition.items()
    }
    return _plain(measure_conditions(images.labels[chosen], images.patients[chosen], answers))


def _plain(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The same with intervals as dicts."""
    return {
        name: asdict(value) if isinstance(value, Interval) else value and _plain(value)
        for name, value in measured.items()
    }
