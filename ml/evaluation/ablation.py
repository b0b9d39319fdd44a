"""Do synthetic images help? The same classifier, trained with and without them, several times.

Three conditions learn from the same real images with the same number of steps in an epoch and are
measured on the same images: one learns from the real images alone, one also from synthetic images,
and one, in their place, from as many changed copies of real images of each class. The copies are
the cheap alternative that synthetic images have to beat; they are drawn with the same chance.

What one training gives more than another may be chance, so a condition is trained with several
seeds, and an interval is over patients and seeds.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ml.classifier.networks import backbone
from ml.classifier.training import infer, train_classifier
from ml.data.left_out import without_left_out
from ml.data.manifest import ImageRecord, is_demonstration, labels_of, real_images
from ml.errors import CheckpointError, XrayError
from ml.evaluation import metrics
from ml.evaluation.ablation_result import (
    AblationResult,
    ConditionMetrics,
    ConditionTraining,
    FinishedTraining,
    FinishedTrainingMetrics,
    SettingResult,
    SourceMetrics,
    TrainingImageCounts,
    TrainingInputs,
)
from ml.evaluation.ablation_setting import (
    AUGMENTED,
    CONDITIONS,
    AblationSetting,
    load_setting,
    synthetic_images,
)
from ml.evaluation.ablation_statistics import ByCondition, effect_sentence, measure_conditions
from ml.evaluation.augmented_copies import plan_copies, write_copies
from ml.evaluation.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED, Floats, Ints
from ml.files import write_whole
from ml.options.classifier import AblationOptions
from ml.reporting.ablation_report import HTML, render_conditions
from ml.training.distributed import join_process_group
from ml.training.metrics_log import METRICS, read_metrics
from ml.training.run_folder import CHECKPOINT, fingerprint

JSON, TRAININGS, COPIES, PREDICTIONS = "conditions.json", "trainings", "copies", "predictions.json"
OnTick = Callable[[dict[str, float]], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class AblationTraining:
    """One training of one condition in one setting."""

    setting: AblationSetting
    condition: str
    number: int  # which of the condition's

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.setting.name}-{self.condition}-{self.number}"


def compare_conditions(
    records: Sequence[ImageRecord],
    synthetic: Sequence[ImageRecord],
    out: Path,
    options: AblationOptions,
    *,
    device: torch.device,
    on_tick: OnTick | None = None,
    should_stop: ShouldStop | None = None,
) -> AblationResult | None:
    """Train all conditions, measure them on the same images, and write `conditions.json` and
    `conditions.html`.

    After an interruption the same call continues with the training that is not finished, from its
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
        raise XrayError("A comparison runs in one process. Start it without accelerate.")
    out.mkdir(parents=True, exist_ok=True)
    real = real_images(records)
    settings = [
        load_setting(real, synthetic, left_out, options)
        for left_out in dict.fromkeys(("", options.leave_out))
    ]
    program = _Trainings(out, options, device, on_tick, should_stop)
    probabilities = program.finish_all(
        [
            AblationTraining(setting, condition, number)
            for number in range(options.seeds)
            for setting in settings
            for condition in CONDITIONS
        ]
    )
    if probabilities is None:
        return None
    shutil.rmtree(out / COPIES, ignore_errors=True)
    result = _describe(settings, probabilities, options)
    write_whole(out / HTML, render_conditions(result))
    write_whole(out / JSON, result.to_json())
    return result


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trainings:
    """Finishes trainings in their folders below `out`."""

    out: Path
    options: AblationOptions
    device: torch.device
    on_tick: OnTick | None
    should_stop: ShouldStop | None

    def finish_all(self, trainings: Sequence[AblationTraining]) -> dict[str, Floats] | None:
        """The probabilities (N, C) of the measured images, by the name of a training.

        None where it was stopped.
        """
        probabilities: dict[str, Floats] = {}
        rows: list[dict[str, float]] = []
        written, seconds = len(read_metrics(self.out)), 0.0
        for training in trainings:
            found = self._finish(training)
            if found is None:
                return None
            probabilities[training.name] = np.array(found.probabilities)
            seconds += found.metrics.seconds
            counted = {"step": len(rows) + 1, "of": len(trainings)}
            rows.append(counted | found.metrics.model_dump(mode="json") | {"seconds": seconds})
            # Not while a resumed call goes past what is over: progress would seem to start again.
            if len(rows) > written:
                lines = "".join(json.dumps(row) + "\n" for row in rows)
                write_whole(self.out / METRICS, lines)
        return probabilities

    def _finish(self, training: AblationTraining) -> FinishedTraining | None:
        """Train, or continue, one training and measure it; None where it was stopped.

        One that is over is not trained again, unless its options or images have changed: then its
        folder is refused, as that of any other run.
        """
        setting, folder = training.setting, self.out / TRAININGS / training.name
        own = self.options.training(training.number, setting.left_out)
        pairs = (
            plan_copies(setting, self.out / COPIES, self.options.seed)
            if training.condition == AUGMENTED
            else []
        )
        records = setting.records(training.condition, [copy for _, copy in pairs])
        inputs = TrainingInputs(
            options=own,
            learned_sha256=fingerprint(records),
            measured_sha256=fingerprint(setting.measured.records),
        )
        if found := _finished(folder / PREDICTIONS, inputs):
            return found
        write_copies(pairs, backbone(own.network).size, self.options.seed)
        network = train_classifier(
            records,
            folder,
            own,
            device=self.device,
            on_tick=self.on_tick,
            should_stop=self.should_stop,
        )
        if self.should_stop and self.should_stop():
            return None
        logits = infer(network.to(self.device), setting.measured.images, self.device)
        found = _measured(inputs, setting, metrics.softmax(logits), folder)
        write_whole(folder / PREDICTIONS, found.to_json())
        # The best weights stay; what a training is continued from is five times as large.
        (folder / CHECKPOINT).unlink()
        return found


