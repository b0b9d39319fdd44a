"""Training a classifier: one loop, resumable after any epoch, evaluated by patient."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml.classifier.augmentation import Augmentation
from ml.classifier.draws import Draws
from ml.classifier.harmonisation import Harmonisation
from ml.classifier.inputs import InputCache, load_whole, network_inputs
from ml.classifier.networks import (
    ImageClassifier,
    backbone,
    build_classifier,
    freeze_blocks,
)
from ml.classifier.sampling import (
    count_synthetic,
    require_all_classes,
    require_classes,
    sampling_weights,
)
from ml.classifier.trained_run import BEST, best_network
from ml.classifier.weights import Weights, load_weights
from ml.data.left_out import without_left_out
from ml.data.loading import ImageSet
from ml.data.manifest import ImageRecord, in_split, labels_of, real_images
from ml.data.splits import Split
from ml.errors import CheckpointError, XrayError
from ml.evaluation.metrics import accuracy, log_loss, macro_auroc, softmax
from ml.options.classifier import ClassifierOptions
from ml.options.common import FINISH_EARLY
from ml.progress import progress
from ml.training.checkpoint import load_checkpoint, save_checkpoint
from ml.training.distributed import ProcessGroup, join_process_group
from ml.training.metrics_log import MetricsLog
from ml.training.phases import enter_phase
from ml.training.run_folder import CHECKPOINT, claim_folder
from ml.training.synchronised_layers import synchronise_layers


def train_classifier(
    records: Sequence[ImageRecord],
    out: Path,
    options: ClassifierOptions,
    *,
    device: torch.device,
    start_from: Path | None = None,
    on_tick: Callable[[dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    cache: InputCache | None = None,
) -> ImageClassifier:
    """Train on the training split, stop and choose by the validation split.

    A file `finish-early` in the folder ends it after the last whole epoch, once there is one.
    State is saved after every epoch; the same call continues an interrupted run and ends with
    the weights an uninterrupted one would have had. Of several processes, all hosts see `out`.

    Args:
        records: images of all splits, whose classes are those to learn; the test split is not
            opened. Synthetic images only train.
        out: the run's folder: options.json, metrics.jsonl, tensorboard, checkpoint, best weights.
        options: all that decides the result.
        device: where to compute. Processes that were started together share the work: each
            trains on its part of every batch, and the first one writes.
        start_from: weights of a classifier of the same network (`ml.classifier.weights`), in place
            of those of ImageNet.
        on_tick: called with the metrics of every finished epoch, in the first process.
        should_stop: asked after every batch; a true answer ends the run at the last whole epoch.
        cache: images that other trainings in this process share.

    Returns:
        The averaged weights of the epoch with the lowest validation loss, on the CPU.

    Raises:
        DataError: there is only one class, or a split lacks one, or images cannot be read, or there
            is no site or source of a name that is to be left out.
        CheckpointError: the folder holds a run with other options or other images, or the weights
            to start from are another network's.
        XrayError: the network is unknown, or cannot learn from smaller images first.
    """
    labels = labels_of(records)
    require_classes(labels)
    start = load_weights(start_from, options.network, labels) if start_from else None
    side = backbone(options.network)
    if side.flat_side and options.small_epochs:
        raise XrayError(f"{options.network} needs images of {side.size} px. Give --small-epochs 0.")
    training, validation = _images_to_learn(records, options, labels)
    group = join_process_group(device)
    if group.is_first:
        facts = {
            "labels": list(labels),
            "synthetic": count_synthetic(training),
            "started_from": start.sha256 if start else "",
        }
        claim_folder(out, options, [*training, *validation], facts)
    group.barrier()
    with MetricsLog(out, writes=group.is_first) as log:
        run = _Run(out, options, labels, group, log, start)
        run.resume()
        if not run.finished:
            if group.is_first:
                enter_phase(out, "reading")
                if run.epoch:
                    print(f"resuming after epoch {run.epoch} of {options.epochs}", flush=True)
            train_set = run.read_images(training, "training", cache)
            validation_set = run.read_images(validation, "validation", cache)
            if group.is_first:
                enter_phase(out, "training")
        while not (run.finished or run.finishes_early()):
            row = run.epoch_once(train_set, validation_set, should_stop)
            if row is None:
                break
            if on_tick and group.is_first:
                on_tick(row)
    group.barrier()
    return best_network(out, options.network, labels)


def _images_to_learn(
    records: Sequence[ImageRecord], options: ClassifierOptions, labels: Sequence[str]
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The training and validation images, each of all classes; synthetic ones do not count."""
    records = without_left_out(records, options.leave_out)
    training, validation = (in_split(records, part) for part in (Split.TRAIN, Split.VALIDATION))
    require_all_classes(real_images(training), "training", labels)
    require_all_classes(validation, "validation", labels)
    return training, validation


