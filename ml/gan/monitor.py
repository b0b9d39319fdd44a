"""Watching a GAN while it trains: KID and diversity, sample grids, divergence and collapse."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ml.data.loading import ImageSet
from ml.errors import Collapsed, DataError, Diverged, counted
from ml.gan.evaluation.distances import diversity, pixel_points
from ml.gan.evaluation.features import FeatureSpace
from ml.gan.evaluation.kid import kid
from ml.gan.evaluation.patient_groups import LEAST_IMAGES
from ml.gan.generator_card import GeneratorCard, TrainingMetrics
from ml.gan.sampling import sample_images, sample_sheet
from ml.gan.step import StepMetrics
from ml.options.gan import GanOptions
from ml.training.distributed import ProcessGroup
from ml.training.metrics_log import MetricsLog
from ml.training.run_folder import fingerprint
from ml.version import code_version

SAMPLES = "samples"
MOST_GRIDS = 200
MOST_SAMPLES = 256  # samples behind the KID of one evaluation
# More samples per real image would hardly narrow the KID, and each takes time to embed.
SAMPLES_PER_REAL_IMAGE = 4
# Evaluations use seeds that no one types by hand.
FIRST_EVALUATION_SEED = 1_000_000_000
# Real images whose pairwise distances diversity is compared with.
DIVERSITY_IMAGES = 512
# Evaluations in a row below the minimum diversity that count as a collapse.
COLLAPSED_EVALUATIONS = 3


class GanMonitor:
    """Evaluates the averaged generator against validation images and saves sample grids."""

    def __init__(
        self,
        training: ImageSet,
        validation: ImageSet,
        options: GanOptions,
        *,
        features: FeatureSpace,
        out: Path,
        log: MetricsLog,
    ):
        """Embed the validation images.

        Args:
            training: the images that the GAN learns; the diversity of samples is relative to them.
            validation: the images that KID is measured against.
            options: of the run.
            features: the feature space of KID.
            out: the run's folder.
            log: shows the grids in TensorBoard.

        Raises:
            DataError: there are too few validation images.
        """
        if len(validation) < LEAST_IMAGES:
            raise DataError(
                f"The validation split has {counted(len(validation), 'image')} of "
                f"{options.labels}, and KID "
                f"needs at least {LEAST_IMAGES}. Add images of more patients."
            )
        self._options, self._out, self._log = options, out, log
        self._features, self._training = features, training.records
        self._real_embeddings = features.embed(validation.images)
        self._real_points = pixel_points(
            training.images[:: max(1, len(training) // DIVERSITY_IMAGES)]
        )
        # Shuffled, so that the first ones of a long list have the class mix of the whole.
        order = np.random.default_rng(options.seed).permutation(len(validation))
        self._real_classes = validation.numbers_in(options.label_names)[order]

    def evaluate(self, generator: nn.Module, step: int) -> dict[str, float]:
        """Measure `kid` and `diversity` of a generator, and save its sample grid."""
        self._save_grid(generator, step)
        count = min(MOST_SAMPLES, SAMPLES_PER_REAL_IMAGE * len(self._real_classes))
        classes = np.resize(self._real_classes, count).tolist()
        seeds = range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + count)
        samples = sample_images(generator, seeds, classes, length=self._options.latent)
        distance = kid(self._real_embeddings, self._features.embed(samples), draws=0)
        spread = diversity(pixel_points(samples), self._real_points)
        return {"kid": distance.value, "diversity": spread}

    def generator_card(self, row: Mapping[str, float]) -> GeneratorCard:
        """The card of the generator that an evaluation measured; `row` has its metrics."""
        return GeneratorCard(
            options=self._options,
            step=int(row["step"]),
            images_seen=int(row["images"]),
            images_sha256=fingerprint(self._training),
            images=dict(Counter(record.label for record in self._training)),
            code_version=code_version(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            metrics=TrainingMetrics(kid=row["kid"], features=self._features.title),
        )

    def _save_grid(self, generator: nn.Module, step: int) -> None:
        """Save the samples of seeds 0 to 63; a conditional generator shows its classes in turn."""
        classes = len(self._options.label_names)
        grid = sample_sheet(generator, classes, length=self._options.latent)
        folder = self._out / SAMPLES
        folder.mkdir(exist_ok=True)
        Image.fromarray(grid).save(folder / f"{step:07d}.png")
        grids = sorted(folder.glob("*.png"))
        if len(grids) > MOST_GRIDS:
            # Every second grid is deleted, so the disk space of a run of any length is bounded.
            for path in grids[1:-1:2]:
                path.unlink()
        self._log.images("samples", grid, step)


def require_finite(
    recent: Sequence[Tensor], step: int, out: Path, group: ProcessGroup
) -> dict[str, float]:
    """Stop a run whose losses or gradients are no longer finite numbers.

    Args:
        recent: metrics of the latest steps, (6,) each, in the order of `StepMetrics`.
        step: the run's latest step.
        out: the run's folder, named in the error.
        group: all of its processes stop when one of them finds a problem.

    Returns:
        The means of the metrics by name.

    Raises:
        Diverged: a metric is infinite or not a number.
    """
    sums = dict(
        zip(StepMetrics._fields, torch.stack(list(recent)).sum(dim=0).tolist(), strict=True)
    )
    names = [name for name, total in sums.items() if not math.isfinite(total)]
    if group.agree(bool(names)):
        raise Diverged(
            f"Training diverged by step {step}: {', '.join(names) or 'a metric'} became infinite "
            f"or not a number. The last good state and the best generator are still in {out}. "
            "Start again with a smaller --generator-learning-rate and --critic-learning-rate, or "
            "with float32, and another --out."
        )
    return {name: total / len(recent) for name, total in sums.items()}


def require_diversity(rows: Sequence[Mapping[str, float]], options: GanOptions, out: Path) -> None:
    """Stop a run whose samples have been nearly identical for several evaluations.

    Args:
        rows: metrics of all evaluations, the latest one included.
        options: `min_diversity` is the bound.
        out: the run's folder, named in the error.

    Raises:
        Collapsed: the latest evaluations are all below the bound.
    """
    latest = rows[-COLLAPSED_EVALUATIONS:]
    # A diversity that is not a number counts as low.
    low = [not row["diversity"] >= options.min_diversity for row in latest]
    if len(low) < COLLAPSED_EVALUATIONS or not all(low):
        return
    raise Collapsed(
        f"The generator collapsed: at step {latest[-1]['step']:.0f} its images differ by only "
        f"{latest[-1]['diversity']:.3f} of what real images differ by, and for "
        f"{COLLAPSED_EVALUATIONS} evaluations in a row by less than --min-diversity "
        f"{options.min_diversity:g}. The state before this evaluation and the best generator are "
        f"still in {out}. Start again with another --seed, a smaller learning rate or another "
        "objective, and another --out."
    )