def _finished(path: Path, inputs: TrainingInputs) -> FinishedTraining | None:
    """The result of a training that is over."""
    if not path.exists():
        return None
    found = FinishedTraining.from_json(path.read_bytes())
    if found.inputs != inputs:
        raise CheckpointError(
            f"{path.parent} has other options or images. Give the same ones, or another --out."
        )
    return found


def _measured(
    inputs: TrainingInputs, setting: AblationSetting, probabilities: Floats, folder: Path
) -> FinishedTraining:
    rows, truth = read_metrics(folder), setting.measured.labels
    return FinishedTraining(
        inputs=inputs,
        metrics=FinishedTrainingMetrics(
            seed=inputs.options.seed,
            accuracy=metrics.accuracy(truth, probabilities),
            macro_auroc=metrics.macro_auroc(truth, probabilities),
            epochs=len(rows),
            seconds=sum(row["seconds"] for row in rows),
        ),
        probabilities=probabilities.tolist(),
    )


# --- measuring ------------------------------------------------------------------------------------


def _describe(
    settings: Sequence[AblationSetting],
    probabilities: Mapping[str, Floats],
    options: AblationOptions,
) -> AblationResult:
    results = [_setting_result(setting, probabilities, options) for setting in settings]
    everything = [image for setting in settings for image in setting.learned]
    return AblationResult(
        options=options,
        conditions=CONDITIONS,
        draws=BOOTSTRAP_DRAWS,
        seed=BOOTSTRAP_SEED,
        demonstration=is_demonstration(everything),
        settings=results,
        sentences=[sentence for result in results for sentence in result.sentences],
    )


def _setting_result(
    setting: AblationSetting, probabilities: Mapping[str, Floats], options: AblationOptions
) -> SettingResult:
    images, seeds = setting.measured, range(options.seeds)
    by_condition = {
        condition: np.stack(
            [probabilities[AblationTraining(setting, condition, number).name] for number in seeds]
        )
        for condition in CONDITIONS
    }
    conditions = measure_conditions(images.labels, images.patients, by_condition)
    return SettingResult(
        name=setting.name,
        left_out=setting.left_out,
        images=len(images),
        patients=setting.measured_patients,
        learned=_training_images(setting),
        conditions=conditions,
        trainings={
            condition: _each_training(images.labels, own, options.seed)
            for condition, own in by_condition.items()
        },
        sources=_by_source(setting, by_condition),
        sentences=[
            effect_sentence(condition, measured.differences, setting, options.seeds)
            for condition, measured in conditions.items()
            if measured.differences
        ],
    )


def _each_training(truth: Ints, probabilities: Floats, seed: int) -> list[ConditionTraining]:
    """Metrics of each training of a condition, of (S, N, C) probabilities."""
    return [
        ConditionTraining(
            seed=seed + number,
            accuracy=metrics.accuracy(truth, own),
            macro_auroc=metrics.macro_auroc(truth, own),
        )
        for number, own in enumerate(probabilities)
    ]


def _by_source(setting: AblationSetting, by_condition: ByCondition) -> list[SourceMetrics]:
    """Metrics on the images of each source; none where all images are of one."""
    images = setting.measured
    sources = sorted(set(images.sources.tolist()))
    return [
        SourceMetrics(
            source=source,
            images=len(own),
            patients=len(set(images.patients[own].tolist())),
            conditions=_measure_part(setting, by_condition, own),
        )
        for source in sources
        if len(sources) > 1
        for own in (np.flatnonzero(images.sources == source),)
    ]


def _measure_part(
    setting: AblationSetting, by_condition: ByCondition, chosen: Ints
) -> dict[str, ConditionMetrics]:
    images = setting.measured
    part = {condition: own[:, chosen] for condition, own in by_condition.items()}
    return measure_conditions(images.labels[chosen], images.patients[chosen], part)


def _training_images(setting: AblationSetting) -> TrainingImageCounts:
    labels = labels_of(setting.learned)
    synthetic = synthetic_images(without_left_out(setting.learned, setting.left_out))
    return TrainingImageCounts(
        real=_by_label(setting.training_images(), labels), synthetic=_by_label(synthetic, labels)
    )


def _by_label(images: Sequence[ImageRecord], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(image.label for image in images)
    return {label: counts[label] for label in labels}