class _Run:
    """The state of one training run and the work of one epoch."""

    def __init__(
        self,
        out: Path,
        options: ClassifierOptions,
        labels: Sequence[str],
        group: ProcessGroup,
        log: MetricsLog,
        start: Weights | None,
    ):
        self.out, self.options, self.log = out, options, log
        self.labels = labels
        self.group, self.device = group, group.device
        torch.manual_seed(options.seed)
        network = build_classifier(options.network, len(labels), pretrained=start is None)
        if start:
            network.load_state_dict(start.state)
        synchronise_layers(network, group)
        self.frozen = freeze_blocks(network, options.frozen_blocks)
        # Convolutions on the CPU and on tensor cores want channels last.
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            [one for one in network.parameters() if one.requires_grad],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        strong = options.augmentation == "strong"
        self.augment = Augmentation(harmonisation=Harmonisation() if strong else None)
        self.epoch = 0
        self.best_loss = math.inf
        self.best_epoch = 0
        self.rows: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.options.epochs or waited >= self.options.patience

    def finishes_early(self) -> bool:
        """Whether a file in the run's folder asks for it; not before the first whole epoch."""
        return bool(self.epoch) and self.group.agree((self.out / FINISH_EARLY).exists())

    def resume(self) -> None:
        """Continue from the checkpoint where there is one."""
        path = self.out / CHECKPOINT
        seen = self.group.gather(np.array([path.exists()]))
        if not seen.any():
            return
        if not seen.all():
            raise CheckpointError(
                f"Not every process can see {path}. All hosts must share the folder."
            )
        state = load_checkpoint(path)
        self.network.load_state_dict(state["network"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.best_loss = state["best_loss"]
        self.rows = state["rows"]
        self.log.rewrite(self.rows)

    def read_images(
        self, records: Sequence[ImageRecord], split: str, cache: InputCache | None
    ) -> ImageSet:
        """The images of a split as the network sees them."""
        whole = load_whole(
            records,
            self.options,
            title=f"reading {split} images",
            classes=self.labels,
            quiet=not self.group.is_first,
            cache=cache,
        )
        return network_inputs(whole, self.options, cache)

    def epoch_once(
        self,
        train_set: ImageSet,
        validation_set: ImageSet,
        should_stop: Callable[[], bool] | None,
    ) -> dict[str, float] | None:
        """Train one epoch, evaluate, save. None where it was stopped in the middle."""
        start = time.monotonic()
        trained = self._train(train_set, should_stop)
        if trained is None:
            return None
        loss, share_right = trained
        images_per_second = _epoch_length(train_set) / (time.monotonic() - start)
        own = self.group.slice_of(validation_set.images)
        logits = self.group.gather(infer(self._averaged_network(), own, self.device))
        probabilities = softmax(logits)
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "train_loss": loss,
            "train_accuracy": share_right,
            "validation_loss": log_loss(validation_set.labels, probabilities),
            "validation_accuracy": accuracy(validation_set.labels, probabilities),
            "validation_macro_auroc": macro_auroc(validation_set.labels, probabilities),
            "images_per_second": images_per_second,
            "seconds": time.monotonic() - start,
        }
        self._keep(row)
        return row

    def _train(
        self, train_set: ImageSet, should_stop: Callable[[], bool] | None
    ) -> tuple[float, float] | None:
        """Mean loss and accuracy over the epoch's batches, as the network was at each of them."""
        options = self.options
        # Everything random in an epoch follows from its number, so a resumed run draws the same.
        random = torch.Generator().manual_seed(options.seed * 100_003 + self.epoch)
        torch.manual_seed(options.seed * 100_003 + self.epoch)
        weights = sampling_weights(train_set.records, options.synthetic_share)
        order = torch.multinomial(
            torch.from_numpy(weights), _epoch_length(train_set), replacement=True, generator=random
        )
        batches = torch.split(order, options.batch_size)
        self.network.train()
        for part in self.frozen:
            part.eval()
        total, right = 0.0, 0.0
        title = f"epoch {self.epoch + 1} of {options.epochs}, batches"
        with progress(title, len(batches), hidden=not self.group.is_first) as counter:
            for number, chosen in enumerate(batches):
                is_stopped = bool(should_stop and should_stop())
                if self.group.agree(is_stopped) or self.finishes_early():
                    return None
                self._set_learning_rate(self.epoch + number / len(batches))
                draws = Draws(random, len(chosen), self.group.part_of(len(chosen)))
                loss, hits = self._step(*self._batch(train_set, chosen, draws), len(chosen))
                total, right = total + loss * len(chosen), right + hits
                counter.advance(note=f"loss {loss:.3f}")
        return total / len(order), right / len(order)

    def _batch(self, train_set: ImageSet, chosen: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """This process's images of a batch, augmented, and their labels."""
        own = chosen[draws.part].numpy()
        images = to_unit(train_set.images[own], self.device)
        if self.epoch < self.options.small_epochs:
            side = self.options.small_size
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return self.augment(images, draws), torch.from_numpy(train_set.labels[own]).to(self.device)

    def _step(self, images: Tensor, labels: Tensor, count: int) -> tuple[float, float]:
        """One step of the optimiser: the batch's loss, and how many of its `count` images it had
        right. The images are this process's.
        """
        options = self.options
        reduced = options.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=options.label_smoothing)
        if not len(labels):
            loss = logits.sum()  # zero, and no mean of nothing
        loss = loss * self.group.weight_of(count)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.group.average_gradients(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self._update_average()
        right = (logits.detach().argmax(dim=1) == labels).sum()
        totals = self.group.sum(torch.stack([loss.detach(), right.float()])).tolist()
        value = totals[0] / self.group.world_size
        if not math.isfinite(value):
            raise XrayError(
                f"The loss became {value} in epoch {self.epoch + 1}. Start again with a lower "
                "--learning-rate and another --out."
            )
        return value, totals[1]

    def _set_learning_rate(self, position: float) -> None:
        """Linear warm-up over half an epoch, then a cosine to zero. `position` in epochs."""
        warm = min(1.0, (position + 0.02) / 0.5)
        cosine = 0.5 * (1 + math.cos(math.pi * position / self.options.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * warm * cosine

    @torch.no_grad()
    def _update_average(self) -> None:
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.options.ema_decay)
            else:
                self.average[name].copy_(value)

    def _averaged_network(self) -> ImageClassifier:
        network = build_classifier(self.options.network, len(self.labels))
        network.load_state_dict(self.average)
        return network.to(self.device).eval()

    def _keep(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        is_better = row["validation_loss"] < self.best_loss
        if is_better:
            self.best_loss, self.best_epoch = row["validation_loss"], self.epoch
        if not self.group.is_first:
            return
        if is_better:
            save_checkpoint(self.out / BEST, self.average)
        state: dict[str, object] = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "rows": self.rows,
        }
        save_checkpoint(self.out / CHECKPOINT, state)
        self.log.write(row, self.epoch)


def _epoch_length(train_set: ImageSet) -> int:
    """Images drawn in an epoch: as many as are real, so that synthetic images do not prolong it."""
    return len(real_images(train_set.records))


def to_unit(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, S, S) grey levels -> (B, 1, S, S) float in [0, 1] on the device."""
    return torch.from_numpy(images).to(device)[:, None].float() / 255


@torch.inference_mode()
def infer(
    network: ImageClassifier, images: NDArray[np.uint8], device: torch.device, batch_size: int = 64
) -> NDArray[np.float32]:
    """(N, S, S) grey levels -> (N, classes) logits."""
    network = network.to(memory_format=torch.channels_last)
    parts = [
        network(to_unit(images[start : start + batch_size], device)).float().cpu().numpy()
        for start in range(
            0, max(len(images), 1), batch_size
        )  # one of many processes may have none
    ]
    return np.concatenate(parts)
