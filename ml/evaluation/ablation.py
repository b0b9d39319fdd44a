"""Do synthetic films help? The same classifier, trained with and without them, several times.

Three arms learn from the same real films with the same number of steps in an epoch and answer the
same films: one from the real films alone, one also from synthetic films, and one, in their place,
from as many changed copies of real films of each class. The copies are the cheap alternative that
synthetic films have to beat; they are drawn with the same chance.

What one training gives more than another may be chance, so an arm is trained with several seeds,
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

from ml.classifier.bundle import finite
from ml.classifier.networks import backbone
from ml.classifier.sampling import require_all_classes, without_source
from ml.classifier.training import infer, train_classifier
from ml.data.leaks import without_leaks
from ml.data.loading import FilmSet, load_films
from ml.data.manifest import FilmRecord, in_split, is_demonstration, real_films
from ml.data.splits import Split
from ml.errors import CheckpointError, DataError, XrayError
from ml.evaluation import metrics
from ml.evaluation.ablation_setting import (
    ARMS,
    AUGMENTED,
    REAL,
    Question,
    class_counts,
    synthetic_films,
)
from ml.evaluation.ablation_statistics import ByArm, measure_arms, sentence
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Floats, Interval, Ints
from ml.evaluation.reproduction import change_film
from ml.files import write_whole
from ml.labels import LABELS
from ml.options import ArmsOptions
from ml.reporting.ablation_report import HTML, render_arms
from ml.training.distributed import join_processes
from ml.training.metrics_log import METRICS, read_metrics
from ml.training.run_folder import CHECKPOINT, fingerprint

# Stands where a synthetic film has the SHA-256 of its generator.
RECIPE = hashlib.sha256(
    b"the report's augmentation: ml.evaluation.reproduction.change_film"
).hexdigest()
JSON, TRAININGS, COPIES, ANSWERS = "arms.json", "trainings", "copies", "answers.json"
OnTick = Callable[[dict[str, float]], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Training:
    """One training of one arm."""

    question: Question
    arm: str
    number: int  # which of the arm's

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.question.name}-{self.arm}-{self.number}"


def compare_arms(
    records: Sequence[FilmRecord],
    synthetic: Sequence[FilmRecord],
    out: Path,
    options: ArmsOptions,
    *,
    device: torch.device,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
) -> dict[str, Any] | None:
    """Train all arms, measure them on the same films, and write `arms.json` and `arms.html`.

    Interrupted anywhere, the same call goes on with the training that is not finished, from its
    last whole epoch. `metrics.jsonl` has a row for every training that is over.

    Args:
        records: films of all splits of a data set; the synthetic ones among them are left aside.
        synthetic: films that train the third arm.
        out: the folder of the results, of `metrics.jsonl`, and of a run's folder for each training.
        options: all that decides the result.
        device: where to compute.
        on_tick: called with the figures of every epoch of every training.
        should_stop: asked after every batch; a true answer ends it at the last whole epoch.

    Returns:
        What `arms.json` says; None where it was stopped.

    Raises:
        DataError: there are no synthetic films, films cannot be read, a split lacks a class, or
            there is no source of the name that is to be left out.
        CheckpointError: the folder holds trainings with other options or of other films.
        XrayError: several processes were started together.
    """
    if join_processes(device).world_size > 1:
        raise XrayError(
            "several processes share one training, not a comparison: start a single one"
        )
    out.mkdir(parents=True, exist_ok=True)
    size = backbone(options.network).size
    real = real_films(records)
    questions = [
        _question(real, synthetic, left_out, size)
        for left_out in dict.fromkeys(("", options.leave_out))
    ]
    trainings = [
        Training(question, arm, number)
        for number in range(options.seeds)
        for question in questions
        for arm in ARMS
    ]
    answers: dict[str, Floats] = {}
    rows: list[dict[str, float]] = []
    written = len(read_metrics(out))
    for training in trainings:
        found = _see_through(training, out, options, device, on_tick, should_stop)
        if found is None:
            return None
        answers[training.name] = np.array(found["probabilities"])
        so_far = (rows[-1]["seconds"] if rows else 0.0) + found["figures"]["seconds"]
        counted = {"step": len(rows) + 1, "of": len(trainings)}
        rows.append(counted | found["figures"] | {"seconds": so_far})
        # Not while a resumed call goes past what is over: progress would seem to begin anew.
        if len(rows) > written:
            write_whole(out / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(out / COPIES, ignore_errors=True)
    result = _describe(questions, answers, options)
    write_whole(out / HTML, render_arms(result))
    write_whole(out / JSON, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _question(
    real: Sequence[FilmRecord], synthetic: Sequence[FilmRecord], left_out: str, size: int
) -> Question:
    without_source(real, left_out)  # says so where there is no such source
    learned = without_leaks([*real, *synthetic], left_out)
    if not synthetic_films(learned):
        raise DataError(
            "there is no synthetic film to learn from that is not nearly a film measured on: make "
            "some with xray synthesize, and name their folder with --synthetic"
        )
    if left_out:
        measured = [film for film in real if film.source == left_out]
    else:
        measured = in_split(real, Split.TEST)
        require_all_classes(measured, "test")
    title = f"reading films of {left_out}" if left_out else "reading test films"
    return Question(left_out, learned, load_films(measured, size, title=title))


# --- training -------------------------------------------------------------------------------------


def _see_through(
    training: Training,
    out: Path,
    options: ArmsOptions,
    device: torch.device,
    on_tick: OnTick | None,
    should_stop: ShouldStop | None,
) -> dict[str, Any] | None:
    """Train, or continue, one training and answer the films: what its `answers.json` says.

    None where it was stopped. One that is over is not trained again, unless anything that it came
    from has changed: then its folder is refused, as that of any other run.
    """
    question, folder = training.question, out / TRAININGS / training.name
    own = options.training(training.number, question.left_out)
    pairs = _copies(question, out / COPIES, options.seed) if training.arm == AUGMENTED else []
    records = question.records(training.arm, [copy for _, copy in pairs])
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
    probabilities = metrics.softmax(infer(network.to(device), question.measured.films, device))
    found = about | {
        "figures": _figures_of(probabilities, question.measured, folder) | {"seed": own.seed},
        "probabilities": probabilities.tolist(),
    }
    write_whole(folder / ANSWERS, json.dumps(found) + "\n")
    # The best weights stay; what a training is continued from is five times as large.
    (folder / CHECKPOINT).unlink()
    return found


def _figures_of(probabilities: Floats, films: FilmSet, folder: Path) -> dict[str, Any]:
    rows = read_metrics(folder)
    figures: dict[str, Any] = finite(
        {
            "accuracy": metrics.accuracy(films.labels, probabilities),
            "macro_auroc": metrics.macro_auroc(films.labels, probabilities),
            "epochs": len(rows),
            "seconds": sum(row["seconds"] for row in rows),
        }
    )
    return figures


def _finished(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a training came to, where it is over."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name, value in about.items() if found[name] != value]
    if changed:
        raise CheckpointError(
            f"{path.parent} is of other options or other films: give the same, or another --out"
        )
    return found


def _copies(question: Question, folder: Path, seed: int) -> list[tuple[FilmRecord, FilmRecord]]:
    """Training films and the changed copies to be made of them: as many as films are synthetic."""
    training = in_split(
        real_films(without_source(question.learned, question.left_out)), Split.TRAIN
    )
    wanted = Counter(film.label for film in synthetic_films(question.learned))
    random = np.random.default_rng(seed)
    pairs: list[tuple[FilmRecord, FilmRecord]] = []
    for label in LABELS:
        own = [film for film in training if film.label == label]
        # Every film is copied about equally often.
        for place in np.resize(random.permutation(len(own)), wanted[label] if own else 0):
            film = own[place]
            name = f"{question.name}-{len(pairs):06}-{film.path.stem}.png"
            pairs.append((film, replace(film, path=folder / name, synthetic=RECIPE)))
    return pairs


def _write_copies(pairs: Sequence[tuple[FilmRecord, FilmRecord]], size: int, seed: int) -> None:
    """Make the copies that are not there yet; each has randomness of its own."""
    for number, (film, copy) in enumerate(track(pairs, "changing films", transient=True)):
        if copy.path.exists():
            continue
        copy.path.parent.mkdir(exist_ok=True)
        original = load_films([film], size, title="", quiet=True).films[0]
        stream = io.BytesIO()
        changed = change_film(original, np.random.default_rng([seed, number]))
        Image.fromarray(changed).save(stream, "PNG")
        write_whole(copy.path, stream.getvalue())


# --- measuring ------------------------------------------------------------------------------------


def _describe(
    questions: Sequence[Question], answers: Mapping[str, Floats], options: ArmsOptions
) -> dict[str, Any]:
    asked = [_answered(question, answers, options) for question in questions]
    everything = [film for question in questions for film in question.learned]
    found: dict[str, Any] = finite(
        {
            "options": asdict(options),
            "arms": {arm: {"name": name, "learns": text} for arm, (name, text) in ARMS.items()},
            "draws": BOOTSTRAP_DRAWS,
            "seed": BOOTSTRAP_SEED,
            "demonstration": is_demonstration(everything),
            "questions": asked,
            "sentences": [sentence for one in asked for sentence in one["sentences"]],
        }
    )
    return found


def _answered(
    question: Question, answers: Mapping[str, Floats], options: ArmsOptions
) -> dict[str, Any]:
    films, seeds = question.measured, range(options.seeds)
    by_arm = {
        arm: np.stack([answers[Training(question, arm, number).name] for number in seeds])
        for arm in ARMS
    }
    everywhere = np.arange(len(films))
    arms = measure_arms(films.labels, films.patients, by_arm)
    sources = [
        {"source": source, **class_counts(films, own), "arms": _part(films, by_arm, own)}
        for source in sorted(set(films.sources.tolist()))
        for own in (np.flatnonzero(films.sources == source),)
    ]
    learned = without_source(question.learned, question.left_out)
    return {
        "name": question.name,
        "left_out": question.left_out,
        **class_counts(films, everywhere),
        "learned": {
            "real": _by_label(in_split(real_films(learned), Split.TRAIN)),
            "synthetic": _by_label(synthetic_films(learned)),
        },
        "arms": _plain(arms),
        "trainings": {
            arm: [
                {
                    "seed": options.seed + number,
                    "accuracy": metrics.accuracy(films.labels, one),
                    "macro_auroc": metrics.macro_auroc(films.labels, one),
                }
                for number, one in enumerate(of_arm)
            ]
            for arm, of_arm in by_arm.items()
        },
        "sources": sources if len(sources) > 1 else [],
        "sentences": [
            sentence(arm, arms[arm], question, options.seeds) for arm in ARMS if arm != REAL
        ],
    }


def _by_label(films: Sequence[FilmRecord]) -> dict[str, int]:
    counts = Counter(film.label for film in films)
    return {label: counts[label] for label in LABELS}


def _part(films: FilmSet, by_arm: ByArm, chosen: Ints) -> dict[str, Any]:
    answers = {arm: of_arm[:, chosen] for arm, of_arm in by_arm.items()}
    return _plain(measure_arms(films.labels[chosen], films.patients[chosen], answers))


def _plain(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The same with intervals as dicts."""
    return {
        name: asdict(value) if isinstance(value, Interval) else value and _plain(value)
        for name, value in measured.items()
    }
